"""The walk over all owners of memory, from a root down: one generator, one bounded step at a time, depth first.

Whoever drives it decides how many steps fit into a slice; nothing is kept across a step that the steps of others, or
the broker's own work between two slices, could invalidate.
"""

from collections.abc import Generator, Iterator

from msgspec import structs

from ipc.messages.commands import Level
from shards.compaction.compactable import (
    LOOKED,
    SEGMENT_PAGES,
    Compactable,
    Failed,
    Freed,
    Offload,
    ShrinkPolicy,
    Step,
)

Label = str


def cascade(root: Compactable, level: Level, policy: ShrinkPolicy) -> Generator[tuple[Label, Step], None, None]:
    """Every step of one pass, with the label it is counted for: the topmost non-empty `compaction_label` above it.

    Every owner yields at least once. File pages that owners release are taken off `policy.release_bytes_max` for those
    that come after them. When the policy is dry nothing is changed, and the steps say what they would have freed.
    """
    branches: list[tuple[Label, list[Compactable]]] = [("", [root])]
    while branches:
        above, siblings = branches[-1]
        if not siblings:
            branches.pop()
            continue
        owner = siblings.pop()
        label = above or owner.compaction_label
        for step in _shrink(owner, level, policy.within(label)):
            if isinstance(step, Freed) and step.kind == SEGMENT_PAGES:
                policy = _less(policy, step.size_bytes)
            if policy.is_dry and isinstance(step, Offload):
                step = LOOKED
            yield label, step
        try:
            branches.append((label, _children(owner)))
        except MemoryError as fault:
            yield label, _failed(owner, fault)


def _shrink(owner: Compactable, level: Level, policy: ShrinkPolicy) -> Iterator[Step]:
    try:
        yield from owner.shrink(level, policy)
    except (MemoryError, OSError) as fault:
        yield _failed(owner, fault)
    yield LOOKED


def _children(owner: Compactable) -> list[Compactable]:
    # A copy, because children come and go between two steps; taken from its end, so that who was visited may go.
    children = list(owner.children())
    children.reverse()
    return children


def _failed(owner: Compactable, fault: Exception) -> Failed:
    return Failed(type(owner).__name__, str(fault) or type(fault).__name__)


def _less(policy: ShrinkPolicy, released_bytes: int) -> ShrinkPolicy:
    left = max(0, policy.release_bytes_max - released_bytes)
    return structs.replace(policy, release_bytes_max=left)
