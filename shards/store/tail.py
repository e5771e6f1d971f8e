"""What was appended to a store and is not written: the block that its next flush writes.

```
base                                                     end
  │ settled │ settled │ record │ settled │ record │ record │  ◄─ append
  └────── the journal has been told of these ─────┘
```
Records that are settled at its beginning are dropped, and positions go on: what is settled in time is never written.
"""

import sys
from array import array
from collections.abc import Iterable
from struct import Struct

from ipc.limits import SEGMENT_OFFSET_MAX, TAIL_BYTES_MAX
from shards.compaction.compactable import Compactable
from shards.store.ack_log import Settled
from shards.store.columns import add_offsets, settled_front
from shards.store.position import OFFSET_MASK

_record_bytes = Struct("<I").unpack_from


class Tail(Compactable):
    """See the module. The record at index i of `records` has the position `base + i`."""

    __slots__ = (
        "base",
        "bytes_max",
        "count",
        "is_part",
        "must_note",
        "noted",
        "records",
        "settled",
        "settled_count",
        "told_early",
    )
    KIND = "unwritten messages"

    def __init__(self, base: int, room_bytes: int) -> None:
        self.records = bytearray()
        self.is_part = False  # some of it is part of what is to be written by the journal as a whole
        self.begin(base, room_bytes)

    def begin(self, base: int, room_bytes: int) -> None:
        """Empty from now on; the next record has this position, and the segment it belongs to so much room."""
        self.base = base
        self.records.clear()
        self.count = 0
        self.settled: Settled | None = None
        self.settled_count = 0
        self.noted = 0  # how much of it the journal has
        self.must_note = False  # something persistent came behind that
        self.told_early = False  # the journal may know of settled records behind that
        # Before it is written early or belongs into another segment; may be negative.
        self.bytes_max = min(TAIL_BYTES_MAX, SEGMENT_OFFSET_MAX - (base & OFFSET_MASK), room_bytes)

    def drop(self) -> None:
        """All of it is gone; whoever looks at a record still keeps what it looks at."""
        self.records = bytearray()
        self.count = 0

    # what comes -------------------------------------------------------------------------------------------------------

    def has_room(self, record_bytes: int) -> bool:
        return len(self.records) + record_bytes <= self.bytes_max

    def make_room(self, record_bytes: int) -> bool:
        """Grow beyond what is written early, where some of it is part of a whole; whether that is enough."""
        limit = self.bytes_limit
        if not self.is_part or len(self.records) + record_bytes > limit:
            return False
        self.bytes_max = min(len(self.records) + max(record_bytes, TAIL_BYTES_MAX), limit)
        return True

    @property
    def bytes_limit(self) -> int:
        """Bytes of it that have a position, in a segment that may become too large."""
        return SEGMENT_OFFSET_MAX - (self.base & OFFSET_MASK)

    # what is settled --------------------------------------------------------------------------------------------------

    def touch(self) -> Settled:
        """Where it is noted what becomes of records."""
        settled = self.settled
        if settled is None:
            settled = self.settled = Settled()
        return settled

    def settle(self, position: int) -> None:
        self.settled_count += 1
        (self.settled or self.touch()).offsets.append(position & OFFSET_MASK)

    def settle_many(self, positions: "array[int]", index: int) -> int:
        """Those from `index` on that are here; the index of the first one that is not."""
        offsets = (self.settled or self.touch()).offsets
        end = add_offsets(positions, index, self.base, (self.base | OFFSET_MASK) + 1, offsets)
        self.settled_count += end - index
        return end

    def settle_run(self, first: int, last: int, count: int) -> None:
        """All `count` records from the one at `first` to the one at `last`."""
        self.settled_count += count
        (self.settled or self.touch()).add_range(first & OFFSET_MASK, (last & OFFSET_MASK) + 1)

    def settle_up_to(self, last: int) -> int:
        """All records up to the one at `last`; how many they are."""
        index = count = 0
        stop = last - self.base
        while index <= stop:
            index += _record_bytes(self.records, index)[0]
            count += 1
        self.settle_run(self.base, last, count)
        return count

    def settle_from(self, first: int, count: int) -> None:
        """The last `count` records, of which the first stands at `first`, or at the beginning if that is before it."""
        self.settled_count += count
        base = self.base & OFFSET_MASK
        self.touch().add_range(max(first, self.base) & OFFSET_MASK, base + len(self.records))

    def drop_settled_front(self, room_bytes: int) -> bool:
        """Forget the records at its beginning that are settled: they need never be written; whether there were any."""
        settled = self.settled
        if settled is None:
            return False
        base = self.base & OFFSET_MASK
        end, count = settled_front(self.records, base, array("I", sorted(settled.offsets)), settled.sorted_ranges())
        if not count:
            return False
        del self.records[:end]
        self.base += end
        self.count -= count
        self.settled_count -= count
        settled.forget_before(base + end, is_noted=self.noted > 0)
        self.noted = max(0, self.noted - end)
        self.bytes_max = max(len(self.records), min(TAIL_BYTES_MAX, self.bytes_limit, room_bytes))
        return True

    # what the journal has of it ---------------------------------------------------------------------------------------

    def set_noted(self) -> None:
        """The journal has all of it."""
        self.noted = len(self.records)
        self.must_note = False
        if self.told_early and self.settled is not None:
            self.settled.note_again()
        self.told_early = False

    def tell_settled(self) -> Settled | None:
        """What the journal is about to be told of it; None when it has no record of it.

        The file with the settlement of a record may be used again before the one that gets the record.
        """
        if self.settled is None or not self.noted:
            return None
        self.told_early = self.told_early or self.noted < len(self.records)
        return self.settled

    # giving memory back -----------------------------------------------------------------------------------------------

    def children(self) -> Iterable[Compactable]:
        return () if self.settled is None else (self.settled,)

    def holdings(self) -> Iterable[tuple[str, int]]:
        return ((self.KIND, sys.getsizeof(self.records)),)
