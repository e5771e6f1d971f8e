"""The written part of a store: its segments, the one that is appended to, and what of them is settled.

A segment of which all is settled is unlinked at once; what is settled of any other goes to its ack log with the next
flush. Recovery takes in what a directory holds, as far as a register knows it without reading it.
"""

import errno
import os
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from mmap import mmap
from struct import Struct
from typing import Final, NamedTuple

from ipc.limits import SEGMENT_OFFSET_MAX
from shards.compaction.compactable import Compactable
from shards.store.ack_log import Settled
from shards.store.blocks import (
    FILE_HEADER_BYTES,
    PLACE,
    PLACED_HEADER_BYTES,
    SEGMENT_MAGIC,
    Buffer,
    Kind,
    aligned,
    block_header,
    file_header,
    records_at,
)
from shards.store.columns import add_offsets
from shards.store.copying import Piece
from shards.store.files import Files
from shards.store.moment import Moment
from shards.store.notes import Notes
from shards.store.position import LEVEL_SHIFT, OFFSET_MASK, block_base
from shards.store.recovery import RecoveryReport
from shards.store.register import UNKNOWN, Known, SegmentFacts
from shards.store.segment import (
    ACKS_SUFFIX,
    MESSAGES_SUFFIX,
    Segment,
    known_segment,
    recover_segment,
    verify_segment,
)

_SEGMENT_BYTES: Final = 608  # of a segment's object, paths and ack log (measured)

_record_length = Struct("<I")
_record_bytes = _record_length.unpack_from


class Found(NamedTuple):
    """What recovery brought, beside segments."""

    number: int  # of the last segment there was
    returns: dict[int, int]  # how often some messages had come back, by their positions


