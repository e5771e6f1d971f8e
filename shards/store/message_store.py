"""The messages of one queue: appended to an unwritten tail, flushed as blocks, walked by a read position, then settled.

```
   settled          unacknowledged, ready          ready                 ready
 ┌───────────┐   ┌──────────────────────────┐   ┌─────────────────┐   ┌───────────────┐
 │ unlinked  │   │ segment, sealed          │   │ active segment  │   │ unwritten tail│ ◄─ append
 └───────────┘   └──────────────┬───────────┘   └─────────────────┘   └───────────────┘
                          read position ─►                              one block at the next flush
```

What is written is a matter of `segments.py`, what is not of `tail.py`, what comes next of `reader.py`, what the journal
knows of `notes.py`. Here they are brought together: a tail becomes a block, and every message is counted. No message is
an object: a settled one is a number on its way to the ack log. How one is told from another: `position.py`.

Hot module. Compiled on CPython 3.11 with 57-byte records in turns of 1000: `append` 0.37 µs; a turn's flush 50 µs, its
spans, `advance` and `settle_run` 8 µs, its ack log 12 µs, so 0.45 µs a message in all; `settle` one by one 0.28 µs,
`settle_many` 0.01, `requeue` 1.75. A message that is written, read, settled and logged alone in its turn costs 15 µs.
Interpreted, bytes of bodies are counted one by one: a flush takes 0.40 ms, and `advance` 0.32.
"""

import errno
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from struct import Struct
from typing import ClassVar, Final, Self

from ipc.limits import RUN_BYTES_MIN, TAIL_BYTES_KEPT_MAX, WRITE_BACK_MS
from ipc.messages.commands import Level
from ipc.settings import StoreSettings
from shards.compaction.compactable import SEGMENT_PAGES, Compactable, Failed, Freed, ShrinkPolicy, Step
from shards.store.blocks import Buffer
from shards.store.cold_pages import offer_cold
from shards.store.columns import tally
from shards.store.files import Files
from shards.store.half_done import HalfDone, no_way_back
from shards.store.journal import Journal
from shards.store.moment import STILL, Moment
from shards.store.notes import Notes
from shards.store.position import FIRST_TAIL_OFFSET, LEVEL_SHIFT, OFFSET_MASK, block_base
from shards.store.reader import Reader, Span
from shards.store.record import EXPIRES, FLAGS_AT, PERSISTENT, body_bytes_of
from shards.store.recovery import RecoveryReport
from shards.store.register import NOTHING_KNOWN, Known, SegmentFacts
from shards.store.segment import Segment
from shards.store.segments import Segments
from shards.store.tail import Tail

_timestamp = Struct("<Q").unpack_from
_TIMESTAMP_AT: Final = 12
_RETURNS_MAX: Final = 2**32 - 1  # what the ack log has room for


