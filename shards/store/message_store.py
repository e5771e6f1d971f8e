"""The messages of one queue: appended to an unwritten tail, flushed as blocks, walked by a read position, then settled.

```
   settled          unacknowledged, ready          ready                 ready
 ┌───────────┐   ┌──────────────────────────┐   ┌─────────────────┐   ┌───────────────┐
 │ unlinked  │   │ segment, sealed          │   │ active segment  │   │ unwritten tail│ ◄─ append
 └───────────┘   └──────────────┬───────────┘   └─────────────────┘   └───────────────┘
                          read position ─►                              one block at the next flush
```

A position is `segment number << 32 | offset in its file`, given at append, and holds from the tail through the file to
the end of the message: the tail is merely a block that is not written yet. No message is an object here: a ready one is
bytes behind the read position, a settled one a number on its way to the ack log. Nothing is ever appended to a segment
that was recovered, so no position is used twice while an old ack log could speak of it.

Hot module. Interpreted on CPython 3.11 with 57-byte records in turns of 1000: `append` 0.23 µs; a turn's flush 42 µs,
its spans, `advance` and `settle_run` 9 µs, its ack log 10 µs, so 0.3 µs a message in all; `settle` one by one 0.21 µs,
`settle_many` 0.13, `requeue` 1.4. A message that is written, read, settled and logged alone in its turn costs 11 µs.
"""

import errno
import os
from array import array
from bisect import insort
from collections.abc import Iterable, Iterator, Sequence
from mmap import mmap
from struct import Struct
from typing import Final

from ipc.limits import RUN_BYTES_MIN, SEGMENT_OFFSET_MAX, TAIL_BYTES_MAX
from ipc.messages.commands import Level
from ipc.settings import StoreSettings
from shards.compaction.compactable import SEGMENT_PAGES, Compactable, Failed, Freed, Offload, ShrinkPolicy, Step
from shards.store.ack_log import Settled
from shards.store.blocks import (
    BLOCK_HEADER_BYTES,
    FILE_HEADER_BYTES,
    SEGMENT_MAGIC,
    Buffer,
    Kind,
    aligned,
    block_header,
    file_header,
    payload_end,
)
from shards.store.columns import add_offsets
from shards.store.files import Files
from shards.store.record import RECORD_HEAD_BYTES
from shards.store.recovery import RecoveryReport
from shards.store.segment import ACKS_SUFFIX, MESSAGES_SUFFIX, Segment, recover_segment

OFFSET_MASK: Final = 0xFFFFFFFF
FIRST_TAIL_OFFSET: Final = FILE_HEADER_BYTES + BLOCK_HEADER_BYTES