class Segments(Compactable):
    """See the module. Positions given here are those of written records."""

    __slots__ = (
        "_bytes_max",
        "_moment",
        "_notes",
        "_report",
        "active",
        "by_number",
        "directory",
        "files",
        "is_durable",
        "touched",
    )
    COLLECTIONS = ("by_number",)
    KIND = "segment index"

    def __init__(
        self, files: Files, directory: str, bytes_max: int, notes: Notes, moment: Moment, *, is_durable: bool
    ) -> None:
        self.files = files
        self.is_durable = is_durable
        self.directory = directory
        self._bytes_max = bytes_max
        self._notes = notes
        self._moment = moment
        self._report: RecoveryReport | None = None  # who is told when a segment turns out to be damaged
        self.by_number: dict[int, Segment] = {}  # all that have a file, oldest first
        self.active: Segment | None = None  # the one that is appended to, made by its first block
        self.touched: list[Segment] = []  # with something settled that is not in the ack log

    # recovery ---------------------------------------------------------------------------------------------------------

    def recover(self, known: Known, report: RecoveryReport, priority: int | None) -> Found | None:
        """Take in what the directory holds; None when that is nothing, then the directory is gone.

        The rest as in `MessageStore.recover`.
        """
        self._report = report
        names: Sequence[str] = ()
        numbers = sorted(known.segments)
        if not known.is_complete:
            names = self.files.list(self.directory)
            numbers = sorted(_numbers(names, MESSAGES_SUFFIX))
        numbers = [number for number in numbers if _belongs(number, priority)]
        returns: dict[int, int] = {}
        for number in numbers:
            returns |= self._recover_segment(number, known, report, is_last=number == numbers[-1])
        for number in _numbers(names, ACKS_SUFFIX):
            if _belongs(number, priority) and number not in self.by_number:
                self.files.unlink(Segment(self.directory, number, 0).acks_path)
        if self.by_number:
            return Found(numbers[-1], returns)
        if numbers or not known.is_complete:
            self._leave_directory(numbers)
        return None

    def _recover_segment(
        self, number: int, known: Known, report: RecoveryReport, *, is_last: bool
    ) -> Mapping[int, int]:
        facts = known.segments.get(number)
        segment = None
        if facts is not None:
            segment = known_segment(self.files, self.directory, facts, is_certain=known.is_complete)
        if segment is not None:
            segment.used_at = min(segment.used_at, self._moment.now)
            self.by_number[number] = segment
            return {}
        try:
            recovered = recover_segment(self.files, self.directory, number, report, is_last=is_last)
        except FileNotFoundError:
            if not known.is_complete:
                raise
            report.damaged(f"{Segment(self.directory, number, 0).path} is gone")
            return {}
        if recovered is None:
            return {}
        # Not when it was verified, which was just now: that says nothing about who is going to need it.
        recovered.segment.used_at = min(recovered.written_at, self._moment.now)
        self.by_number[number] = recovered.segment
        self._notes.written_behind(recovered.segment.acks_path)
        self._notes.sealed(recovered.segment)
        return _placed(number, recovered.returns)

    def _leave_directory(self, numbers: Sequence[int]) -> None:
        """Nothing was found in the segments of these numbers."""
        if not self.files.list(self.directory):
            self.files.remove_tree(self.directory)
        elif numbers:
            # What is in the way now keeps the directory, and numbers are used again.
            self.files.sync_batch(Segment(self.directory, numbers[0], 0).path).run()

    def verify(self, segment: Segment) -> Mapping[int, int]:
        """Read a segment whole, and correct what it was believed to have; how often messages had come back, by their
        positions. Raises OSError when it cannot be read; then it can be tried again."""
        assert self._report is not None
        return _placed(segment.number, verify_segment(self.files, segment, self._report))

    # look-ups ---------------------------------------------------------------------------------------------------------

    def find(self, position: int) -> tuple[bytearray | mmap, int]:
        """What the record at this position is read from, and the position at index 0 of that."""
        segment = self.by_number[position >> 32]
        base = (position & ~OFFSET_MASK) + segment.skip_at(position & OFFSET_MASK)
        try:
            return self.map(segment), base
        except OSError:
            # Whoever goes gives back what it held, and nothing asks for that again: better without a map.
            return self._copied(segment, position - base), position

    def _copied(self, segment: Segment, at: int) -> bytearray:
        """The record that begins at this offset in the file; raises OSError."""
        (record_bytes,) = _record_bytes(self.files.read(segment.path, at, _record_length.size))
        return bytearray(self.files.read(segment.path, at, record_bytes))

    def map(self, segment: Segment) -> mmap:
        segment.used(self._moment.now)
        return self.files.map(segment.path, segment.capacity)

    def unmap(self, segment: Segment) -> None:
        self.files.forget(segment.path)

    def behind(self, number: int) -> int | None:
        """The next segment that has a file; None: there is only the tail."""
        if number + 1 in self.by_number:
            return number + 1
        # A gap is rare: what was behind the read position went away as a whole.
        return min((other for other in self.by_number if other > number), default=None)

    @property
    def end(self) -> int:
        """Behind the last block of the active segment, as an offset of positions."""
        return self.active.end if self.active is not None else FILE_HEADER_BYTES

    @property
    def room_bytes(self) -> int:
        """What fits into the active segment as one more block; may be negative."""
        written = self.active.size if self.active is not None else FILE_HEADER_BYTES
        return self._bytes_max - written - PLACED_HEADER_BYTES

    @property
    def unread_count(self) -> int:
        """Segments of which only a register was asked so far."""
        return sum(not segment.is_verified for segment in self.by_number.values())

    def pieces(self) -> Iterator[Piece]:
        """What of the files belongs to the store at this moment; the rest of it is in its journal, if it has one."""
        for segment in tuple(self.by_number.values()):
            yield from segment.pieces(is_sealed=segment is not self.active)

    # writing ----------------------------------------------------------------------------------------------------------

    def write(self, base: int, count: int, parts: Sequence[Buffer], payload_bytes: int, *, sync: bool) -> None:
        """Write a block of so many records, of which the first has the position `base`.

        Raises OSError; then nothing has changed that anybody can see.
        """
        files = self.files
        segment = self.active or self._create(base >> 32)
        start = segment.size
        end = aligned(start + PLACED_HEADER_BYTES + payload_bytes)
        if max(end, (base & OFFSET_MASK) + payload_bytes) > SEGMENT_OFFSET_MAX + PLACED_HEADER_BYTES:
            raise OSError(errno.EFBIG, "a message as large as that fits no segment", segment.path)
        parts = (PLACE.pack(base & OFFSET_MASK, 0), *parts)
        header = block_header(Kind.PLACED_RECORDS, segment.salt, start, count, parts, PLACE.size + payload_bytes)
        segment.reserve(files, end, self._bytes_max, sync=self.is_durable)
        if start == FILE_HEADER_BYTES:
            start = 0
            header = file_header(SEGMENT_MAGIC, segment.number, segment.salt) + header
        self._notes.written_behind(segment.path)
        files.write(segment.path, start, (header, *parts), sync=sync and self.is_durable)

    def _create(self, number: int) -> Segment:
        self.files.make_directory(self.directory, sync=self.is_durable)
        segment = self.active = Segment(self.directory, number, self.files.nonce())
        self.by_number[number] = segment
        return segment

    def written(
        self, base: int, live: int, payload_bytes: int, size: int, flags: int, settled: Settled | None
    ) -> tuple[int, int]:
        """What `write` wrote is part of the active segment now; the block's skip, and the base of the next one.

        `live` of the records are not settled, `settled` are the others; `size`: of the bodies, `flags`: of any.
        """
        segment = self.active
        assert segment is not None
        start = segment.size + PLACED_HEADER_BYTES
        skip = (base & OFFSET_MASK) - start
        segment.add_skip(base & OFFSET_MASK, skip)
        segment.live += live
        segment.used(self._moment.now)
        segment.flags |= flags
        if segment.live_bytes != UNKNOWN:
            segment.live_bytes += size
        segment.size = aligned(start + payload_bytes)
        if settled is not None:
            self.touch(segment).extend(settled)
        return skip, block_base(segment.number, segment.end)

    def seal(self) -> None:
        """Nothing is appended to the active segment any more. What is settled of it goes with the next flush."""
        segment, self.active = self.active, None
        if segment is None:
            return  # nothing in it was ever written
        if segment.live == 0:
            self.touch(segment)
        try:
            segment.cut(self.files)
        except OSError:
            pass  # costs a few zeros that occupy no disk
        self._notes.sealed(segment)

    # settling ---------------------------------------------------------------------------------------------------------

    def touch(self, segment: Segment) -> Settled:
        """Where it is noted what becomes of its records."""
        settled = segment.settled
        if settled is None:
            settled = segment.settled = Settled()
            segment.live_bytes = UNKNOWN
            self.touched.append(segment)
        return settled

    def settle(self, position: int) -> None:
        segment = self.by_number[position >> 32]
        segment.live -= 1
        (segment.settled or self.touch(segment)).offsets.append(position & OFFSET_MASK)

    def settle_many(self, positions: "array[int]", index: int, end: int) -> int:
        """Those from `index` on that are in the same segment and before `end`; the index of the first that is not."""
        number = positions[index] >> 32
        segment = self.by_number[number]
        offsets = (segment.settled or self.touch(segment)).offsets
        behind = add_offsets(positions, index, number << 32, min(number + 1 << 32, end), offsets)
        segment.live -= behind - index
        return behind

    def settle_run(self, first: int, last: int, count: int) -> None:
        """All `count` messages from `first` to `last` in read order; none of them is settled."""
        while first >> 32 != last >> 32:
            count -= self._settle_rest_of(first)
            following = self.behind(first >> 32)
            if following is None or following > last >> 32:
                break
            first = following << 32 | FILE_HEADER_BYTES
        if count:
            self._settle_range(self.by_number[first >> 32], first & OFFSET_MASK, (last & OFFSET_MASK) + 1, count)

    def settle_from(self, first: int, count: int) -> None:
        """All `count` messages from `first` on; all that is live behind its segment is among them."""
        number = first >> 32
        for segment in list(self.by_number.values()):
            if segment.number > number and segment.live:
                count -= segment.live
                self._settle_range(segment, FILE_HEADER_BYTES, segment.end, segment.live)
        if count:
            segment = self.by_number[number]
            self._settle_range(segment, first & OFFSET_MASK, segment.end, count)

    def note_return(self, position: int, count: int) -> None:
        """The message there has come back, so many times by now."""
        segment = self.by_number[position >> 32]
        (segment.settled or self.touch(segment)).add_return(position & OFFSET_MASK, count)

    def _settle_range(self, segment: Segment, first: int, end: int, count: int) -> None:
        segment.live -= count
        self.touch(segment).add_range(first, end)

    def _settle_rest_of(self, first: int) -> int:
        """Settle what is left of a segment from `first` on; how many records that is."""
        segment = self.by_number[first >> 32]
        offset = first & OFFSET_MASK
        count = _count_from(segment, self.map(segment), offset)
        self._settle_range(segment, offset, segment.end, count)
        return count

    def unlink_settled(self) -> None:
        """Let go of what is settled as a whole. Raises OSError; then it can be tried again."""
        kept = []
        try:
            while self.touched:
                segment = self.touched[-1]
                assert segment.live >= 0, f"{segment.path}: more settled than there was"
                if segment.live or segment is self.active:
                    kept.append(segment)
                else:
                    self._unlink(segment)
                self.touched.pop()
        finally:
            self.touched.extend(reversed(kept))

    def _unlink(self, segment: Segment) -> None:
        if segment.number in self.by_number:
            # Its entry in the directory, too, must not come back once the journal has forgotten what is settled.
            self._notes.written_behind(segment.path)
            segment.remove_messages(self.files)
            del self.by_number[segment.number]  # nobody must look for it now, even if its acks are in the way
        segment.remove_acks(self.files)

    def touch_settled(self) -> bool:
        """Have unlinked what is settled but was never looked at again since: a register tells of messages only."""
        settled = [segment for segment in self.by_number.values() if not segment.live]
        for segment in settled:
            self.touch(segment)
        return bool(settled)

    def write_acks(self) -> None:
        """Write what is settled to the ack logs. Raises OSError; then the rest can be written again."""
        touched = self.touched
        while touched:
            segment = touched[-1]
            if self.is_durable and segment.settled:
                self._notes.written_behind(segment.acks_path)
                segment.acks.write(self.files, segment.acks_path, segment.number, segment.salt, segment.settled)
                segment.has_returns = segment.has_returns or len(segment.settled.returns) > 0
            segment.settled = None
            touched.pop()

    # ending -----------------------------------------------------------------------------------------------------------

    def cut(self) -> None:
        """Give back what was reserved behind the last block. Raises OSError."""
        if self.active is not None:
            self.active.cut(self.files)

    def close(self) -> None:
        """What is left of the files is closed."""
        for segment in self.by_number.values():
            self.files.forget(segment.path)
            self.files.forget(segment.acks_path)

    def leave_nothing(self) -> None:
        """A directory with nothing in it goes."""
        if not self.by_number and not self.files.list(self.directory):
            self.files.remove_tree(self.directory)

    def delete(self) -> None:
        """Raises OSError; then files are left which nobody will look at."""
        for segment in self.by_number.values():
            segment.let_go()
        self.by_number = {}
        self.touched = []
        self.active = None
        self.files.remove_tree(self.directory)

    def facts(self, live_bytes: int | None) -> Iterator[SegmentFacts]:
        """What a register may know of all segments of a store that is closed; `live_bytes`: of all bodies together, if
        nothing is handed out."""
        known = 0
        unknown: list[SegmentFacts] = []
        for segment in tuple(self.by_number.values()):
            facts = segment.facts(self._notes.store)
            if facts is None:
                continue
            if facts.live_bytes == UNKNOWN:
                unknown.append(facts)
            else:
                known += facts.live_bytes
                yield facts
        # The bytes of one can be told by those of the others.
        if len(unknown) == 1 and live_bytes is not None and not self.by_number[unknown[0].number].must_be_read:
            unknown = [unknown[0]._replace(live_bytes=live_bytes - known)]
        yield from unknown

    def registered(self) -> Iterator[SegmentFacts]:
        """What a register knows of segments, as far as that has not changed."""
        for segment in tuple(self.by_number.values()):
            facts = segment.facts(self._notes.store) if segment.is_registered else None
            if facts is not None and facts.live_bytes != UNKNOWN:
                yield facts

    # giving memory back -----------------------------------------------------------------------------------------------

    def children(self) -> Iterable[Compactable]:
        """Segments that remember something."""
        return [segment for segment in self.by_number.values() if segment.remembers]

    def holdings(self) -> Iterable[tuple[str, int]]:
        """Pages of segments are the kernel's and not counted here."""
        return ((self.KIND, _SEGMENT_BYTES * len(self.by_number)),)


def _placed(number: int, returns: Mapping[int, int]) -> dict[int, int]:
    """By positions what was by offsets."""
    return {number << 32 | offset: count for offset, count in returns.items()}


def _count_from(segment: Segment, buffer: Buffer, first: int) -> int:
    """Records from offset `first` on that the last start did not find settled already."""
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


def level_of(name: str) -> int | None:
    """Which level of a priority queue a file belongs to; None for a file that is not ours."""
    stem = os.path.basename(name).partition(".")[0]
    return int(stem) >> LEVEL_SHIFT if _is_number(stem) else None


def _belongs(number: int, priority: int | None) -> bool:
    return priority in (None, number >> LEVEL_SHIFT)


def _numbers(names: Iterable[str], suffix: str) -> list[int]:
    """Segment numbers in a directory; other files are not ours to touch."""
    stems = (os.path.basename(name).removesuffix(suffix) for name in names if name.endswith(suffix))
    return [int(stem) for stem in stems if _is_number(stem)]


def _is_number(stem: str) -> bool:
    return len(stem) == 10 and stem.isdecimal()
