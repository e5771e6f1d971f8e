"""What memory is used for: a walk over the owners that a pass shrinks, which counts what they hold instead.

```
Shard ─ VHosts ─ VHost "/" ─┬─ exchanges, policies, …        by kind, for the vhost
                            ├─ Queue "jobs" ─ store ─ …      by kind, for the queue and for the vhost
                            └─ Connection ─ channels ─ …     by kind, for the connection and for the vhost
```
Bytes are those of the objects an owner declares and of itself, as `sys.getsizeof` gives them, and what it says it holds
beside them. What entries refer to (names, small objects, the allocator's own losses) is not looked at, except where an
owner estimates it: so an account is what is *known*, always less than what the process occupies.

Owners are looked at one a step, as in a pass, and the broker works on between two steps: the sum is of no one moment.
Cost, measured on CPython 3.11 with 5,000 queues and 1,000 connections: see `docs/measurements.md`.
"""

import sys
from collections.abc import Iterator
from heapq import heappush, heappushpop
from typing import Any, Final, NamedTuple, TypeAlias

from ipc.limits import COLLECTIONS_PER_STEP
from ipc.messages.reports import SORTS, Holding, Sort
from shards.compaction.compactable import Compactable
from shards.compaction.shrink import RULES

Tally: TypeAlias = dict[str, int]
"""Bytes by kind."""


class _Meter(NamedTuple):
    """How owners of one class are counted: read off their declarations once an account."""

    kind: str
    own_bytes: int
    flat: tuple[tuple[str, str], ...]  # attribute and kind
    nested: tuple[tuple[str, str], ...]
    sort: Sort | None
    holds_more: bool

    @classmethod
    def of(cls, owner: Compactable) -> "_Meter":
        owners = type(owner)
        kind = owners.KIND or owners.__name__.lower()
        kinds = owners._declared_kinds
        flat = (*owners._declared_collections, *owners._declared_caches)
        return cls(
            kind,
            sys.getsizeof(owner),
            tuple((name, kinds.get(name, kind)) for name in flat),
            tuple((name, kinds.get(name, kind)) for name in owners._declared_nested),
            owners.SORT,
            owners.holdings is not Compactable.holdings,
        )


class _Branch(NamedTuple):
    """Owners still to be counted, for whom, and who is named when all of them are."""

    label: str
    tally: Tally
    owners: list[Compactable]
    named: tuple[Sort, str] | None
    above: Tally


class Account:
    """What one walk adds up; complete when `take` is exhausted."""

    def __init__(self, *, top: int, vhost: str | None = None) -> None:
        """`top`: how many of each sort are named; `vhost`: count nothing but what is for this one."""
        self.by_kind: Tally = {}
        self.owners = 0
        self.counts: dict[Sort, int] = dict.fromkeys(SORTS, 0)
        self._vhost = vhost
        self._largest = {sort: _Largest(top) for sort in SORTS}
        self._meters: dict[type, _Meter] = {}

    def largest(self, sort: Sort) -> list[Holding]:
        """Those who hold most, most first."""
        return self._largest[sort].holdings()

    def take(self, root: Compactable) -> Iterator[None]:
        """Count everything from `root` down, in steps well below a millisecond."""
        unlabelled: Tally = self.by_kind if self._vhost is None else {}
        branches = [_Branch("", unlabelled, [root], None, unlabelled)]
        while branches:
            branch = branches[-1]
            if not branch.owners:
                branches.pop()
                self._close(branch)
                continue
            owner = branch.owners.pop()
            label = branch.label or owner.compaction_label
            if label and self._vhost is not None and label != self._vhost:
                yield
                continue
            meter = self._meters.get(type(owner))
            if meter is None:
                meter = self._meters[type(owner)] = _Meter.of(owner)
            tally: Tally = branch.tally if meter.sort is None else {}
            self._count(owner, meter, tally)
            for name, kind in meter.nested:
                yield from _count_nested(getattr(owner, name, None), kind, tally)
            # A copy, because children come and go between two steps.
            children = list(owner.children())
            if meter.sort is not None:
                named = (meter.sort, str(getattr(owner, "name", "")))
                above = branch.tally if branch.label else self.by_kind
                branches.append(_Branch(label, tally, children, named, above))
            elif children:
                branches.append(_Branch(label, tally, children, None, tally))
            yield

    def _count(self, owner: Compactable, meter: _Meter, tally: Tally) -> None:
        self.owners += 1
        tally[meter.kind] = tally.get(meter.kind, 0) + meter.own_bytes
        for name, kind in meter.flat:
            held = getattr(owner, name, None)
            if held is not None:
                tally[kind] = tally.get(kind, 0) + sys.getsizeof(held)
        if meter.holds_more:
            for kind, size_bytes in owner.holdings():
                tally[kind] = tally.get(kind, 0) + size_bytes

    def _close(self, branch: _Branch) -> None:
        """All below somebody who is named has been counted."""
        if branch.named is None:
            return
        sort, name = branch.named
        self.counts[sort] += 1
        self._largest[sort].offer(branch.label, name, branch.tally)
        for kind, size_bytes in branch.tally.items():
            branch.above[kind] = branch.above.get(kind, 0) + size_bytes


def _count_nested(outer: Any, kind: str, tally: Tally) -> Iterator[None]:
    """The dictionary and every collection among its values, to any depth."""
    pending = [outer]
    counted = 0
    while pending:
        found = pending.pop()
        if type(found) in RULES:
            tally[kind] = tally.get(kind, 0) + sys.getsizeof(found)
        if isinstance(found, dict):
            pending.extend(found.values())
        counted += 1
        if counted % COLLECTIONS_PER_STEP == 0:
            yield


class _Largest:
    """The `count` largest of what is offered, without keeping the rest."""

    def __init__(self, count: int) -> None:
        self._count: Final = count
        self._offered = 0
        self._heap: list[tuple[int, int, Holding]] = []  # the number makes equal sizes comparable, earlier ones win

    def offer(self, vhost: str, name: str, tally: Tally) -> None:
        size_bytes = sum(tally.values())
        self._offered += 1
        if len(self._heap) < self._count:
            heappush(self._heap, (size_bytes, -self._offered, Holding(vhost, name, size_bytes, tally)))
        elif self._heap and size_bytes > self._heap[0][0]:
            heappushpop(self._heap, (size_bytes, -self._offered, Holding(vhost, name, size_bytes, tally)))

    def holdings(self) -> list[Holding]:
        return [holding for _size, _number, holding in sorted(self._heap, reverse=True)]
