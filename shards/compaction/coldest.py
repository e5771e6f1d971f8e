"""The coldest of all pages that owners offer in one pass, as many as its budget has room for.

Owners are met in no order that says anything about their pages, so nothing is given back before all were seen. What is
kept until then is bounded: whatever would get nothing of the budget is forgotten as soon as colder things fill it.
"""

from collections.abc import Iterator
from heapq import heappop, heappush
from typing import TypeAlias

from ipc.limits import COLD_OFFERS_MAX
from shards.compaction.steps import Cold

Label: TypeAlias = str
"""Whom something is counted for, such as a vhost's name."""
Offer: TypeAlias = tuple[int, int, Label, Cold]
"""Who is warmer comes first: the moment it was used at, negated, then the number of the offer, negated."""


class Coldest:
    """A heap with the warmest on top; of equally cold ones that is the one offered last."""

    __slots__ = ("_bytes", "_bytes_max", "_heap", "_offered")

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._heap: list[Offer] = []
        self._offered = 0

    def __len__(self) -> int:
        return len(self._heap)

    def offer(self, label: Label, cold: Cold) -> None:
        """Keep it as long as colder ones leave it room. Raises MemoryError: it is not kept, or one too many is."""
        if not 0 < cold.size_bytes <= self._bytes_max:
            return
        self._offered += 1
        size_bytes = self._bytes + cold.size_bytes  # before it is kept, so that the sum is right whatever fails
        heappush(self._heap, (-cold.used_at, -self._offered, label, cold))
        self._bytes = size_bytes
        while len(self._heap) > COLD_OFFERS_MAX or self._bytes - self._warmest_bytes() >= self._bytes_max:
            size_bytes = self._bytes - self._warmest_bytes()
            heappop(self._heap)
            self._bytes = size_bytes

    def _warmest_bytes(self) -> int:
        return self._heap[0][-1].size_bytes

    def order(self) -> None:
        """When nothing more is offered, before `take`; 0.4 ms. Raises MemoryError: the order is another then."""
        self._heap.sort()

    def take(self) -> Iterator[Offer]:
        """The coldest first; to step on needs no memory."""
        return reversed(self._heap)

    def forget(self) -> None:
        """Let go of the one that was taken last. Raises MemoryError."""
        self._heap.pop()
