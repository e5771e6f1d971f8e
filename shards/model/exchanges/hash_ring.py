"""The ring of consistent hashing: every binding owns points on a circle of numbers, and a value goes to the next point.

```
─ a ── b ─ a ─────── c ── b ─ …         points, sorted
         ▲ a message's hash: it goes to a
```
The points of a binding follow from its destination and its weight alone. So the ring is the same whatever order the
bindings came in, and after a restart; and who comes or goes takes or leaves its own share, and moves nothing else.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterable
from itertools import chain
from typing import ClassVar, Final

from ipc.limits import HASH_RING_POINTS_PER_WEIGHT, HASH_RING_WEIGHT_MAX
from shards.compaction.compactable import Compactable
from shards.model.bindings import Binding
from shards.model.exchanges.hash_owners import Owners
from shards.model.exchanges.hashing import HASH_BITS, numbers

# A point is one number: where it is in the upper bits, and whose it is in the lower ones.
_OWNER_BITS: Final = (HASH_RING_POINTS_PER_WEIGHT * HASH_RING_WEIGHT_MAX).bit_length()
_OWNER: Final = (1 << _OWNER_BITS) - 1
_PLACE: Final = (1 << HASH_BITS) - 1 - _OWNER


class HashRing(Compactable):
    """Points are put in order when somebody looks for one, or when there are as many changes as points."""

    __slots__ = ("_gone", "_new", "_owners", "_points")
    COLLECTIONS = ("_gone", "_points")
    KIND = "bindings"
    weight_max: ClassVar[int] = HASH_RING_WEIGHT_MAX

    def __init__(self) -> None:
        self._owners = Owners()
        self._points = array("Q")
        self._new: list[int] = []  # points that are not in order yet
        self._gone: set[int] = set()  # owners whose points are still there

    def children(self) -> Iterable[Compactable]:
        return (self._owners,)

    def add(self, binding: Binding, place: bytes, weight: int) -> None:
        number = self._owners.add(binding)
        self._new.extend(point & _PLACE | number for point in numbers(place, weight * HASH_RING_POINTS_PER_WEIGHT))
        self._changed()

    def remove(self, binding: Binding) -> None:
        self._gone.add(self._owners.remove(binding))
        self._changed()

    def find(self, key: int) -> Binding | None:
        if not self._owners:
            return None
        if self._new or self._gone:
            self._settle()
        points = self._points
        index = bisect_left(points, key & _PLACE)
        return self._owners[points[index if index < len(points) else 0] & _OWNER]

    def _changed(self) -> None:
        # Without this, bindings that come and go while nothing is published would pile up points.
        if len(self._new) + len(self._gone) * HASH_RING_POINTS_PER_WEIGHT > len(self._points):
            self._settle()

    def _settle(self) -> None:
        gone = self._gone
        points = chain(self._points, self._new)
        self._points = array("Q", sorted(point for point in points if point & _OWNER not in gone))
        self._new = []
        self._gone = set()
        self._owners.release(gone)