_record_bytes = Struct("<I").unpack_from
_timestamp = Struct("<Q").unpack_from
_TIMESTAMP_AT: Final = 12


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
        "_number",
        "_read",
        "_read_end",
        "_requeued",
        "_requeued_at",
        "_segment_bytes_max",
        "_segments",
        "_span",
        "_tail",
        "_tail_base",
        "_tail_bytes_max",
        "_tail_count",
        "_tail_settled",
        "_tail_settled_count",
        "_touched",
        "has_expiring",
        "ready_bytes",
        "ready_count",
        "unacknowledged_count",
    )
    COLLECTIONS = ("_segments", "_requeued")

    def __init__(self, files: Files, directory: str, settings: StoreSettings, *, durable: bool) -> None:
        self._files = files
        self._directory = directory
        self._segment_bytes_max = settings.segment_bytes_max
        self._durable = durable
        self.has_expiring = False  # whether any message may have an expiration of its own
        self.ready_count = 0
        self.ready_bytes = 0  # of whole records
        self.unacknowledged_count = 0  # handed out, neither settled nor requeued
        self._segments: dict[int, Segment] = {}  # all that have a file, oldest first
        self._touched: list[Segment] = []  # with something settled that is not in the ack log
        self._number = 1  # of the active segment, which is made by the first flush
        self._active: Segment | None = None
        self._tail = bytearray()
        self._tail_count = 0
        self._tail_settled: Settled | None = None
        self._tail_settled_count = 0
        self._requeued = array("Q")  # sorted; those before `_requeued_at` have been handed out again
        self._requeued_at = 0
        self._span: Span | None = None  # the last one given, until it is advanced over
        self._tail_base = self._number << 32 | FIRST_TAIL_OFFSET
        self._tail_bytes_max = self._tail_room()
        self._read = self._tail_base  # position of the next record that was never handed out
        self._read_end = self._tail_base  # end of the written block it is in

    @classmethod
    def recover(
        cls, files: Files, directory: str, settings: StoreSettings, report: RecoveryReport
    ) -> "MessageStore | None":
        """What a directory holds, all of it ready, in order. None when that is nothing; then the directory is gone.

        Raises StartRefused for a format version this broker does not know, OSError when the disk fails. Checksums of
        everything are verified: 0.3 s per GB from the page cache, most of it without the GIL, so a thread may do it.
        """
        names = files.list(directory)
        numbers = sorted(_numbers(names, MESSAGES_SUFFIX))
        store = cls(files, directory, settings, durable=True)
        for number in numbers:
            recovered = recover_segment(files, directory, number, report, is_last=number == numbers[-1])
            if recovered is not None:
                segment, live_bytes = recovered
                store._segments[number] = segment
                store.ready_count += segment.live
                store.ready_bytes += live_bytes
        for number in _numbers(names, ACKS_SUFFIX):
            if number not in store._segments:
                files.unlink(Segment(directory, number, 0).acks_path)
        if not store._segments:
            if not files.list(directory):
                files.remove_tree(directory)
            return None
        store.has_expiring = True  # nobody looked at every record
        store._start_behind(numbers[-1])
        return store

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
    def unwritten_bytes(self) -> int:
        """What waits for a flush; it grows beyond a turn's batch only while the disk refuses."""
        return len(self._tail)

    @property
    def is_vacant(self) -> bool:
        """Whether nothing is left in memory or on disk, so that the store itself can go."""
        return not (self._segments or self._tail_count or self.ready_count or self.unacknowledged_count)

    @property
    def segment_count(self) -> int:
        return len(self._segments)

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
        self._tail_count += 1
        self.ready_count += 1
        self.ready_bytes += record_bytes
        return self._tail_base + index

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

    def appended(self, count: int, size_bytes: int) -> None:
        """`count` whole records of `size_bytes` were appended to what `open_run` gave."""
        self._tail_count += count
        self.ready_count += count
        self.ready_bytes += size_bytes

    def append_run(self, records: bytes, count: int) -> None:
        """Take in `count` records that were already put together for another store."""
        if len(self._tail) + len(records) > self._tail_bytes_max:
            self._make_room(len(records))
        self._tail += records
        self.appended(count, len(records))

    def append_large(self, parts: Sequence[Buffer], total_bytes: int) -> int:
        """Take a record in pieces and write it at once, without a copy; its position.

        When the disk refuses, the record is copied into the tail and the next flush tells.
        """
        try:
            if self._tail_count:
                self._write_tail()
            if self._active is not None and total_bytes > self._segment_room():
                self._seal()
            self._write_block(1, parts, total_bytes)
        except OSError:
            return self.append(b"".join(parts))
        position = self._tail_base
        self._block_written(1, total_bytes)
        self.ready_count += 1
        self.ready_bytes += total_bytes
        return position

    def _tail_room(self) -> int:
        """Bytes the tail may hold before it is written early or belongs into another segment; may be negative."""
        return min(TAIL_BYTES_MAX, self._segment_room())

    def _segment_room(self) -> int:
        return self._segment_bytes_max - (self._tail_base & OFFSET_MASK)

    def _make_room(self, record_bytes: int) -> int:
        """Write early, or begin another segment; the index in the tail for a record of this size."""
        if self._tail_count:
            try:
                self._write_tail()
            except OSError as fault:
                # Keep it, in a segment that may become too large: flush() will tell, and succeed some day.
                self._tail_bytes_max = SEGMENT_OFFSET_MAX - (self._tail_base & OFFSET_MASK)
                if len(self._tail) + record_bytes > self._tail_bytes_max:
                    raise OSError(errno.ENOSPC, "too much is waiting to be written", self._directory) from fault
                return len(self._tail)
        if record_bytes > self._tail_bytes_max and self._active is not None:
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
                segment = self._segments[position >> 32]
                start = position & OFFSET_MASK
                end = self._read_end & OFFSET_MASK
                if segment.deleted is not None:
                    start, end = self._without_deleted(segment, start, end)
                    if start == end:
                        continue
                buffer = self._map(segment)
                span = self._span = Span(buffer, start, end, segment.number << 32)
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
        self.ready_bytes -= end - span.start
        if span.redelivered:
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
            buffer = self._map(self._segments[position >> 32])
            base = position & ~OFFSET_MASK
        index = position - base
        return Span(buffer, index, index + _record_bytes(buffer, index)[0], base, redelivered=redelivered)

    def _map(self, segment: Segment) -> mmap:
        segment.touched()
        return self._files.map(segment.path, segment.capacity)

    def _enter(self, number: int) -> None:
        """Read on from the beginning of a segment."""
        self._read = self._read_end = number << 32 | FILE_HEADER_BYTES

    def _next_block(self) -> None:
        """Move the read position from the end of a block to the next one, or into the tail."""
        number = self._read_end >> 32
        segment = self._segments[number]
        offset = segment.block_after(aligned(self._read_end & OFFSET_MASK))
        if offset < segment.size:
            try:
                end = payload_end(self._map(segment), offset)
            except ValueError as fault:
                raise OSError(errno.EIO, f"changed under the broker: {fault}", segment.path) from fault
            self._read = number << 32 | offset + BLOCK_HEADER_BYTES
            self._read_end = number << 32 | end
            return
        if number != self._number:
            self._files.forget(segment.path)
        self._leave(number)

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

    # settling ---------------------------------------------------------------------------------------------------------

    def settle(self, position: int) -> None:
        """A message handed out is done with. Settling one twice would lose another: the caller keeps the account."""
        self.unacknowledged_count -= 1
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

    def settle_run(self, first: int, last: int, count: int) -> None:
        """All `count` messages from `first` to `last` in read order; all handed out, none settled or requeued."""
        self.unacknowledged_count -= count
        tail_base = self._tail_base
        if first >= tail_base:
            self._tail_settled_count += count
            (self._tail_settled or self._touch_tail()).add_range(first & OFFSET_MASK, (last & OFFSET_MASK) + 1)
            return
        if last >= tail_base:
            count -= self._settle_tail_up_to(last)
            last = self._number << 32 | self._written_end()
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
        self.ready_bytes += span.end - span.start
        insort(self._requeued, position, self._requeued_at)

    def purge(self) -> int:
        """Settle everything ready; how many that was. What is handed out stays."""
        count = self.ready_count
        unread = count - (len(self._requeued) - self._requeued_at)
        requeued = self._requeued[self._requeued_at :]
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
        self._settle_range(segment, offset, segment.size, count)
        return count

    def _count_from(self, segment: Segment, first: int) -> int:
        """Records from `first` on that the last start did not find settled already."""
        buffer = self._map(segment)
        gone = dict(zip(segment.deleted[::2], segment.deleted[1::2], strict=True)) if segment.deleted else {}
        count = 0
        offset = FILE_HEADER_BYTES
        while (begin := segment.block_after(offset)) < segment.size:
            end = payload_end(buffer, begin)
            index = begin + BLOCK_HEADER_BYTES
            # A record in the middle of a block is found without walking the block up to it.
            if index < first < end:
                index = first
            while index < end and end > first:
                skipped = gone.get(index)
                if skipped is None:
                    index += _record_bytes(buffer, index)[0]
                    count += 1
                else:
                    index = skipped
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
                self._settle_range(segment, FILE_HEADER_BYTES, segment.size, segment.live)
        if unread:
            segment = self._segments[number]
            self._settle_range(segment, read & OFFSET_MASK, segment.size, unread)
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
        """Write what this turn brought: the tail as one block, each ack log once; unlink what is settled as a whole.

        A tail whose records are all settled by now is dropped, and nothing of it is written. Raises OSError; then
        nothing is lost, and it can be called again.
        """
        self._unlink_settled()
        if self._tail_count:
            self._write_tail()
        touched = self._touched
        while touched:
            self._write_acks(touched[-1])
            touched.pop()

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
        segment.remove(self._files)
        del self._segments[segment.number]
        if self._read < self._tail_base and self._read >> 32 == segment.number:
            self._leave(segment.number)

    def _write_acks(self, segment: Segment) -> None:
        if self._durable and segment.settled:
            try:
                segment.acks.write(self._files, segment.acks_path, segment.number, segment.salt, segment.settled)
            except OSError:
                # No room to note what is settled, but then it need not be noted if all of it is.
                if segment is not self._active or segment.live:
                    raise
                self._seal()
                self._unlink(segment)
        segment.settled = None

    def _write_tail(self) -> None:
        if self._tail_settled_count == self._tail_count:
            self._rewind()
            return
        tail = self._tail
        self._write_block(self._tail_count, (tail,), len(tail))
        self._block_written(self._tail_count - self._tail_settled_count, len(tail))

    def _rewind(self) -> None:
        """All of the tail is settled, so nobody knows its positions any more: use them again."""
        if self._read >= self._tail_base:
            self._read = self._read_end = self._tail_base
        self._tail_settled = None
        self._empty_tail()

    def _empty_tail(self) -> None:
        self._tail.clear()
        self._tail_count = 0
        self._tail_settled_count = 0
        self._tail_bytes_max = self._tail_room()

    def _write_block(self, count: int, parts: Sequence[Buffer], payload_bytes: int) -> None:
        """Write a block where the tail is to be. Raises OSError; then nothing has changed that anybody can see."""
        files = self._files
        segment = self._active or self._create_segment()
        start = segment.size
        end = aligned(start + BLOCK_HEADER_BYTES + payload_bytes)
        if end > SEGMENT_OFFSET_MAX + BLOCK_HEADER_BYTES:
            raise OSError(errno.EFBIG, "a message as large as that fits no segment", segment.path)
        header = block_header(Kind.RECORDS, segment.salt, start, count, parts, payload_bytes)
        segment.reserve(files, end, self._segment_bytes_max, sync=self._durable)
        if start == FILE_HEADER_BYTES:
            start = 0
            header = file_header(SEGMENT_MAGIC, segment.number, segment.salt) + header
        files.write(segment.path, start, (header, *parts), sync=self._durable)
        segment.written_at = _timestamp(parts[0], _TIMESTAMP_AT)[0] if len(parts[0]) >= RECORD_HEAD_BYTES else 0

    def _create_segment(self) -> Segment:
        self._files.make_directory(self._directory, sync=self._durable)
        segment = self._active = Segment(self._directory, self._number, self._files.nonce())
        self._segments[self._number] = segment
        return segment

    def _block_written(self, live: int, payload_bytes: int) -> None:
        """The tail is a written block now, and a new tail begins behind it."""
        segment = self._active
        assert segment is not None
        base = self._tail_base
        if self._read >= base:
            self._read_end = base + payload_bytes
        segment.live += live
        segment.touched()
        segment.size = aligned((base & OFFSET_MASK) + payload_bytes)
        self._tail_base = self._number << 32 | segment.size + BLOCK_HEADER_BYTES
        if self._tail_settled is not None:
            self._touch(segment).extend(self._tail_settled)
            self._tail_settled = None
        self._empty_tail()

    def _seal(self) -> None:
        """Go on in another segment; the tail is empty. What is settled of this one goes with the next flush."""
        segment = self._active
        assert segment is not None
        assert not self._tail_count
        read_at_tail = self._read >= self._tail_base
        self._active = None
        self._number += 1
        self._tail_base = self._number << 32 | FIRST_TAIL_OFFSET
        self._tail_bytes_max = self._tail_room()
        if read_at_tail:
            self._read = self._read_end = self._tail_base
        if segment.live == 0:
            self._touch(segment)
        try:
            segment.cut(self._files)
        except OSError:
            pass  # costs a few zeros that occupy no disk

    # ending -----------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Write what is left and close the files; a store with nothing in it leaves nothing behind.

        Raises OSError when the disk refuses; the files are closed all the same.
        """
        try:
            self.flush()
            self._drop_settled_active()
            if self._active is not None:
                self._active.cut(self._files)
        finally:
            self._forget_files()
        if not self._segments and not self._files.list(self._directory):
            self._files.remove_tree(self._directory)

    def delete(self) -> None:
        """Drop all messages and the directory. Raises OSError; then files are left which nobody will look at."""
        self._forget_files()
        self._segments = {}
        self._touched = []
        self._active = None
        self._tail = bytearray()
        self._requeued = array("Q")
        self._requeued_at = self._tail_count = self.ready_count = self.ready_bytes = self.unacknowledged_count = 0
        self._files.remove_tree(self._directory)

    def _forget_files(self) -> None:
        self._span = None
        for segment in self._segments.values():
            self._files.forget(segment.path)
            self._files.forget(segment.acks_path)

    def _drop_settled_active(self) -> int:
        """Unlink the active segment when all in it is settled; bytes of disk given back."""
        segment = self._active
        if segment is None or segment.live or self._tail_count:
            return 0
        size = segment.size
        self._seal()
        self.flush()
        return size

    # giving memory back -----------------------------------------------------------------------------------------------

    def children(self) -> Iterable[Compactable]:
        """Segments that remember something, which only recovered ones do."""
        return [segment for segment in self._segments.values() if segment.deleted or segment.holes]

    def shrink(self, level: Level, policy: ShrinkPolicy) -> Iterator[Step]:
        """Collections; the file and map of an idle queue; from RELEASE on the pages of cold segments, oldest first."""
        yield from super().shrink(level, policy)
        self._span = None
        try:
            size = self._drop_settled_active()
        except OSError as fault:
            yield Failed(SEGMENT_PAGES, str(fault))
            return
        if size:
            yield Freed("settled segment", size)
        if level >= Level.RELEASE:
            yield from self._release_cold(policy)

    def _release_cold(self, policy: ShrinkPolicy) -> Iterator[Step]:
        left = policy.release_bytes_max
        for number in sorted(self._segments):
            segment = self._segments.get(number)
            if segment is None or not self._is_cold(segment, policy) or segment.size > left:
                continue
            # Only clean pages leave the page cache.
            yield Offload(self._files.sync_batch(segment.path).run)
            # Anything may have happened to it meanwhile.
            if self._segments.get(number) is segment and self._is_cold(segment, policy):
                try:
                    self._files.release(segment.path)
                except OSError as fault:
                    yield Failed(SEGMENT_PAGES, str(fault))
                    continue
                segment.released(policy.now)
                left -= segment.size
                yield Freed(SEGMENT_PAGES, segment.size)

    def _is_cold(self, segment: Segment, policy: ShrinkPolicy) -> bool:
        return (
            segment is not self._active
            and segment.number != self._read >> 32
            and segment.written_at <= policy.cold_before
            and (segment.guard is None or segment.guard.may_release(policy.now))
        )


def _numbers(names: Iterable[str], suffix: str) -> list[int]:
    """Segment numbers in a directory; other files are not ours to touch."""
    stems = (os.path.basename(name).removesuffix(suffix) for name in names if name.endswith(suffix))
    return [int(stem) for stem in stems if len(stem) == 10 and stem.isdecimal()]
