"""Owners of memory in the supervisor and behind the HTTP API: they name their growing collections for passes.

Such a process holds thousands of entries where a shard holds millions, so a copy is made to see whether it is smaller,
instead of foretelling its size; and all of its owners are few enough to be listed at once.
"""

import sys
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Final, NamedTuple

from ipc.messages.commands import Level
from ipc.settings import CompactionSettings, ShrinkSettings

_COPIES: Final[Mapping[type, Callable[[Any], Any]]] = MappingProxyType(
    {dict: dict, OrderedDict: OrderedDict, set: set, deque: lambda old: deque(old, old.maxlen)}
)
_AS_ELSEWHERE: Final = ShrinkSettings()


class Owner:
    """Base of whoever holds such collections; others never keep a reference to one of them while they wait."""

    COLLECTIONS: ClassVar[tuple[str, ...]] = ()
    """Attributes that hold a growing dict, set, OrderedDict or deque."""
    CACHES: ClassVar[tuple[str, ...]] = ()
    """The same where it costs only time to fill it again: emptied at CRITICAL."""

    def owned(self) -> "Iterable[Owner]":
        """The owners below this one, at this moment."""
        return ()

    def shed(self, how: "Rebuilding") -> int:
        """Let go of what is worth less than memory, before collections are looked at; how many bytes that were."""
        return 0

    def release(self) -> None:
        """From RELEASE on: give back what is held beside collections. Called in a thread, which waits for nothing."""


class Rebuilt(NamedTuple):
    """One collection was looked at: `size_bytes` came back, which may be none; `failed`: there was no memory for it."""

    kind: str
    size_bytes: int
    failed: bool = False


class Rebuilding(NamedTuple):
    """What is worth it in one pass."""

    settings: CompactionSettings = CompactionSettings()
    level: Level = Level.TRIM
    now: float = 0.0  # by trio's clock
    resting: Collection[str] = frozenset()  # kinds that are passed by
    is_dry: bool = False  # everything is copied and measured, and nothing is changed

    def is_worth(self, kind: str, size_bytes: int, fresh_bytes: int) -> bool:
        said = self.settings.kinds.get(kind, _AS_ELSEWHERE)  # type: ignore[call-overload]  # any name may be asked for
        ratio = self.settings.ratio if said.ratio is None else said.ratio
        floor_bytes = self.settings.floor_bytes if said.floor_bytes is None else said.floor_bytes
        return bool(size_bytes > ratio * fresh_bytes + floor_bytes)


TRIM: Final = Rebuilding()
"""A pass of the lowest level, by settings that nobody has changed."""


def owners(root: Owner) -> list[Owner]:
    """All from `root` down."""
    found = [root]
    for owner in found:
        found.extend(owner.owned())
    return found


def rebuild(root: Owner, how: Rebuilding = TRIM) -> Iterator[Rebuilt]:
    """A step for every collection of `root` and all below it; each takes the old one's place in one assignment.

    Before that, owners let go of what they hold for convenience.
    """
    for owner in owners(root):
        if size_bytes := owner.shed(how):
            yield Rebuilt(type(owner).__name__, size_bytes)
        for name in owner.COLLECTIONS:
            yield _smaller(owner, name, how, _fresh)
        for name in owner.CACHES:
            yield _smaller(owner, name, how, _empty if how.level >= Level.CRITICAL else _fresh)


def _smaller(owner: Owner, name: str, how: Rebuilding, make: Callable[[Any], Any]) -> Rebuilt:
    kind = type(getattr(owner, name)).__name__
    try:
        return _replaced(owner, name, how, make)
    except MemoryError:
        return Rebuilt(kind, 0, failed=True)


def _replaced(owner: Owner, name: str, how: Rebuilding, make: Callable[[Any], Any]) -> Rebuilt:
    old = getattr(owner, name)
    kind = "cache" if make is _empty else type(old).__name__
    if kind in how.resting:
        return Rebuilt(kind, 0)
    fresh = make(old)
    before, after = sys.getsizeof(old), sys.getsizeof(fresh)
    if make is not _empty and not how.is_worth(kind, before, after):
        return Rebuilt(kind, 0)
    if not how.is_dry:
        setattr(owner, name, fresh)
    return Rebuilt(kind, before - after)


def _fresh(old: Any) -> Any:
    return _COPIES[type(old)](old)


def _empty(old: Any) -> Any:
    return type(old)()
