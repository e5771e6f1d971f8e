"""Buckets for jump consistent hashing: as many for each binding as its weight, and a value goes to one of them.

```
a a b b b c            jump(hash, 6) → 3: b
c b b b                after a is gone: the last buckets fill the holes, `jump(hash, 4)`
```
One more bucket at the end takes its share from all others and moves nothing else. A binding that goes gives up its own
share, and what was in as many buckets at the end. The order follows from what came and went; after a restart it is that
of the bindings' creation.
"""

from array import array
from collections.abc import Iterable
from typing import ClassVar

from ipc.limits import HASH_BUCKETS_MAX
from shards.compaction.compactable import Compactable
from shards.model.bindings import Binding
from shards.model.exchanges.hash_owners import Owners
from shards.model.exchanges.hashing import jump


class HashBuckets(Compactable):
    """Four bytes a bucket, which say whose it is."""

    __slots__ = ("_buckets", "_owners")
    COLLECTIONS = ("_buckets",)
    KIND = "bindings"
    weight_max: ClassVar[int] = HASH_BUCKETS_MAX

    def __init__(self) -> None:
        self._owners = Owners()
        self._buckets = array("I")

    def children(self) -> Iterable[Compactable]:
        return (self._owners,)

    def add(self, binding: Binding, place: bytes, weight: int) -> None:
        self._buckets.extend(array("I", (self._owners.add(binding),)) * weight)

    def remove(self, binding: Binding) -> None:
        number = self._owners.remove(binding)
        buckets = self._buckets
        kept = len(buckets) - buckets.count(number)
        hole = -1
        for owner in buckets[kept:]:
            if owner != number:
                hole = buckets.index(number, hole + 1)
                buckets[hole] = owner
        del buckets[kept:]
        self._owners.release((number,))

    def find(self, key: int) -> Binding | None:
        return self._owners[self._buckets[jump(key, len(self._buckets))]] if self._buckets else None
