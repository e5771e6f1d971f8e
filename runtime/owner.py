"""Owners of memory in the supervisor: they name their growing collections, so that a pass can rebuild them.

The supervisor holds thousands of entries where a shard holds millions, so a copy is made to see whether it is smaller,
instead of foretelling its size; and all of its owners are few enough to be listed at once.
"""

import sys
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Final, NamedTuple

from ipc.messages.commands import Level

_COPIES: Final[Mapping[type, Callable[[Any], Any]]] = MappingProxyType(
    {dict: dict, OrderedDict: OrderedDict, set: set, deque: lambda old: deque(old, old.maxlen)}
)


class Owner:
    """Base of whoever holds such collections; others never keep a reference to one of them while they wait."""

    COLLECTIONS: ClassVar[tuple[str, ...]] = ()
    """Attributes that hold a growing dict, set, OrderedDict or deque."""

    def owned(self) -> "Iterable[Owner]":
        """The owners below this one, at this moment."""
        return ()

    def shed(self, level: Level) -> int:
        """Let go of what is worth less than memory at this level; how many bytes that were."""
        return 0


class Rebuilt(NamedTuple):
    """One collection was looked at: `size_bytes` came back, which may be none; `failed`: there was no memory for it."""

    kind: str
    size_bytes: int
    failed: bool = False


def rebuild(root: Owner, *, ratio: float, floor_bytes: int, level: Level = Level.TRIM) -> Iterator[Rebuilt]:
    """A step for every collection of `root` and all below it; each takes the old one's place in one assignment.

    Before that, owners let go of what they hold for convenience.
    """
    pending = [root]
    while pending:
        owner = pending.pop()
        if size_bytes := owner.shed(level):
            yield Rebuilt(type(owner).__name__, size_bytes)
        for name in owner.COLLECTIONS:
            yield _rebuild_one(owner, name, ratio, floor_bytes)
        pending.extend(owner.owned())


def _rebuild_one(owner: Owner, name: str, ratio: float, floor_bytes: int) -> Rebuilt:
    old = getattr(owner, name)
    kind = type(old).__name__
    try:
        fresh = _COPIES[type(old)](old)
    except MemoryError:
        return Rebuilt(kind, 0, failed=True)
    before, after = sys.getsizeof(old), sys.getsizeof(fresh)
    if before <= ratio * after + floor_bytes:
        return Rebuilt(kind, 0)
    setattr(owner, name, fresh)
    return Rebuilt(kind, before - after)
