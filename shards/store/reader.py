"""What of a store is handed out next: messages that came back, then those behind the read position.

No message is an object here: a ready one is bytes behind the read position, which walks segments and then the tail.
"""

import errno
from array import array
from bisect import insort
from collections.abc import Callable
from mmap import mmap
from struct import Struct
from typing import TypeAlias

from shards.compaction.compactable import Compactable
from shards.store.blocks import FILE_HEADER_BYTES, aligned, records_at
from shards.store.columns import body_bytes
from shards.store.position import OFFSET_MASK
from shards.store.segment import Segment
from shards.store.segments import Segments
from shards.store.tail import Tail

Verify: TypeAlias = Callable[[Segment], None]
"""Read a segment whole of which only a register was asked so far, and correct what it was believed to have."""

_record_bytes = Struct("<I").unpack_from


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


class Reader(Compactable):
    """See the module. Whoever changes segments or tail tells it."""

    __slots__ = ("_end", "_requeued", "_requeued_at", "_segments", "_skip", "_span", "_tail", "_unsized", "position")
    COLLECTIONS = ("_requeued",)
    KIND = "requeued messages"

    def __init__(self, segments: Segments, tail: Tail) -> None:
        self._segments = segments
        self._tail = tail
        self.position = tail.base  # of the next record that was never handed out
        self._end = tail.base  # of the written block it is in
        self._skip = 0  # of that block, as in `Segment`
        self._requeued = array("Q")  # sorted; those before `_requeued_at` have been handed out again
        self._requeued_at = 0
        self._unsized: frozenset[int] = frozenset()  # of those, what was not counted because it could not be read
        self._span: Span | None = None  # the last one given, until it is advanced over

    # handing out ------------------------------------------------------------------------------------------------------

    def next_span(self, verify: Verify) -> Span | None:
        """What to hand out next, None when nothing is ready; looking changes nothing until `advance`.

        `verify` is asked before the first message of a segment that nobody has read.
        """
        requeued = self._requeued
        if requeued:
            span = self._span = self._one(requeued[self._requeued_at], redelivered=True)
            return span
        tail = self._tail
        while True:
            position = self.position
            tail_base = tail.base
            if position >= tail_base:
                records = tail.records
                start = position - tail_base
                end = len(records)
                if start == end:
                    return None
                span = self._span = Span(records, start, end, tail_base)
                return span
            if position < self._end:
                number = position >> 32
                segment = self._segments.by_number[number]
                start = position & OFFSET_MASK
                end = self._end & OFFSET_MASK
                if segment.deleted is not None:
                    start, end = self._without_deleted(segment, start, end)
                    if start == end:
                        continue
                if segment.returned is not None:
                    end = _up_to_returned(segment, start, end)
                    if start == end:
                        span = self._span = self._one(position, redelivered=True)
                        return span
                skip = self._skip
                buffer = self._segments.map(segment)
                span = self._span = Span(buffer, start - skip, end - skip, (number << 32) + skip)
                return span
            self._next_block(verify)

    def advance(self, end: int) -> int | None:
        """The records of the last span up to index `end` were handed out; bytes of their bodies.

        None when there is no such span any more.
        """
        span = self._span
        if span is None:
            return None
        self._span = None
        size = body_bytes(span.buffer, span.start, end)
        if self._requeued:
            if self._unsized and span.base + span.start in self._unsized:
                self._unsized -= {span.base + span.start}
                size = 0
            self._requeued_taken()
        else:
            self.position = span.base + end
        return size

    def read(self, position: int) -> Span:
        """Exactly the record at `position`, which is not settled."""
        return self._one(position, redelivered=False)

    def _one(self, position: int, *, redelivered: bool) -> Span:
        tail = self._tail
        buffer: bytearray | mmap
        if position >= tail.base:
            buffer, base = tail.records, tail.base
        else:
            buffer, base = self._segments.find(position)
        index = position - base
        return Span(buffer, index, index + _record_bytes(buffer, index)[0], base, redelivered=redelivered)

    # what came back ---------------------------------------------------------------------------------------------------

    def requeue(self, position: int) -> int:
        """Hand this one out again, before everything younger; bytes of its body, 0 when it cannot be read now.

        Whoever gives it back has gone, and nobody would give it back once more.
        """
        insort(self._requeued, position, self._requeued_at)
        try:
            span = self._one(position, redelivered=True)
        except (OSError, MemoryError):
            self._unsized |= {position}
            return 0
        return body_bytes(span.buffer, span.start, span.end)

    def take_requeued(self) -> "array[int]":
        """Those that came back and were not handed out again, which will not be now."""
        requeued = self._requeued[self._requeued_at :]
        self._forget_requeued()
        self._span = None
        return requeued

    def _requeued_taken(self) -> None:
        """The first of the requeued ones was handed out; those passed are dropped in halves, not one by one."""
        self._requeued_at += 1
        if self._requeued_at == len(self._requeued):
            self._forget_requeued()
        elif self._requeued_at > 64 and self._requeued_at * 2 > len(self._requeued):
            del self._requeued[: self._requeued_at]
            self._requeued_at = 0

    def _forget_requeued(self) -> None:
        self._requeued = array("Q")
        self._requeued_at = 0
        self._unsized = frozenset()

    # the read position ------------------------------------------------------------------------------------------------

    def enter(self, number: int) -> None:
        """Read on from the beginning of a segment."""
        self.position = self._end = number << 32 | FILE_HEADER_BYTES
        self._skip = 0

    def enter_tail(self) -> None:
        """Read on from the beginning of the tail."""
        self.position = self._end = self._tail.base

    def pass_all(self) -> None:
        """Nothing there is now is handed out any more."""
        self.position = self._end = self._tail.base + len(self._tail.records)

    def tail_written(self, payload_bytes: int, skip: int) -> None:
        """The tail has become a block of so many bytes."""
        base = self._tail.base
        if self.position >= base:
            self._end = base + payload_bytes
            self._skip = skip

    def leave_gone(self) -> None:
        """Segments were unlinked, this one perhaps: then read on behind it."""
        position = self.position
        if position < self._tail.base and position >> 32 not in self._segments.by_number:
            self._leave(position >> 32)

    def forget_span(self) -> None:
        """The last one given is good no more."""
        self._span = None

    def _next_block(self, verify: Verify) -> None:
        """Move the read position from the end of a block to the next one, or into the tail."""
        number = self._end >> 32
        segments = self._segments
        segment = segments.by_number[number]
        if not segment.is_verified:
            verify(segment)
        offset = segment.block_after(aligned((self._end & OFFSET_MASK) - self._skip))
        if offset < segment.size:
            try:
                start, end, skip = records_at(segments.map(segment), offset)
            except ValueError as fault:
                raise OSError(errno.EIO, f"changed under the broker: {fault}", segment.path) from fault
            self.position = number << 32 | start + skip
            self._end = number << 32 | end + skip
            self._skip = skip
            return
        if segment is not segments.active:
            segments.unmap(segment)
        self._leave(number)

    def _leave(self, number: int) -> None:
        """Read on behind a segment: in the next one that has a file, or in the tail."""
        following = self._segments.behind(number)
        if following is None:
            self.enter_tail()
        else:
            self.enter(following)

    def _without_deleted(self, segment: Segment, start: int, end: int) -> tuple[int, int]:
        """The part of a block up to the next record the last start found settled; empty after stepping over one."""
        deleted = segment.deleted
        at = segment.deleted_at
        if deleted is None or at >= len(deleted):
            return start, end
        if deleted[at] == start:
            segment.deleted_at = at + 2
            self.position = segment.number << 32 | deleted[at + 1]
            return end, end
        return start, min(end, deleted[at])


def _up_to_returned(segment: Segment, start: int, end: int) -> int:
    """Where the part of a block ends that had not come back before the last start; `start` itself when it had."""
    returned = segment.returned
    if returned is None:
        return end
    at = segment.returned_at
    while at < len(returned) and returned[at] < start:
        at += 1
    segment.returned_at = at
    return min(end, returned[at]) if at < len(returned) else end
