"""The walk over all owners of memory, from a root down: one generator, one bounded step at a time, depth first.

```
root ─► owner: its collections ─► its children … ─► file pages: of all that were offered on the way, the coldest first
```

Whoever drives it decides how many steps fit into a slice; nothing is kept across a step that the steps of others, or
the broker's own work between two slices, could invalidate.
"""

from collections.abc import Generator, Iterator

from ipc.messages.commands import Level
from shards.compaction.coldest import Coldest, Label
from shards.compaction.compactable import (
    LOOKED,
    SEGMENT_PAGES,
    Cold,
    Compactable,
    Failed,
    Freed,
    Offload,
    ShrinkPolicy,
    Step,
)


def cascade(root: Compactable, level: Level, policy: ShrinkPolicy) -> Generator[tuple[Label, Step], None, None]:
    """Every step of one pass, with the label it is counted for: the topmost non-empty `compaction_label` above it.

    Every owner yields at least once. File pages are given back last, whosever they are: the coldest first, until
    `policy.release_bytes_max` is used up. When the policy is dry nothing is changed, and the steps say what they would
    have freed.
    """
    coldest = Coldest(policy.release_bytes_max)
    branches: list[tuple[Label, list[Compactable]]] = [("", [root])]
    while branches:
        above, siblings = branches[-1]
        if not siblings:
            branches.pop()
            continue
        owner = siblings.pop()
        label = above or owner.compaction_label
        for step in _shrink(owner, level, policy.within(label)):
            if isinstance(step, Cold):
                coldest.offer(label, step)
                step = LOOKED
            elif policy.is_dry and isinstance(step, Offload):
                step = LOOKED
            yield label, step
        try:
            branches.append((label, _children(owner)))
        except MemoryError as fault:
            yield label, _failed(type(owner).__name__, fault)
    yield from _release(coldest, policy)


def _shrink(owner: Compactable, level: Level, policy: ShrinkPolicy) -> Iterator[Step]:
    try:
        yield from owner.shrink(level, policy)
    except (MemoryError, OSError) as fault:
        yield _failed(type(owner).__name__, fault)
    yield LOOKED


def _release(coldest: Coldest, policy: ShrinkPolicy) -> Iterator[tuple[Label, Step]]:
    left = policy.release_bytes_max
    for taken in coldest.take():
        if taken is None:
            yield "", LOOKED
            continue
        label, cold = taken
        if cold.size_bytes > left:
            continue
        for step in _give_back(cold):
            if isinstance(step, Freed):
                left -= step.size_bytes
            elif policy.is_dry and isinstance(step, Offload):
                step = LOOKED
            yield label, step


def _give_back(cold: Cold) -> Iterator[Step]:
    try:
        yield from cold.release()
    except (MemoryError, OSError) as fault:
        yield _failed(SEGMENT_PAGES, fault)
    yield LOOKED


def _children(owner: Compactable) -> list[Compactable]:
    # A copy, because children come and go between two steps; taken from its end, so that who was visited may go.
    children = list(owner.children())
    children.reverse()
    return children


def _failed(kind: str, fault: Exception) -> Failed:
    return Failed(kind, str(fault) or type(fault).__name__)
