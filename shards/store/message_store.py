"""The messages of one queue: appended to an unwritten tail, flushed as blocks, walked by a read position, then settled.

```
   settled          unacknowledged, ready          ready                 ready
 ┌───────────┐   ┌──────────────────────────┐   ┌─────────────────┐   ┌───────────────┐
 │ unlinked  │   │ segment, sealed          │   │ active segment  │   │ unwritten tail│ ◄─ append
 └───────────┘   └──────────────┬───────────┘   └─────────────────┘   └───────────────┘
                          read position ─►                              one block at the next flush
```

A position is `segment number << 32 | offset in its file`, given at append, and holds from the tail through the file to
the end of the message: the tail is merely a block that is not written yet. The upper eight bits of a number are the
priority in a priority queue (`priority_store.py`) and else 0. No message is an object here: a ready one is
bytes behind the read position, a settled one a number on its way to the ack log. Nothing is ever appended to a segment
that was recovered, so no position is used twice while an old ack log could speak of it.

Hot module. Interpreted on CPython 3.11 with 57-byte records in turns of 1000: `append` 0.23 µs; a turn's flush 42 µs,
its spans, `advance` and `settle_run` 9 µs, its ack log 10 µs, so 0.3 µs a message in all; `settle` one by one 0.21 µs,
`settle_many` 0.13, `requeue` 1.4. A message that is written, read, settled and logged alone in its turn costs 11 µs.
"""

import errno
import os
import sys
from array import array
from bisect import insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from mmap import mmap
from struct import Struct
from typing import ClassVar, Final, Self

from ipc.limits import (
    COLLECTIONS_PER_STEP,
    RUN_BYTES_MIN,
    SEGMENT_OFFSET_MAX,
    TAIL_BYTES_KEPT_MAX,
    TAIL_BYTES_MAX,
    WRITE_BACK_MS,
)
from ipc.messages.commands import Level
from ipc.settings import StoreSettings
from shards.compaction.compactable import (
    LOOKED,
    SEGMENT_PAGES,
    Cold,
    Compactable,
    Failed,
    Freed,
    Offload,
    ShrinkPolicy,
    Step,
)
from shards.store.ack_log import Settled
from shards.store.blocks import (
    FILE_HEADER_BYTES,
    PLACE,
    PLACED_HEADER_BYTES,
    SEGMENT_MAGIC,
    Buffer,
    EntryKind,
    Kind,
    aligned,
    block_header,
    file_header,
    records_at,
)
from shards.store.columns import add_offsets, body_bytes, settled_front, tally
from shards.store.copying import Piece
from shards.store.files import Files
from shards.store.journal import Journal
from shards.store.moment import STILL, Moment
from shards.store.record import EXPIRES, FLAGS_AT, PERSISTENT, RECORD_HEAD_BYTES
from shards.store.recovery import RecoveryReport
from shards.store.register import NOTHING_KNOWN, UNKNOWN, Known, SegmentFacts
from shards.store.segment import (
    ACKS_SUFFIX,
    MESSAGES_SUFFIX,
    Segment,
    known_segment,
    recover_segment,
    verify_segment,
)

OFFSET_MASK: Final = 0xFFFFFFFF
LEVEL_SHIFT: Final = 24  # of segment numbers: those of a priority queue's levels differ in the bits from here on
FIRST_TAIL_OFFSET: Final = FILE_HEADER_BYTES + PLACED_HEADER_BYTES
_SEGMENT_BYTES: Final = 608  # of a segment's object, paths and ack log (measured)

_record_length = Struct("<I")
_record_bytes = _record_length.unpack_from
_lengths = Struct("<IIH").unpack_from  # record, header, address
_timestamp = Struct("<Q").unpack_from
_TIMESTAMP_AT: Final = 12
_RETURNS_MAX: Final = 2**32 - 1  # what the ack log has room for


class Span:
    """Whole records, one behind the other, in `buffer[start:end]`; the one at index i has the position `base + i`.

    Good until the next call on the store that gave it, and never kept: its buffer moves and its map goes away.
    """

    __slots__ = ("base", "buffer", "end", "redelivered", "start")

    def __init__(self, buffer: bytearray | mmap, start: int, end: int, base: int, *, redelivered: bool = False) -> None:
        self.buffer = buffer
        self.start = start
        self.end = end
        self.base = base
        self.redelivered = redelivered


