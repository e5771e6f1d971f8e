"""What wants to be looked at later, and when: buckets of some milliseconds, emptied when their time has come."""

from heapq import heappop, heappush
from typing import Final, Generic, Protocol, TypeVar

from shards.compaction.compactable import Compactable

BUCKET_MS: Final = 100


class Timed(Protocol):
    """Something with one appointment at most, which it takes along."""

    appointment: int
    """The number of its bucket; 0: none."""


Item = TypeVar("Item", bound=Timed)


class Agenda(Compactable, Generic[Item]):
    """Appointments are kept a bucket too late at most, and never early."""

    __slots__ = ("_bucket_ms", "_buckets", "_order")
    NESTED = ("_buckets",)
    KIND = "timers"

    def __init__(self, bucket_ms: int = BUCKET_MS) -> None:
        self._bucket_ms = bucket_ms
        self._buckets: dict[int, dict[Item, None]] = {}
        self._order: list[
            int
        ] = []  # a heap of bucket numbers, some of buckets that are gone; lists shrink by themselves

    @property
    def next_due(self) -> int:
        """When to look next, in broker time; 0: never."""
        if not self._order:
            return 0
        while self._order and self._order[0] not in self._buckets:
            heappop(self._order)
        return self._order[0] * self._bucket_ms if self._order else 0

    def set(self, item: Item, due: int) -> None:
        """Look at `item` at `due` instead of when it was due before; 0: never."""
        number = -(-due // self._bucket_ms)
        if number == item.appointment:
            return
        self.clear(item)
        if due:
            item.appointment = number
            bucket = self._buckets.get(number)
            if bucket is None:
                bucket = self._buckets[number] = {}
                heappush(self._order, number)
            bucket[item] = None

    def clear(self, item: Item) -> None:
        bucket = self._buckets.get(item.appointment)
        if bucket is not None:
            bucket.pop(item, None)
            if not bucket:
                del self._buckets[item.appointment]
        item.appointment = 0

    def take_due(self, now: int) -> list[Item]:
        """Everything that was to be looked at by now; it has no appointment any more."""
        if not self._order:
            return []
        due: list[Item] = []
        while 0 < self.next_due <= now:
            due += self._buckets.pop(heappop(self._order))
        for item in due:
            item.appointment = 0
        return due
