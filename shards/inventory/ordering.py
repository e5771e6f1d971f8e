"""The first of many things in some order, found in short steps and without keeping the others.

A page needs a hundred of ten thousand, so what cannot be among them is dropped when it is seen. A long list is kept as
sorted runs, which are merged as they are read.
"""

import heapq
from collections.abc import Iterator
from itertools import islice
from typing import Final, Protocol, TypeAlias

from ipc.messages.inventory import Identity, Key

Entry: TypeAlias = tuple[Key, str, Identity]
"""Key, vhost and identity: what `Place` holds."""

_RUN: Final = 256  # entries sorted at once


class Ordering(Protocol):
    def add(self, entry: Entry) -> bool:
        """True when it took a while."""

    def first(self) -> Iterator[Entry]:
        """In order, as many as are wanted; nothing is added after that."""


def ordering(count: int, *, is_descending: bool) -> Ordering:
    """For the first `count` of what is added."""
    return _Few(count, is_descending=is_descending) if count <= _RUN else _Many(count, is_descending=is_descending)


class _Few:
    def __init__(self, count: int, *, is_descending: bool) -> None:
        self._count = count
        self._is_descending = is_descending
        self._entries: list[Entry] = []
        self._last: Entry | None = None  # what comes behind it is not wanted

    def add(self, entry: Entry) -> bool:
        if self._last is not None and (entry < self._last if self._is_descending else entry > self._last):
            return False
        self._entries.append(entry)
        if len(self._entries) < self._count + _RUN:
            return False
        self._cut()
        return True

    def _cut(self) -> None:
        self._entries.sort(reverse=self._is_descending)
        del self._entries[self._count :]
        self._last = self._entries[-1] if self._entries else None

    def first(self) -> Iterator[Entry]:
        self._cut()
        return iter(self._entries)


class _Many:
    def __init__(self, count: int, *, is_descending: bool) -> None:
        self._count = count
        self._is_descending = is_descending
        self._runs: list[list[Entry]] = [[]]

    def add(self, entry: Entry) -> bool:
        run = self._runs[-1]
        run.append(entry)
        if len(run) < _RUN:
            return False
        run.sort(reverse=self._is_descending)
        self._runs.append([])
        return True

    def first(self) -> Iterator[Entry]:
        self._runs[-1].sort(reverse=self._is_descending)
        return islice(heapq.merge(*self._runs, reverse=self._is_descending), self._count)
