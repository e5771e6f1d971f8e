"""The walk over all owners of memory, from a root down: one generator, one bounded step at a time, depth first.

```
root ─► owner: its collections ─► its children … ─► file pages: of all that were offered on the way, the coldest first
```

Whoever drives it decides how many steps fit into a slice; nothing is kept across a step that the steps of others, or
the broker's own work between two slices, could invalidate.

Any line may find no memory. Then one owner's part is dropped, or that of those below it, or one file's, and a `Failed`
says so. The walk itself steps on without asking for memory: iterators of lists and a linked stack need none, while
`list.pop` may move the list.
"""

from collections.abc import Generator, Iterator
from typing import Final, TypeAlias

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

Counted: TypeAlias = tuple[Label, Step]
"""A step, and whom it is counted for."""

_UNTOLD: Final[Counted] = ("", Failed("cascade", "MemoryError"))
"""Said where there is no memory to say what has failed."""


class _Branch:
    """Siblings that are still to be visited, for whom, and where the walk goes on when all of them were."""

    __slots__ = ("above", "label", "left", "siblings")

    def __init__(self, above: "_Branch | None", label: Label, siblings: list[Compactable]) -> None:
        """`siblings`: the last one is visited first."""
        self.above = above
        self.label = label
        self.siblings = siblings
        self.left = reversed(siblings)


def cascade(root: Compactable, level: Level, policy: ShrinkPolicy) -> Generator[Counted, None, None]:
    """Every step of one pass, with the label it is counted for: the topmost non-empty `compaction_label` above it.

    Every owner yields at least once. File pages are given back last, whosever they are: the coldest first, until
    `policy.release_bytes_max` is used up. When the policy is dry nothing is changed, and the steps say what they would
    have freed.
    """
    try:
        coldest = Coldest(policy.release_bytes_max)
        yield from _walk(root, level, policy, coldest)
        yield from _release(coldest, policy)
    except MemoryError:  # before the first owner, or between them and their files
        yield _UNTOLD


def _walk(root: Compactable, level: Level, policy: ShrinkPolicy, coldest: Coldest) -> Iterator[Counted]:
    branch: _Branch | None = _Branch(None, "", [root])
    while branch is not None:
        owner = next(branch.left, None)
        if owner is None:
            branch = branch.above
            continue
        label = branch.label
        try:
            branch.siblings.pop()  # the one at hand, so that it may go when it was visited
            label = label or owner.compaction_label
            for step in owner.shrink(level, policy.within(label)):
                yield label, _taken_in(step, label, coldest, policy)
            yield label, LOOKED
        except (MemoryError, OSError) as fault:
            yield _failed(label, type(owner).__name__, fault)
        try:
            branch = _Branch(branch, label, _children(owner))
        except MemoryError as fault:
            yield _failed(label, type(owner).__name__, fault)


def _taken_in(step: Step, label: Label, coldest: Coldest, policy: ShrinkPolicy) -> Step:
    """What there is to say of a step here and now."""
    if isinstance(step, Cold):
        try:
            coldest.offer(label, step)
        except MemoryError as fault:
            return _failure(SEGMENT_PAGES, fault)
        return LOOKED
    return LOOKED if policy.is_dry and isinstance(step, Offload) else step


def _release(coldest: Coldest, policy: ShrinkPolicy) -> Iterator[Counted]:
    if not coldest:
        return
    try:
        coldest.order()
        yield "", LOOKED
    except MemoryError as fault:
        yield _failed("", SEGMENT_PAGES, fault)
    left = policy.release_bytes_max
    for _used_at, _offered, label, cold in coldest.take():
        try:
            coldest.forget()
            if cold.size_bytes > left:
                continue
            for step in cold.release():
                if isinstance(step, Freed):
                    left -= step.size_bytes
                yield label, LOOKED if policy.is_dry and isinstance(step, Offload) else step
            yield label, LOOKED
        except (MemoryError, OSError) as fault:
            yield _failed(label, SEGMENT_PAGES, fault)


def _children(owner: Compactable) -> list[Compactable]:
    # A copy, because children come and go between two steps; the last one first, as a branch has them.
    children = list(owner.children())
    children.reverse()
    return children


def _failed(label: Label, kind: str, fault: Exception) -> Counted:
    try:
        return label, _failure(kind, fault)
    except MemoryError:
        return _UNTOLD


def _failure(kind: str, fault: Exception) -> Failed:
    return Failed(kind, str(fault) or type(fault).__name__)