class MessageStore(Compactable):
    """See the module. Single-threaded; only `flush`, `append_large`, `purge` and the read side touch files."""

    __slots__ = (
        "_active",
        "_directory",
        "_durable",
        "_files",
        "_is_noted",
        "_is_part",
        "_leaving",
        "_moment",
        "_must_note",
        "_noted",
        "_number",
        "_read",
        "_read_end",
        "_read_skip",
        "_report",
        "_requeued",
        "_requeued_at",
        "_returns",
        "_segment_bytes_max",
        "_segments",
        "_span",
        "_store",
        "_tail",
        "_tail_base",
        "_tail_bytes_max",
        "_tail_count",
        "_tail_settled",
        "_tail_settled_count",
        "_told_early",
        "_touched",
        "has_expiring",
        "journal",
        "ready_bytes",
        "ready_count",
        "unacknowledged_count",
    )
    COLLECTIONS = ("_segments", "_requeued", "_returns")
    KIND = "stores"
    KINDS: ClassVar[Mapping[str, str]] = {
        "_segments": "segment index",
        "_requeued": "requeued messages",
        "_returns": "delivery counts",
    }

    def __init__(
        self,
        files: Files,
        directory: str,
        settings: StoreSettings,
        *,
        durable: bool,
        priority: int = 0,
        journal: Journal | None = None,
        store: int = 0,
        moment: Moment = STILL,
    ) -> None:
        """`priority`: the level of a priority queue this is; its positions are larger than those of lower levels.

        `journal`: what makes it durable before it is written, and knows it by the number `store`. `moment`: when it is,
        for what is read and written.
        """
        self.journal = journal
        self._store = store
        self._noted = 0  # how much of the tail the journal has
        self._must_note = False  # something persistent came behind that
        self._told_early = False  # it may know of settled records behind that
        self._is_part = False  # some of the tail is part of what is to be written by the journal as a whole
        self._leaving = 0  # how often the journal was told before us what is settled
        self._is_noted = False  # whether it has ever had anything that is to be kept
        self._files = files
        self._moment = moment
        self._directory = directory
        self._report: RecoveryReport | None = None  # who is told when a segment turns out to be damaged
        self._segment_bytes_max = settings.segment_bytes_max
        self._durable = durable
        self.has_expiring = False  # whether any message may have an expiration of its own
        self.ready_count = 0
        self.ready_bytes = 0  # of their bodies
        self.unacknowledged_count = 0  # handed out, neither settled nor requeued
        self._segments: dict[int, Segment] = {}  # all that have a file, oldest first
        self._touched: list[Segment] = []  # with something settled that is not in the ack log
        self._number = (priority << LEVEL_SHIFT) + 1  # of the active segment, which is made by the first flush
        self._active: Segment | None = None
        self._tail = bytearray()
        self._tail_count = 0
        self._tail_settled: Settled | None = None
        self._tail_settled_count = 0
        self._requeued = array("Q")  # sorted; those before `_requeued_at` have been handed out again
        self._requeued_at = 0
        self._returns: dict[int, int] = {}  # how often messages have come back, by position, where somebody counts
        self._span: Span | None = None  # the last one given, until it is advanced over
        self._tail_base = self._number << 32 | FIRST_TAIL_OFFSET
        self._tail_bytes_max = self._tail_room()
        self._read = self._tail_base  # position of the next record that was never handed out
        self._read_end = self._tail_base  # end of the written block it is in
        self._read_skip = 0  # of that block, as in `Segment`

    @classmethod
    def recover(
        cls,
        files: Files,
        directory: str,
        settings: StoreSettings,
        report: RecoveryReport,
        *,
        priority: int | None = None,
        journal: Journal | None = None,
        store: int = 0,
        moment: Moment = STILL,
        known: Known = NOTHING_KNOWN,
    ) -> "Self | None":
        """What a directory holds, all of it ready, in order. None when that is nothing; then the directory is gone.

        `priority`: only what belongs to this level of a priority queue. `known`: what a register says of segments,
        which are verified when they are first read; `report` hears of damage then, too.

        Raises StartRefused for a format version this broker does not know, OSError when the disk fails. Checksums of
        all other segments are verified: 0.3 s per GB from the page cache, most of it without the GIL.
        """
        if known.is_complete:
            names: list[str] = []
            numbers = sorted(number for number in known.segments if priority in (None, number >> LEVEL_SHIFT))
            if not numbers:
                return None
        else:
            names = [name for name in files.list(directory) if priority in (None, level_of(name))]
            numbers = sorted(_numbers(names, MESSAGES_SUFFIX))
        recovering = cls(
            files,
            directory,
            settings,
            durable=True,
            priority=priority or 0,
            journal=journal,
            store=store,
            moment=moment,
        )
        recovering._report = report
        for number in numbers:
            recovering._recover_segment(number, known, report, is_last=number == numbers[-1])
        report.messages += recovering.ready_count
        for number in _numbers(names, ACKS_SUFFIX):
            if number not in recovering._segments:
                files.unlink(Segment(directory, number, 0).acks_path)
        if not recovering._segments:
            if not files.list(directory):
                files.remove_tree(directory)
            elif numbers:
                # What is in the way now keeps the directory, and numbers are used again.
                files.sync_batch(Segment(directory, numbers[0], 0).path).run()
            return None
        recovering._is_noted = True
        recovering._start_behind(numbers[-1])
        return recovering

    def _recover_segment(self, number: int, known: Known, report: RecoveryReport, *, is_last: bool) -> None:
        facts = known.segments.get(number)
        segment = None
        if facts is not None:
            segment = known_segment(self._files, self._directory, facts, is_certain=known.is_complete)
        if segment is not None:
            segment.used_at = min(segment.used_at, self._moment.now)
            self._take_in(segment, {})
            return
        try:
            recovered = recover_segment(self._files, self._directory, number, report, is_last=is_last)
        except FileNotFoundError:
            if not known.is_complete:
                raise
            report.damaged(f"{Segment(self._directory, number, 0).path} is gone")
            return
        if recovered is None:
            return
        # Not when it was verified, which was just now: that says nothing about who is going to need it.
        recovered.segment.used_at = min(recovered.written_at, self._moment.now)
        self._take_in(recovered.segment, recovered.returns)
        if self.journal is not None:
            self.journal.written_behind(recovered.segment.acks_path)
            self.journal.sealed(self._store, recovered.segment)

    def _take_in(self, segment: Segment, returns: Mapping[int, int]) -> None:
        self._segments[segment.number] = segment
        self.ready_count += segment.live
        self.ready_bytes += segment.live_bytes
        self.has_expiring = self.has_expiring or segment.flags & EXPIRES > 0
        for offset, count in returns.items():
            self._returns[segment.number << 32 | offset] = count

    def _start_behind(self, number: int) -> None:
        self._number = number + 1
        self._tail_base = self._number << 32 | FIRST_TAIL_OFFSET
        self._enter(min(self._segments))

    # state ------------------------------------------------------------------------------------------------------------

    @property
    def dirty(self) -> bool:
        """Whether `flush` has anything to do."""
        return bool(self._tail_count or self._touched)

    @property
    def is_leaving(self) -> bool:
        """Whether the journal was told of messages that are settled before this is, with `note_leaving`."""
        return self._leaving > 0

    @property
    def unwritten_bytes(self) -> int:
        """What waits for a flush; it grows beyond a turn's batch only while the disk refuses."""
        return len(self._tail)

    @property
    def is_vacant(self) -> bool:
        """Whether nothing is left in memory or on disk, so that the store itself can go.

        Positions that a journal knows must not be used again, and only this knows which they are.
        """
        is_known = self.journal is not None and self._is_noted
        return not (is_known or self._segments or self._tail_count or self.ready_count or self.unacknowledged_count)

    def pieces(self) -> Iterator[Piece]:
        """What of its files belongs to it at this moment; the rest of it is in its journal, if it has one."""
        for segment in tuple(self._segments.values()):
            yield from segment.pieces(is_sealed=segment is not self._active)

    @property
    def segment_count(self) -> int:
        return len(self._segments)

    @property
    def priority(self) -> int:
        """The level this is of a priority queue; else 0."""
        return self._number >> LEVEL_SHIFT

    @property
    def unread_count(self) -> int:
        """Segments of which only a register was asked so far."""
        return sum(not segment.is_verified for segment in self._segments.values())

    def read_all(self) -> None:
        """Verify those, too, for tools; raises OSError when one cannot be read."""
        for segment in list(self._segments.values()):
            if not segment.is_verified:
                self._verify(segment)

    # levels -----------------------------------------------------------------------------------------------------------

    def level(self, priority: int) -> "MessageStore":
        """Where messages of this priority are appended: here, whatever it is."""
        return self

    def levels(self) -> "tuple[MessageStore, ...]":
        """The stores this consists of, in the order in which they are read."""
        return (self,)

    # appending --------------------------------------------------------------------------------------------------------

    def append(self, record: bytes) -> int:
        """Take a record in; its position. On disk after the next flush.

        Raises OSError only when the disk has refused for so long that 4 GiB are waiting.
        """
        tail = self._tail
        index = len(tail)
        record_bytes = len(record)
        if index + record_bytes > self._tail_bytes_max:
            index = self._make_room(record_bytes)
        tail += record
        self._must_note = self._must_note or record[FLAGS_AT] & PERSISTENT > 0
        self._tail_count += 1
        self.ready_count += 1
        self.ready_bytes += _body_bytes(record)
        return self._tail_base + index

    def append_part(self, record: bytes) -> int:
        """The same for a record that is there after an end with all that is noted with it, or not at all."""
        position = self.append(record)
        self._is_part = self.journal is not None
        return position

    def open_run(self) -> bytearray:
        """The unwritten tail, for a run of records to be appended to; `run_bytes_max` says how far it may grow.

        Whoever appends says so with `appended` before anything else is asked of the store.
        """
        if self._tail_bytes_max - len(self._tail) < RUN_BYTES_MIN:
            self._make_room(RUN_BYTES_MIN)
        return self._tail

    @property
    def run_bytes_max(self) -> int:
        return self._tail_bytes_max

    def appended(self, count: int, body_bytes: int, *, is_persistent: bool) -> None:
        """`count` whole records, with bodies of together `body_bytes`, were appended to what `open_run` gave."""
        self._must_note = self._must_note or is_persistent
        self._tail_count += count
        self.ready_count += count
        self.ready_bytes += body_bytes

    def append_run(self, records: bytes, count: int, body_bytes: int, *, is_persistent: bool) -> None:
        """Take in `count` records that were already put together for another store; the rest as in `appended`."""
        if len(self._tail) + len(records) > self._tail_bytes_max:
            self._make_room(len(records))
        self._tail += records
        self.appended(count, body_bytes, is_persistent=is_persistent)

    def append_large(self, parts: Sequence[Buffer], total_bytes: int) -> int:
        """Take a record in pieces, its head in the first, and write it at once, without a copy; its position.

        When the disk refuses, the record is copied into the tail and the next flush tells. It is copied, too, where
        it would have the tail written before all of a whole is noted that the tail has part of.
        """
        if self._is_part:
            return self.append(b"".join(parts))
        try:
            if self._tail_count:
                self._write_tail()
            if total_bytes > self._segment_room() and self._tail_base & OFFSET_MASK != FIRST_TAIL_OFFSET:
                self._seal()
            self._write_block(1, parts, total_bytes, sync=self._durable)
        except OSError:
            return self.append(b"".join(parts))
        position = self._tail_base
        size = _body_bytes(parts[0])
        self._block_written(1, total_bytes, size, parts[0][FLAGS_AT])
        self._is_noted = True
        self.ready_count += 1
        self.ready_bytes += size
        return position

    def _tail_room(self) -> int:
        """Bytes the tail may hold before it is written early or belongs into another segment; may be negative."""
        return min(TAIL_BYTES_MAX, self._segment_room())

    @property
    def _tail_bytes_limit(self) -> int:
        """Bytes of the tail that have a position, in a segment that may become too large."""
        return SEGMENT_OFFSET_MAX - (self._tail_base & OFFSET_MASK)

    def _segment_room(self) -> int:
        return min(self._tail_bytes_limit, self._segment_bytes_max - self._written_end() - PLACED_HEADER_BYTES)

    def _make_room(self, record_bytes: int) -> int:
        """Write early, or begin another segment; the index in the tail for a record of this size.

        What is part of a whole is not written early, however much it is: the journal has all of it in one block.
        """
        if self._is_part and len(self._tail) + record_bytes <= self._tail_bytes_limit:
            self._tail_bytes_max = min(len(self._tail) + max(record_bytes, TAIL_BYTES_MAX), self._tail_bytes_limit)
            return len(self._tail)
        if self._tail_count:
            self.note()
            self._drop_settled_front()
            if len(self._tail) + record_bytes <= self._tail_bytes_max:
                return len(self._tail)
            try:
                self._write_tail()
            except OSError as fault:
                # Keep it, in a segment that may become too large: flush() will tell, and succeed some day.
                self._tail_bytes_max = self._tail_bytes_limit
                if len(self._tail) + record_bytes > self._tail_bytes_max:
                    raise OSError(errno.ENOSPC, "too much is waiting to be written", self._directory) from fault
                return len(self._tail)
        if record_bytes > self._tail_bytes_max and self._tail_base & OFFSET_MASK != FIRST_TAIL_OFFSET:
            self._seal()
        # A record larger than a whole segment gets one of its own.
        self._tail_bytes_max = max(self._tail_bytes_max, record_bytes)
        return 0

    # reading ----------------------------------------------------------------------------------------------------------

    def next_span(self) -> Span | None:
        """What to hand out next, None when nothing is ready; looking changes nothing until `advance`."""
        requeued = self._requeued
        if requeued:
            span = self._span = self._one(requeued[self._requeued_at], redelivered=True)
            return span
        while True:
            position = self._read
            tail_base = self._tail_base
            if position >= tail_base:
                tail = self._tail
                start = position - tail_base
                end = len(tail)
                if start == end:
                    return None
                span = self._span = Span(tail, start, end, tail_base)
                return span
            if position < self._read_end:
                number = position >> 32
                segment = self._segments[number]
                start = position & OFFSET_MASK
                end = self._read_end & OFFSET_MASK
                if segment.deleted is not None:
                    start, end = self._without_deleted(segment, start, end)
                    if start == end:
                        continue
                if segment.returned is not None:
                    end = self._up_to_returned(segment, start, end)
                    if start == end:
                        span = self._span = self._one(position, redelivered=True)
                        return span
                skip = self._read_skip
                span = self._span = Span(self._map(segment), start - skip, end - skip, (number << 32) + skip)
                return span
            self._next_block()

    def advance(self, count: int, end: int) -> None:
        """The first `count` records of the last span were handed out; the next one begins at index `end`."""
        span = self._span
        if span is None or not count:
            return
        self._span = None
        self.ready_count -= count
        self.unacknowledged_count += count
        self.ready_bytes -= body_bytes(span.buffer, span.start, end)
        if self._requeued:
            self._requeued_taken()
        else:
            self._read = span.base + end

    def read(self, position: int) -> Span:
        """Exactly the record at `position`, which is not settled."""
        return self._one(position, redelivered=False)

    def _one(self, position: int, *, redelivered: bool) -> Span:
        tail_base = self._tail_base
        if position >= tail_base:
            buffer: bytearray | mmap = self._tail
            base = tail_base
        else:
            segment = self._segments[position >> 32]
            base = (position & ~OFFSET_MASK) + segment.skip_at(position & OFFSET_MASK)
            try:
                buffer = self._map(segment)
            except OSError:
                # Whoever goes gives back what it held, and nothing asks for that again: then without a map.
                buffer, base = self._copied(segment, position - base), position
        index = position - base
        return Span(buffer, index, index + _record_bytes(buffer, index)[0], base, redelivered=redelivered)

    def _copied(self, segment: Segment, at: int) -> bytearray:
        """The record that begins at this offset in the file; raises OSError."""
        (record_bytes,) = _record_bytes(self._files.read(segment.path, at, _record_length.size))
        return bytearray(self._files.read(segment.path, at, record_bytes))

    def _map(self, segment: Segment) -> mmap:
        segment.used(self._moment.now)
        return self._files.map(segment.path, segment.capacity)

    def _enter(self, number: int) -> None:
        """Read on from the beginning of a segment."""
        self._read = self._read_end = number << 32 | FILE_HEADER_BYTES
        self._read_skip = 0

    def _next_block(self) -> None:
        """Move the read position from the end of a block to the next one, or into the tail."""
        number = self._read_end >> 32
        segment = self._segments[number]
        if not segment.is_verified:
            self._verify(segment)
        offset = segment.block_after(aligned((self._read_end & OFFSET_MASK) - self._read_skip))
        if offset < segment.size:
            try:
                start, end, skip = records_at(self._map(segment), offset)
            except ValueError as fault:
                raise OSError(errno.EIO, f"changed under the broker: {fault}", segment.path) from fault
            self._read = number << 32 | start + skip
            self._read_end = number << 32 | end + skip
            self._read_skip = skip
            return
        if number != self._number:
            self._files.forget(segment.path)
        self._leave(number)

    def _verify(self, segment: Segment) -> None:
        """Read a segment whole, before the first message of it is handed out; correct what it was believed to have."""
        assert self._report is not None
        live, live_bytes = segment.live, segment.live_bytes
        returns = verify_segment(self._files, segment, self._report)
        self.ready_count -= live
        self.ready_bytes -= live_bytes
        self._take_in(segment, returns)
        if not segment.live:
            self._touch(segment)

    def _leave(self, number: int) -> None:
        """Read on behind a segment: in the next one that has a file, or in the tail."""
        following = self._segment_behind(number)
        if following is None:
            self._read = self._read_end = self._tail_base
        else:
            self._enter(following)

    def _segment_behind(self, number: int) -> int | None:
        if number + 1 in self._segments:
            return number + 1
        # A gap is rare: what was behind the read position went away as a whole.
        return min((other for other in self._segments if other > number), default=None)

    def _without_deleted(self, segment: Segment, start: int, end: int) -> tuple[int, int]:
        """The part of a block up to the next record the last start found settled; empty after stepping over one."""
        deleted = segment.deleted
        at = segment.deleted_at
        if deleted is None or at >= len(deleted):
            return start, end
        if deleted[at] == start:
            segment.deleted_at = at + 2
            self._read = segment.number << 32 | deleted[at + 1]
            return end, end
        return start, min(end, deleted[at])

    def _up_to_returned(self, segment: Segment, start: int, end: int) -> int:
        """Where the part of a block ends that had not come back before the last start; `start` itself when it had."""
        returned = segment.returned
        if returned is None:
            return end
        at = segment.returned_at
        while at < len(returned) and returned[at] < start:
            at += 1
        segment.returned_at = at
        return min(end, returned[at]) if at < len(returned) else end

    # settling ---------------------------------------------------------------------------------------------------------

    def settle(self, position: int) -> None:
        """A message handed out is done with. Settling one twice would lose another: the caller keeps the account."""
        self.unacknowledged_count -= 1
        if self._returns:
            self._returns.pop(position, None)
        if position >= self._tail_base:
            self._tail_settled_count += 1
            (self._tail_settled or self._touch_tail()).offsets.append(position & OFFSET_MASK)
        else:
            segment = self._segments[position >> 32]
            segment.live -= 1
            (segment.settled or self._touch(segment)).offsets.append(position & OFFSET_MASK)

    def settle_many(self, positions: "array[int]") -> None:
        """The same for messages in no particular order; in runs, as long as they are in one segment."""
        tail_base = self._tail_base
        count = len(positions)
        index = 0
        while index < count:
            number = positions[index] >> 32
            low, high = number << 32, number + 1 << 32
            first = index
            if positions[index] >= tail_base:
                offsets = (self._tail_settled or self._touch_tail()).offsets
                index = add_offsets(positions, index, tail_base, high, offsets)
                self._tail_settled_count += index - first
            else:
                segment = self._segments[number]
                offsets = (segment.settled or self._touch(segment)).offsets
                index = add_offsets(positions, index, low, min(high, tail_base), offsets)
                segment.live -= index - first
        self.unacknowledged_count -= count
        if self._returns:
            for position in positions:
                self._returns.pop(position, None)

    def settle_run(self, first: int, last: int, count: int) -> None:
        """All `count` messages from `first` to `last` in read order; all handed out, none settled or requeued."""
        self.unacknowledged_count -= count
        if self._returns and count == 1:  # what has come back is handed out one by one
            self._returns.pop(first, None)
        tail_base = self._tail_base
        if first >= tail_base:
            self._tail_settled_count += count
            (self._tail_settled or self._touch_tail()).add_range(first & OFFSET_MASK, (last & OFFSET_MASK) + 1)
            return
        if last >= tail_base:
            count -= self._settle_tail_up_to(last)
            last = self._number << 32 | (self._active.end if self._active is not None else FILE_HEADER_BYTES)
        while first >> 32 != last >> 32:
            count -= self._settle_rest_of(first)
            following = self._segment_behind(first >> 32)
            if following is None or following > last >> 32:
                break
            first = following << 32 | FILE_HEADER_BYTES
        if count:
            segment = self._segments[first >> 32]
            self._settle_range(segment, first & OFFSET_MASK, (last & OFFSET_MASK) + 1, count)

    def requeue(self, position: int) -> None:
        """A message handed out is ready again, before everything younger, and redelivered."""
        span = self._one(position, redelivered=True)
        self.unacknowledged_count -= 1
        self.ready_count += 1
        self.ready_bytes += body_bytes(span.buffer, span.start, span.end)
        insort(self._requeued, position, self._requeued_at)

    def note_return(self, position: int) -> int:
        """Count that a message handed out comes back; how often it has, as a restart will know, too."""
        count = self._returns[position] = self._returns.get(position, 0) + 1
        if self._durable and _is_worth_noting(count):
            if position >= self._tail_base:
                settled = self._tail_settled or self._touch_tail()
            else:
                segment = self._segments[position >> 32]
                settled = segment.settled or self._touch(segment)
            settled.add_return(position & OFFSET_MASK, min(count, _RETURNS_MAX))
        return count

    def returns(self, position: int) -> int:
        """How often this message has come back, as far as `note_return` was told."""
        return self._returns.get(position, 0)

    @property
    def returned_count(self) -> int:
        """Messages of which it is known how often they have come back."""
        return len(self._returns)

    def purge(self) -> int:
        """Settle everything ready; how many that was. What is handed out stays."""
        count = self.ready_count
        unread = count - (len(self._requeued) - self._requeued_at)
        requeued = self._requeued[self._requeued_at :]
        if self._returns:  # requeued ones forget it when they are settled
            self._returns = {position: count for position, count in self._returns.items() if position < self._read}
        self.unacknowledged_count += len(requeued)
        self.settle_many(requeued)
        self._requeued = array("Q")
        self._requeued_at = 0
        self._span = None
        if unread:
            self._settle_unread(unread)
        self.ready_count = self.ready_bytes = 0
        if self._tail_settled_count == self._tail_count:
            self._rewind()
            if self._active is not None and self._active.live == 0:
                self._seal()
        return count

    def _touch(self, segment: Segment) -> Settled:
        settled = segment.settled
        if settled is None:
            settled = segment.settled = Settled()
            segment.live_bytes = UNKNOWN
            self._touched.append(segment)
        return settled

    def _touch_tail(self) -> Settled:
        settled = self._tail_settled
        if settled is None:
            settled = self._tail_settled = Settled()
        return settled

    def _settle_range(self, segment: Segment, first: int, end: int, count: int) -> None:
        segment.live -= count
        self._touch(segment).add_range(first, end)

    def _written_end(self) -> int:
        return self._active.size if self._active is not None else FILE_HEADER_BYTES

    def _settle_tail_up_to(self, last: int) -> int:
        """Settle the records of the tail up to the one at `last`; how many they are."""
        tail = self._tail
        index = count = 0
        stop = last - self._tail_base
        while index <= stop:
            index += _record_bytes(tail, index)[0]
            count += 1
        self._tail_settled_count += count
        self._touch_tail().add_range(self._tail_base & OFFSET_MASK, (last & OFFSET_MASK) + 1)
        return count

    def _settle_rest_of(self, first: int) -> int:
        """Settle what is left of a segment from `first` on; how many records that is."""
        segment = self._segments[first >> 32]
        offset = first & OFFSET_MASK
        count = self._count_from(segment, offset)
        self._settle_range(segment, offset, segment.end, count)
        return count

    def _count_from(self, segment: Segment, first: int) -> int:
        """Records from `first` on that the last start did not find settled already."""
        buffer = self._map(segment)
        gone = dict(zip(segment.deleted[::2], segment.deleted[1::2], strict=True)) if segment.deleted else {}
        count = 0
        offset = FILE_HEADER_BYTES
        while (begin := segment.block_after(offset)) < segment.size:
            start, end, skip = records_at(buffer, begin)
            # A record in the middle of a block is found without walking the block up to it.
            at = max(start + skip, first) if first < end + skip else end + skip
            while at < end + skip:
                skipped = gone.get(at)
                if skipped is None:
                    at += _record_bytes(buffer, at - skip)[0]
                    count += 1
                else:
                    at = skipped
            offset = aligned(end)
        return count

    def _settle_unread(self, unread: int) -> None:
        """Settle everything from the read position on: `unread` records, of which all behind its segment are whole."""
        read = self._read
        if self._tail_count:
            from_tail = min(unread, self._tail_count)
            self._tail_settled_count += from_tail
            self._touch_tail().add_range(
                max(read, self._tail_base) & OFFSET_MASK, (self._tail_base & OFFSET_MASK) + len(self._tail)
            )
            unread -= from_tail
        number = read >> 32
        for segment in list(self._segments.values()):
            if segment.number > number and segment.live:
                unread -= segment.live
                self._settle_range(segment, FILE_HEADER_BYTES, segment.end, segment.live)
        if unread:
            segment = self._segments[number]
            self._settle_range(segment, read & OFFSET_MASK, segment.end, unread)
        self._read = self._read_end = self._tail_base + len(self._tail)

    def _requeued_taken(self) -> None:
        """The first of the requeued ones was handed out; those passed are dropped in halves, not one by one."""
        self._requeued_at += 1
        if self._requeued_at == len(self._requeued):
            self._requeued = array("Q")
            self._requeued_at = 0
        elif self._requeued_at > 64 and self._requeued_at * 2 > len(self._requeued):
            del self._requeued[: self._requeued_at]
            self._requeued_at = 0

    # writing ----------------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Write all there is: the tail as one block, each ack log once; unlink what is settled as a whole.

        A tail whose records are all settled by now is dropped, and nothing of it is written. Raises OSError; then
        nothing is lost, and it can be called again.
        """
        self.note()  # what a journal brought back otherwise, once no file says that it is settled
        self._unlink_settled()
        if self._tail_count:
            self._write_tail()
        self._write_all_acks()

    def _write_all_acks(self) -> None:
        touched = self._touched
        while touched:
            self._write_acks(touched[-1])
            touched.pop()

    # behind a journal -------------------------------------------------------------------------------------------------

    def note(self) -> Journal | None:
        """Tell the journal what has happened since it was told last; the journal, if it was told anything.

        Messages nobody asked to keep are noted only where one behind them is to be kept.
        """
        journal = self.journal
        if journal is None:
            return None
        if self._must_note:
            with memoryview(self._tail) as tail:
                journal.note_appended(self._store, self._tail_base + self._noted, tail[self._noted :])
            self._noted = len(self._tail)
            self._must_note = False
            self._is_noted = True
            if self._told_early and self._tail_settled is not None:
                self._tail_settled.note_again()
            self._told_early = False
        if not self._is_noted:
            return None
        for segment in self._touched:
            if segment.settled is not None:
                self._note_settled(journal, segment.number, segment.settled)
        if self._tail_settled is not None and self._noted:
            # The file with the settlement of a record may be used again before the one that gets the record.
            self._told_early = self._told_early or self._noted < len(self._tail)
            self._note_settled(journal, self._number, self._tail_settled)
        return journal if journal.is_dirty else None

    def note_leaving(self, positions: "array[int]") -> Journal | None:
        """Tell the journal that these are settled, before they are here; the journal, if there is one."""
        journal = self.journal
        if journal is None:
            return None
        self._is_noted = True
        self._leaving += 1
        for number in sorted({position >> 32 for position in positions}):
            offsets = array("I", (position & OFFSET_MASK for position in positions if position >> 32 == number))
            journal.note(self._store, EntryKind.SETTLED_OFFSETS, number, offsets)
        return journal

    def settle_left(self, positions: "array[int]") -> None:
        """What `note_leaving` told of these has been written: settle them here, and do not tell again.

        A disk may keep what was told second and lose what was told first, together with the copies of these messages.
        """
        self.note()
        self.settle_many(positions)
        if self.journal is None:
            return
        self._leaving -= 1
        for segment in self._touched:
            if segment.settled is not None:
                segment.settled.set_noted()
        if self._tail_settled is not None and self._noted:
            self._told_early = self._told_early or self._noted < len(self._tail)
            self._tail_settled.set_noted()

    def _note_settled(self, journal: Journal, segment: int, settled: Settled) -> None:
        for kind, entries in settled.take_unnoted():
            journal.note(self._store, kind, segment, entries)

    def tidy(self) -> bool:
        """After what was noted is in the journal: let go of what is settled; True when something waits to be written.

        Raises OSError as `flush`.
        """
        self._is_part = False
        self._unlink_settled()
        if self._tail_count and self._tail_settled_count == self._tail_count:
            self._rewind()
        elif len(self._tail) > TAIL_BYTES_KEPT_MAX:
            self._drop_settled_front()
            if len(self._tail) > TAIL_BYTES_KEPT_MAX // 2:
                self._write_tail()
        return self.dirty or self.is_leaving

    def write_back(self, now: int, *, whole: bool) -> bool:
        """Write what has waited for acknowledgements long enough, or all; True when something younger is left."""
        self.note()
        self._drop_settled_front()
        if self._tail_count and (whole or not now - WRITE_BACK_MS < _timestamp(self._tail, _TIMESTAMP_AT)[0] <= now):
            self._write_tail()
        self._write_all_acks()
        return self.dirty or self.is_leaving

    def _drop_settled_front(self) -> None:
        """Forget the records at the tail's beginning that are settled: they need never be written."""
        settled = self._tail_settled
        if settled is None:
            return
        base = self._tail_base & OFFSET_MASK
        end, count = settled_front(self._tail, base, array("I", sorted(settled.offsets)), settled.sorted_ranges())
        if not count:
            return
        self._span = None
        del self._tail[:end]
        self._tail_base += end
        self._tail_count -= count
        self._tail_settled_count -= count
        settled.forget_before(base + end, is_noted=self._noted > 0)
        self._noted = max(0, self._noted - end)
        self._tail_bytes_max = max(len(self._tail), self._tail_room())

    def _unlink_settled(self) -> None:
        """Let go of what is settled as a whole; before anything is written, because it makes room on a full disk."""
        kept = []
        try:
            while self._touched:
                segment = self._touched[-1]
                assert segment.live >= 0, f"{segment.path}: more settled than there was"
                if segment.live or segment is self._active:
                    kept.append(segment)
                else:
                    self._unlink(segment)
                self._touched.pop()
        finally:
            self._touched.extend(reversed(kept))

    def _unlink(self, segment: Segment) -> None:
        # Its entry in the directory, too, must not come back once the journal has forgotten what is settled.
        self._written_behind(segment.path)
        segment.remove(self._files)
        del self._segments[segment.number]
        if self._read < self._tail_base and self._read >> 32 == segment.number:
            self._leave(segment.number)

    def _write_acks(self, segment: Segment) -> None:
        if self._durable and segment.settled:
            self._written_behind(segment.acks_path)
            try:
                segment.acks.write(self._files, segment.acks_path, segment.number, segment.salt, segment.settled)
            except OSError:
                # No room to note what is settled, but then it need not be noted if all of it is.
                if segment is not self._active or segment.live:
                    raise
                self._seal()
                self._unlink(segment)
            segment.has_returns = segment.has_returns or len(segment.settled.returns) > 0
        segment.settled = None

    def _written_behind(self, path: str) -> None:
        if self.journal is not None:
            self.journal.written_behind(path)

    def _write_tail(self) -> None:
        if self._tail_settled_count == self._tail_count:
            self._rewind()
            return
        self.note()
        tail = self._tail
        must_tell = bool(self.journal is not None and self._tail_settled and not self._noted)
        self._write_block(self._tail_count, (tail,), len(tail), sync=self._durable and self.journal is None)
        self._block_written(self._tail_count - self._tail_settled_count, len(tail), *tally(tail, 0, len(tail)))
        self._is_noted = True  # what becomes of it has to be: now it would come back
        if must_tell:
            # Nobody asked to keep these messages, so the journal has nothing of them, nor what became of them so far.
            self._write_all_acks()

    def _rewind(self) -> None:
        """All of the tail is settled: its positions can be used again, unless the journal may know some of them."""
        self.note()
        read_in_tail = self._read >= self._tail_base
        if self._is_noted:
            self._tail_base += len(self._tail)
        if read_in_tail:
            self._read = self._read_end = self._tail_base
        self._tail_settled = None
        self._empty_tail()

    def _empty_tail(self) -> None:
        self._tail.clear()
        self._noted = 0
        self._must_note = False
        self._told_early = False
        self._tail_count = 0
        self._tail_settled_count = 0
        self._tail_bytes_max = self._tail_room()

    def _write_block(self, count: int, parts: Sequence[Buffer], payload_bytes: int, *, sync: bool) -> None:
        """Write a block where the tail is to be. Raises OSError; then nothing has changed that anybody can see."""
        files = self._files
        segment = self._active or self._create_segment()
        start = segment.size
        end = aligned(start + PLACED_HEADER_BYTES + payload_bytes)
        if max(end, (self._tail_base & OFFSET_MASK) + payload_bytes) > SEGMENT_OFFSET_MAX + PLACED_HEADER_BYTES:
            raise OSError(errno.EFBIG, "a message as large as that fits no segment", segment.path)
        parts = (PLACE.pack(self._tail_base & OFFSET_MASK, 0), *parts)
        header = block_header(Kind.PLACED_RECORDS, segment.salt, start, count, parts, PLACE.size + payload_bytes)
        segment.reserve(files, end, self._segment_bytes_max, sync=self._durable)
        if start == FILE_HEADER_BYTES:
            start = 0
            header = file_header(SEGMENT_MAGIC, segment.number, segment.salt) + header
        self._written_behind(segment.path)
        files.write(segment.path, start, (header, *parts), sync=sync)

    def _create_segment(self) -> Segment:
        self._files.make_directory(self._directory, sync=self._durable)
        segment = self._active = Segment(self._directory, self._number, self._files.nonce())
        self._segments[self._number] = segment
        return segment

    def _block_written(self, live: int, payload_bytes: int, size: int, flags: int) -> None:
        """The tail is a written block now, and a new tail begins behind it; `size`: of the bodies, `flags`: of any."""
        segment = self._active
        assert segment is not None
        base = self._tail_base
        start = segment.size + PLACED_HEADER_BYTES
        skip = (base & OFFSET_MASK) - start
        if self._read >= base:
            self._read_end = base + payload_bytes
            self._read_skip = skip
        segment.add_skip(base & OFFSET_MASK, skip)
        segment.live += live
        segment.used(self._moment.now)
        segment.flags |= flags
        if segment.live_bytes != UNKNOWN:
            segment.live_bytes += size
        segment.size = aligned(start + payload_bytes)
        self._tail_base = self._number << 32 | segment.end + PLACED_HEADER_BYTES
        if self._tail_settled is not None:
            self._touch(segment).extend(self._tail_settled)
            self._tail_settled = None
        self._empty_tail()

    def _seal(self) -> None:
        """Go on in another segment; the tail is empty. What is settled of this one goes with the next flush."""
        segment = self._active
        assert not self._tail_count
        read_at_tail = self._read >= self._tail_base
        self._active = None
        self._number += 1
        self._tail_base = self._number << 32 | FIRST_TAIL_OFFSET
        self._tail_bytes_max = self._tail_room()
        if read_at_tail:
            self._read = self._read_end = self._tail_base
        if segment is None:
            return  # nothing in it was ever written
        if segment.live == 0:
            self._touch(segment)
        try:
            segment.cut(self._files)
        except OSError:
            pass  # costs a few zeros that occupy no disk
        if self.journal is not None:
            self.journal.sealed(self._store, segment)

    # ending -----------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Write what is left and close the files; a store with nothing in it leaves nothing behind.

        Raises OSError when the disk refuses; the files are closed all the same.
        """
        try:
            self.flush()
            self._drop_settled_active()
            self._drop_settled()
            if self._active is not None:
                self._active.cut(self._files)
        finally:
            self._forget_files()
        if not self._segments and not self._files.list(self._directory):
            self._files.remove_tree(self._directory)

    def facts(self) -> Iterator[SegmentFacts]:
        """What a register may know of all segments of a store that is closed."""
        known = 0
        unknown: list[SegmentFacts] = []
        for segment in tuple(self._segments.values()):
            facts = segment.facts(self._store)
            if facts is None:
                continue
            if facts.live_bytes == UNKNOWN:
                unknown.append(facts)
            else:
                known += facts.live_bytes
                yield facts
        # Nothing is handed out any more, so the bytes of one can be told by those of the others.
        if len(unknown) == 1 and not self.unacknowledged_count and not self._segments[unknown[0].number].must_be_read:
            unknown = [unknown[0]._replace(live_bytes=self.ready_bytes - known)]
        yield from unknown

    def registered(self) -> Iterator[SegmentFacts]:
        """What a register knows of segments, as far as that has not changed."""
        for segment in tuple(self._segments.values()):
            facts = segment.facts(self._store) if segment.is_registered else None
            if facts is not None and facts.live_bytes != UNKNOWN:
                yield facts

    def delete(self) -> None:
        """Drop all messages and the directory. Raises OSError; then files are left which nobody will look at."""
        self._forget_files()
        self._segments = {}
        self._touched = []
        self._active = None
        self._tail = bytearray()
        self._requeued = array("Q")
        self._returns = {}
        self._requeued_at = self._tail_count = self.ready_count = self.ready_bytes = self.unacknowledged_count = 0
        self._files.remove_tree(self._directory)

    def _forget_files(self) -> None:
        self._span = None
        for segment in self._segments.values():
            self._files.forget(segment.path)
            self._files.forget(segment.acks_path)

    @property
    def _settled_active_bytes(self) -> int:
        """The size of the active segment when all in it is settled, else 0."""
        segment = self._active
        return 0 if segment is None or segment.live or self._tail_count else segment.size

    def _drop_settled_active(self) -> None:
        """Unlink the active segment when all in it is settled."""
        if self._settled_active_bytes:
            self._seal()
            self.flush()

    def _drop_settled(self) -> None:
        """Unlink what is settled but was never looked at again since: a register tells of messages only."""
        settled = [segment for segment in self._segments.values() if not segment.live]
        for segment in settled:
            self._touch(segment)
        if settled:
            self.flush()

    # giving memory back -----------------------------------------------------------------------------------------------

    def children(self) -> Iterable[Compactable]:
        """Segments that remember something, and what became of messages that are not written yet."""
        remembering = [segment for segment in self._segments.values() if segment.remembers]
        return (*remembering, self._tail_settled) if self._tail_settled is not None else remembering

    def holdings(self) -> Iterable[tuple[str, int]]:
        """Pages of segments are the kernel's and not counted here."""
        return (
            ("unwritten messages", sys.getsizeof(self._tail)),
            ("segment index", _SEGMENT_BYTES * len(self._segments)),
        )

    def shrink(self, level: Level, policy: ShrinkPolicy) -> Iterator[Step]:
        """Collections; the file and map of an idle queue; from RELEASE on the pages of cold segments are offered."""
        yield from super().shrink(level, policy)
        size = self._settled_active_bytes
        if not policy.is_dry:
            self._span = None
            try:
                self._drop_settled_active()
            except OSError as fault:
                yield Failed(SEGMENT_PAGES, str(fault))
                return
        if size:
            yield Freed("settled segment", size)
        if level >= Level.RELEASE:
            yield from self._offer_cold(policy)

    def _offer_cold(self, policy: ShrinkPolicy) -> Iterator[Step]:
        for looked, number in enumerate(list(self._segments), 1):
            segment = self._segments.get(number)
            if segment is not None and self._is_cold(segment, policy):
                yield Cold(segment.used_at, segment.size, partial(self._release, segment, policy))
            elif looked % COLLECTIONS_PER_STEP == 0:
                yield LOOKED

    def _release(self, segment: Segment, policy: ShrinkPolicy) -> Iterator[Step]:
        # Since it was offered anything may have happened to it.
        if not self._is_cold(segment, policy):
            return
        if not policy.is_dry:
            work = self._files.release(segment.path)
            # Who reads it while the thread is at it will have it come back.
            segment.released(policy.now)
            yield Offload(work)
            if self._segments.get(segment.number) is not segment or not segment.is_released:
                return
        yield Freed(SEGMENT_PAGES, segment.size)

    def _is_cold(self, segment: Segment, policy: ShrinkPolicy) -> bool:
        return (
            self._segments.get(segment.number) is segment
            and segment is not self._active
            and segment.number != self._read >> 32
            and segment.used_at <= policy.cold_before
            and (segment.guard is None or segment.guard.may_release(policy.now))
        )


def _body_bytes(head: Buffer) -> int:
    """Bytes of a record's body, given its head."""
    record_bytes, header_bytes, address_bytes = _lengths(head)
    return int(record_bytes - RECORD_HEAD_BYTES - header_bytes - address_bytes)


def _is_worth_noting(count: int) -> bool:
    """Every one of the first 31 returns, then each that makes a thirty-second or more: else a message that comes and
    goes all day would fill the ack log."""
    return count % (1 << max(0, count.bit_length() - 5)) == 0


def level_of(name: str) -> int | None:
    """Which level of a priority queue a file belongs to; None for a file that is not ours."""
    stem = os.path.basename(name).partition(".")[0]
    return int(stem) >> LEVEL_SHIFT if _is_number(stem) else None


def _numbers(names: Iterable[str], suffix: str) -> list[int]:
    """Segment numbers in a directory; other files are not ours to touch."""
    stems = (os.path.basename(name).removesuffix(suffix) for name in names if name.endswith(suffix))
    return [int(stem) for stem in stems if _is_number(stem)]


def _is_number(stem: str) -> bool:
    return len(stem) == 10 and stem.isdecimal()
