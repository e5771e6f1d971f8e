"""The coldest of all pages that owners offer in one pass, as many as its budget has room for.

Owners are met in no order that says anything about their pages, so nothing is given back before all were seen. What is
kept until then is bounded: whatever would get nothing of the budget is forgotten as soon as colder things fill it.
"""

from collections.abc import Iterator
from heapq import heappop, heappush
from typing import TypeAlias

from ipc.limits import COLD_OFFERS_MAX, COLLECTIONS_PER_STEP
from shards.compaction.steps import Cold

Label: TypeAlias = str
"""Whom something is counted for, such as a vhost's name."""
_Entry: TypeAlias = tuple[int, int, Label, Cold]


class Coldest:
    """A heap with the warmest on top; of equally cold ones that is the one offered last."""

    __slots__ = ("_bytes", "_bytes_max", "_heap", "_offered")

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._heap: list[_Entry] = []
        self._offered = 0

    def offer(self, label: Label, cold: Cold) -> None:
        """Keep it as long as colder ones leave it room. Where there is no memory to keep anything, it is passed by."""
        if not 0 < cold.size_bytes <= self._bytes_max:
            return
        self._offered += 1
        try:
            heappush(self._heap, (-cold.used_at, -self._offered, label, cold))
        except MemoryError:
            return
        self._bytes += cold.size_bytes
        while len(self._heap) > COLD_OFFERS_MAX or self._bytes - self._warmest_bytes() >= self._bytes_max:
            self._bytes -= heappop(self._heap)[-1].size_bytes

    def _warmest_bytes(self) -> int:
        return self._heap[0][-1].size_bytes

    def take(self) -> Iterator[tuple[Label, Cold] | None]:
        """The coldest first, each forgotten when it is taken; before that None a few times, because order takes time.

        Nothing more is to be offered.
        """
        order: list[tuple[Label, Cold]] = []
        while self._heap:
            _used_at, _offered, label, cold = heappop(self._heap)
            order.append((label, cold))
            if len(order) % COLLECTIONS_PER_STEP == 0:
                yield None
        while order:
            yield order.pop()