class MessageStore(Compactable):
    """See the module. Single-threaded; only `flush`, `append_large`, `purge` and the read side touch files."""

    __slots__ = (
        "_notes",
        "_reader",
        "_returns",
        "has_expiring",
        "journal",
        "ready_bytes",
        "ready_count",
        "segments",
        "tail",
        "unacknowledged_count",
    )
    COLLECTIONS = ("_returns",)
    KIND = "stores"
    KINDS: ClassVar[Mapping[str, str]] = {"_returns": "delivery counts"}

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
        self.has_expiring = False  # whether any message may have an expiration of its own
        self.ready_count = 0
        self.ready_bytes = 0  # of their bodies
        self.unacknowledged_count = 0  # handed out, neither settled nor requeued
        self._returns: dict[int, int] = {}  # how often messages have come back, by position, where somebody counts
        self._notes = Notes(journal, store)
        self.segments = Segments(files, directory, settings.segment_bytes_max, self._notes, moment, is_durable=durable)
        self.tail = Tail(block_base((priority << LEVEL_SHIFT) + 1), self.segments.room_bytes)
        self._reader = Reader(self.segments, self.tail)

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
        if known.is_complete and not known.segments:
            return None
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
        found = recovering.segments.recover(known, report, priority)
        if found is None:
            return None
        for segment in recovering.segments.by_number.values():
            recovering._take_in(segment)
        report.messages += recovering.ready_count
        recovering._returns = found.returns
        recovering._notes.is_noted = True
        recovering._begin_tail(block_base(found.number + 1))
        recovering._reader.enter(min(recovering.segments.by_number))
        return recovering

    def _take_in(self, segment: Segment) -> None:
        self.ready_count += segment.live
        self.ready_bytes += segment.live_bytes
        self.has_expiring = self.has_expiring or segment.flags & EXPIRES > 0

    # state ------------------------------------------------------------------------------------------------------------

    @property
    def dirty(self) -> bool:
        """Whether `flush` has anything to do."""
        return bool(self.tail.count or self.segments.touched)

    @property
    def is_leaving(self) -> bool:
        """Whether the journal was told of messages that are settled before this is, with `note_leaving`."""
        return self._notes.is_leaving

    @property
    def is_vacant(self) -> bool:
        """Whether nothing is left in memory or on disk, so that the store itself can go.

        Positions that a journal knows must not be used again, and only this knows which they are.
        """
        is_empty = not (self.segments.by_number or self.dirty or self.ready_count or self.unacknowledged_count)
        return is_empty and not self._notes.in_journal

    @property
    def priority(self) -> int:
        """The level this is of a priority queue; else 0."""
        return self.tail.base >> 32 + LEVEL_SHIFT

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
        tail = self.tail
        if len(tail.records) + len(record) > tail.bytes_max:
            self._make_room(len(record))
        records = tail.records
        index = len(records)
        records += record
        try:
            tail.must_note = tail.must_note or record[FLAGS_AT] & PERSISTENT > 0
            tail.count += 1
            self.ready_count += 1
            self.ready_bytes += body_bytes_of(record)
            return tail.base + index
        except MemoryError as fault:
            raise HalfDone from fault

    def append_part(self, record: bytes) -> int:
        """The same for a record that is there after an end with all that is noted with it, or not at all."""
        position = self.append(record)
        self.tail.is_part = self.journal is not None
        return position

    def open_run(self) -> bytearray:
        """The unwritten tail, for a run of records to be appended to; it may grow to `tail.bytes_max`.

        Whoever appends says so with `appended` before anything else is asked of the store.
        """
        tail = self.tail
        if tail.bytes_max - len(tail.records) < RUN_BYTES_MIN:
            self._make_room(RUN_BYTES_MIN)
        return tail.records

    def appended(self, count: int, body_bytes: int, *, is_persistent: bool) -> None:
        """`count` whole records, with bodies of together `body_bytes`, were appended to what `open_run` gave."""
        tail = self.tail
        try:
            tail.must_note = tail.must_note or is_persistent
            tail.count += count
            self.ready_count += count
            self.ready_bytes += body_bytes
        except MemoryError as fault:
            raise HalfDone from fault

    def append_run(self, records: bytes, count: int, body_bytes: int, *, is_persistent: bool) -> None:
        """Take in `count` records that were already put together for another store; the rest as in `appended`."""
        if not self.tail.has_room(len(records)):
            self._make_room(len(records))
        self.tail.records += records
        self.appended(count, body_bytes, is_persistent=is_persistent)

    def append_large(self, parts: Sequence[Buffer], total_bytes: int) -> int:
        """Take a record in pieces, its head in the first, and write it at once, without a copy; its position.

        When the disk refuses, the record is copied into the tail and the next flush tells. It is copied, too, where
        it would have the tail written before all of a whole is noted that the tail has part of.
        """
        tail = self.tail
        if tail.is_part:
            return self.append(b"".join(parts))
        try:
            if tail.count:
                self._write_tail()
            if total_bytes > min(tail.bytes_limit, self.segments.room_bytes) and not self._is_at_segment_start:
                self._seal()
            self.segments.write(tail.base, 1, parts, total_bytes, sync=True)
        except OSError:
            return self.append(b"".join(parts))
        try:
            position = tail.base
            size = body_bytes_of(parts[0])
            self._tail_written(1, total_bytes, size, parts[0][FLAGS_AT])
            self._notes.is_noted = True
            self.ready_count += 1
            self.ready_bytes += size
        except MemoryError as fault:
            raise HalfDone from fault
        return position

    @property
    def _is_at_segment_start(self) -> bool:
        return self.tail.base & OFFSET_MASK == FIRST_TAIL_OFFSET

    def _make_room(self, record_bytes: int) -> None:
        """Write the tail early, or begin another segment, so that a record of this size has room.

        What is part of a whole is not written early, however much it is: the journal has all of it in one block.
        """
        tail = self.tail
        if tail.make_room(record_bytes):
            return
        if tail.count:
            self.note()
            self._drop_settled_front()
            if tail.has_room(record_bytes):
                return
            try:
                self._write_tail()
            except OSError as fault:
                # Keep it, in a segment that may become too large: flush() will tell, and succeed some day.
                tail.bytes_max = tail.bytes_limit
                if not tail.has_room(record_bytes):
                    raise OSError(errno.ENOSPC, "too much is waiting to be written", self.segments.directory) from fault
                return
        if record_bytes > tail.bytes_max and not self._is_at_segment_start:
            self._seal()
        # A record larger than a whole segment gets one of its own.
        tail.bytes_max = max(tail.bytes_max, record_bytes)

    # reading ----------------------------------------------------------------------------------------------------------

    def next_span(self) -> Span | None:
        """What to hand out next, None when nothing is ready; looking changes nothing until `advance`."""
        return self._reader.next_span(self._verify)

    def advance(self, count: int, end: int) -> None:
        """The first `count` records of the last span were handed out; the next one begins at index `end`."""
        with no_way_back:
            size = self._reader.advance(end) if count else None
            if size is not None:
                self.ready_count -= count
                self.unacknowledged_count += count
                self.ready_bytes -= size

    def read(self, position: int) -> Span:
        """Exactly the record at `position`, which is not settled."""
        return self._reader.read(position)

    def read_all(self) -> None:
        """Verify what only a register was asked of, for tools; raises OSError when a segment cannot be read."""
        for segment in list(self.segments.by_number.values()):
            if not segment.is_verified:
                self._verify(segment)

    def _verify(self, segment: Segment) -> None:
        """Read a segment whole, before the first message of it is handed out; correct what it was believed to have."""
        live, live_bytes = segment.live, segment.live_bytes
        returns = self.segments.verify(segment)
        self.ready_count -= live
        self.ready_bytes -= live_bytes
        self._take_in(segment)
        self._returns.update(returns)
        if not segment.live:
            self.segments.touch(segment)

    # settling ---------------------------------------------------------------------------------------------------------

    def settle(self, position: int) -> None:
        """A message handed out is done with. Settling one twice would lose another: the caller keeps the account."""
        with no_way_back:
            self.unacknowledged_count -= 1
            if self._returns:
                self._returns.pop(position, None)
            if position >= self.tail.base:
                self.tail.settle(position)
            else:
                self.segments.settle(position)

    def settle_many(self, positions: "array[int]") -> None:
        """The same for messages in no particular order; in runs, as long as they are in one segment."""
        tail = self.tail
        tail_base = tail.base
        count = len(positions)
        index = 0
        with no_way_back:
            while index < count:
                if positions[index] >= tail_base:
                    index = tail.settle_many(positions, index)
                else:
                    index = self.segments.settle_many(positions, index, tail_base)
            self.unacknowledged_count -= count
            if self._returns:
                for position in positions:
                    self._returns.pop(position, None)

    def settle_run(self, first: int, last: int, count: int) -> None:
        """All `count` messages from `first` to `last` in read order; all handed out, none settled or requeued."""
        with no_way_back:
            self.unacknowledged_count -= count
            if self._returns and count == 1:  # what has come back is handed out one by one
                self._returns.pop(first, None)
            tail = self.tail
            if first >= tail.base:
                tail.settle_run(first, last, count)
                return
            if last >= tail.base:
                count -= tail.settle_up_to(last)
                last = (tail.base & ~OFFSET_MASK) + self.segments.end
            self.segments.settle_run(first, last, count)

    def requeue(self, position: int) -> None:
        """A message handed out is ready again, before everything younger, and redelivered."""
        with no_way_back:
            self.ready_bytes += self._reader.requeue(position)
            self.ready_count += 1
            self.unacknowledged_count -= 1

    def note_return(self, position: int) -> int:
        """Count that a message handed out comes back; how often it has, as a restart will know, too."""
        count = self._returns[position] = self._returns.get(position, 0) + 1
        if self.segments.is_durable and _is_worth_noting(count):
            told = min(count, _RETURNS_MAX)
            if position >= self.tail.base:
                self.tail.touch().add_return(position & OFFSET_MASK, told)
            else:
                self.segments.note_return(position, told)
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
        with no_way_back:
            return self._purge()

    def _purge(self) -> int:
        count = self.ready_count
        requeued = self._reader.take_requeued()
        read = self._reader.position
        if self._returns:  # requeued ones forget it when they are settled
            self._returns = {position: count for position, count in self._returns.items() if position < read}
        self.unacknowledged_count += len(requeued)
        self.settle_many(requeued)
        if count > len(requeued):
            self._settle_unread(read, count - len(requeued))
        self.ready_count = self.ready_bytes = 0
        if self.tail.settled_count == self.tail.count:
            self._rewind()
            if self.segments.active is not None and self.segments.active.live == 0:
                self._seal()
        return count

    def _settle_unread(self, read: int, unread: int) -> None:
        """Settle everything from the read position on, `unread` records."""
        tail = self.tail
        if tail.count:
            from_tail = min(unread, tail.count)
            tail.settle_from(read, from_tail)
            unread -= from_tail
        self.segments.settle_from(read, unread)
        self._reader.pass_all()

    # writing ----------------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Write all there is: the tail as one block, each ack log once; unlink what is settled as a whole.

        A tail whose records are all settled by now is dropped, and nothing of it is written. Raises OSError; then
        nothing is lost, and it can be called again.
        """
        self.note()  # what a journal brought back otherwise, once no file says that it is settled
        self._unlink_settled()
        if self.tail.count:
            self._write_tail()
        self._write_acks()

    def tidy(self) -> bool:
        """After what was noted is in the journal: let go of what is settled; True when something waits to be written.

        Raises OSError as `flush`.
        """
        tail = self.tail
        tail.is_part = False
        self._unlink_settled()
        if tail.count and tail.settled_count == tail.count:
            self._rewind()
        elif len(tail.records) > TAIL_BYTES_KEPT_MAX:
            self._drop_settled_front()
            if len(tail.records) > TAIL_BYTES_KEPT_MAX // 2:
                self._write_tail()
        return self.dirty or self.is_leaving

    def write_back(self, now: int, *, whole: bool) -> bool:
        """Write what has waited for acknowledgements long enough, or all; True when something younger is left."""
        self.note()
        self._unlink_settled()
        self._drop_settled_front()
        tail = self.tail
        if tail.count and (whole or not now - WRITE_BACK_MS < _timestamp(tail.records, _TIMESTAMP_AT)[0] <= now):
            self._write_tail()
        self._write_acks()
        return self.dirty or self.is_leaving

    def _write_tail(self) -> None:
        tail = self.tail
        if tail.settled_count == tail.count:
            self._rewind()
            return
        self.note()
        records = tail.records
        must_tell = bool(self.journal is not None and tail.settled and not tail.noted)
        self.segments.write(tail.base, tail.count, (records,), len(records), sync=self.journal is None)
        try:
            self._tail_written(tail.count - tail.settled_count, len(records), *tally(records, 0, len(records)))
        except MemoryError as fault:
            raise HalfDone from fault
        self._notes.is_noted = True  # what becomes of it has to be: now it would come back
        if must_tell:
            # Nobody asked to keep these messages, so the journal has nothing of them, nor what became of them so far.
            self._write_acks()

    def _tail_written(self, live: int, payload_bytes: int, size: int, flags: int) -> None:
        """The tail is a written block now, and a new tail begins behind it; `size`: of the bodies, `flags`: of any."""
        tail, segments = self.tail, self.segments
        skip, base = segments.written(tail.base, live, payload_bytes, size, flags, tail.settled)
        self._reader.tail_written(payload_bytes, skip)
        tail.begin(base, segments.room_bytes)

    def _rewind(self) -> None:
        """All of the tail is settled: its positions can be used again, unless the journal may know some of them."""
        self.note()
        self._begin_tail(self.tail.base + (len(self.tail.records) if self._notes.is_noted else 0))

    def _seal(self) -> None:
        """Go on in another segment; the tail is empty."""
        assert not self.tail.count
        self.segments.seal()
        self._begin_tail(block_base((self.tail.base >> 32) + 1))

    def _begin_tail(self, base: int) -> None:
        """Another tail, in which nothing is, at this position."""
        is_read = self._reader.position >= self.tail.base
        self.tail.begin(base, self.segments.room_bytes)
        if is_read:
            self._reader.enter_tail()

    def _drop_settled_front(self) -> None:
        if self.tail.drop_settled_front(self.segments.room_bytes):
            self._reader.forget_span()

    def _unlink_settled(self) -> None:
        """Before anything is written, because it makes room on a full disk."""
        if self.segments.touched:
            try:
                self.segments.unlink_settled()
            finally:
                self._reader.leave_gone()

    def _write_acks(self) -> None:
        segments = self.segments
        if not segments.touched:
            return
        try:
            segments.write_acks()
        except OSError:
            # No room to note what is settled, but then it need not be noted if all of it is, and nothing is to follow.
            if segments.touched[-1] is not segments.active or not self._settled_active_bytes:
                raise
            self._seal()
            self._unlink_settled()
            segments.write_acks()

    # behind a journal -------------------------------------------------------------------------------------------------

    def note(self) -> Journal | None:
        """Tell the journal what has happened since it was told last; the journal, if it was told anything."""
        if self.journal is None:
            return None
        with no_way_back:
            return self._notes.note(self.tail, self.segments.touched)

    def note_leaving(self, positions: "array[int]") -> Journal | None:
        """Tell the journal that these are settled, before they are here; the journal, if there is one."""
        return self._notes.note_leaving(positions)

    def settle_left(self, positions: "array[int]") -> None:
        """What `note_leaving` told of these has been written: settle them here, and do not tell again.

        A disk may keep what was told second and lose what was told first, together with the copies of these messages.
        """
        self.note()
        self.settle_many(positions)
        self._notes.left(self.tail, self.segments.touched)

    # ending -----------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Write what is left and close the files; a store with nothing in it leaves nothing behind.

        Raises OSError when the disk refuses; the files are closed all the same.
        """
        try:
            self.flush()
            self._drop_settled_active()
            if self.segments.touch_settled():
                self.flush()
            self.segments.cut()
        finally:
            self._forget_files()
        self.segments.leave_nothing()

    def facts(self) -> Iterator[SegmentFacts]:
        """What a register may know of all segments of a store that is closed."""
        yield from self.segments.facts(None if self.unacknowledged_count else self.ready_bytes)

    def delete(self) -> None:
        """Drop all messages and the directory. Raises OSError; then files are left which nobody will look at."""
        self._forget_files()
        self._reader.take_requeued()
        self.tail.drop()
        self._returns = {}
        self.ready_count = self.ready_bytes = self.unacknowledged_count = 0
        self.segments.delete()

    def _forget_files(self) -> None:
        self._reader.forget_span()
        self.segments.close()

    @property
    def _settled_active_bytes(self) -> int:
        """The size of the active segment when all in it is settled, else 0."""
        segment = self.segments.active
        return 0 if segment is None or segment.live or self.tail.count else segment.size

    def _drop_settled_active(self) -> None:
        """Unlink the active segment when all in it is settled."""
        if self._settled_active_bytes:
            self._seal()
            self.flush()

    # giving memory back -----------------------------------------------------------------------------------------------

    def children(self) -> Iterable[Compactable]:
        return (self.segments, self.tail, self._reader) if self.tail.count else (self.segments, self._reader)

    def shrink(self, level: Level, policy: ShrinkPolicy) -> Iterator[Step]:
        """Collections; the file and map of an idle queue; from RELEASE on the pages of cold segments are offered."""
        yield from super().shrink(level, policy)
        size = self._settled_active_bytes
        if not policy.is_dry:
            self._reader.forget_span()
            try:
                self._drop_settled_active()
            except OSError as fault:
                yield Failed(SEGMENT_PAGES, str(fault))
                return
        if size:
            yield Freed("settled segment", size)
        if level >= Level.RELEASE:
            yield from offer_cold(self.segments, self._reader, policy)


def _is_worth_noting(count: int) -> bool:
    """Every one of the first 31 returns, then each that makes a thirty-second or more: else a message that comes and
    goes all day would fill the ack log."""
    return count % (1 << max(0, count.bit_length() - 5)) == 0
