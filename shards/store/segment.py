"""One file of messages: blocks of records, appended to until it is full, unlinked once all in it are settled.

What a register knows of a segment (`shards/store/register.py`) is believed when a store recovers, and verified when the
segment is first read.

`NUMBER.messages` begins with a file header and goes on with blocks of records (`shards/store/blocks.py`). The file is
made larger in advance, by doubling, so that a map of it needs renewing only that often; the zeros at its end occupy no
disk. A file in which something did not verify is renamed when its messages are settled, never removed.
"""

import errno
import mmap
import os
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple
from zlib import crc32

from ipc.errors import StartRefused
from ipc.limits import SEGMENT_BYTES_FIRST
from shards.compaction.compactable import Compactable
from shards.store import ack_log
from shards.store.ack_log import AckLog, RecoveredAcks, Settled
from shards.store.blocks import (
    BLOCK_HEADER_BYTES,
    FILE_HEADER_BYTES,
    PLACE,
    PLACED_HEADER_BYTES,
    SEGMENT_MAGIC,
    Block,
    BlockWalk,
    Kind,
    bytes_used,
    read_file_header,
)
from shards.store.columns import body_bytes, placed_blocks, tally
from shards.store.copying import Piece
from shards.store.files import Files
from shards.store.record import LENGTH, RECORD_HEAD, RECORD_HEAD_BYTES
from shards.store.recovery import RecoveryReport
from shards.store.register import UNKNOWN, SegmentFacts
from shards.store.thrash_guard import ThrashGuard

MESSAGES_SUFFIX: Final = ".messages"
ACKS_SUFFIX: Final = ".acks"
DAMAGED_SUFFIX: Final = ".damaged"
RECORDS_KINDS: Final = (Kind.RECORDS, Kind.PLACED_RECORDS)


def segment_name(number: int) -> str:
    """Of its file."""
    return f"{number:010d}{MESSAGES_SUFFIX}"


_FOUND_BY_READING: Final = (
    "acks",
    "capacity",
    "deleted",
    "flags",
    "has_returns",
    "holes",
    "is_damaged",
    "live",
    "live_bytes",
    "returned",
    "salt",
    "size",
    "skips",
    "skips_from",
)


class Segment(Compactable):
    """What is known of one segment. Offsets are those of positions, but for `size`, `capacity` and `holes`:

    ```
    positions   …│ block 1 │ settled before it was written │ block 2 │…
    file        …│ block 1 │ block 2 │…                      skip: how much there is of that
    ```
    """

    __slots__ = (
        "acks",
        "capacity",
        "deleted",
        "deleted_at",
        "flags",
        "guard",
        "has_returns",
        "holes",
        "is_damaged",
        "is_registered",
        "is_verified",
        "live",
        "live_bytes",
        "number",
        "path",
        "returned",
        "returned_at",
        "salt",
        "settled",
        "size",
        "skips",
        "skips_from",
        "used_at",
    )
    COLLECTIONS = ("deleted", "holes", "returned", "skips", "skips_from")
    KIND = "segment index"

    def __init__(self, directory: str, number: int, salt: int) -> None:
        self.number = number
        self.path = f"{directory}/{segment_name(number)}"
        self.salt = salt
        self.size = FILE_HEADER_BYTES  # where the next block goes
        self.capacity = 0  # of the file; 0: there is none yet
        self.skips_from: array[int] | None = None  # offsets from which on another skip holds
        self.skips: array[int] | None = None  # and the skips
        self.live = 0  # records in written blocks that are not settled
        self.used_at = 0  # broker time when it was read or written last
        self.live_bytes = 0  # of their bodies; UNKNOWN once some were settled, because nobody looks at those again
        self.flags = 0  # of all records, as far as they were looked at
        self.has_returns = False  # whether the ack log says of any how often it came back
        self.is_verified = True  # False: known from a register, and never read
        self.is_registered = False
        self.settled: Settled | None = None  # not yet in the ack log
        self.acks = AckLog()
        self.deleted: array[int] | None = None  # extents (first, end) of records settled before the last start
        self.deleted_at = 0  # index in `deleted` of the first extent the read position has not passed
        self.returned: array[int] | None = None  # where records begin that had come back before the last start
        self.returned_at = 0  # index in `returned` of the first one the read position has not passed
        self.holes: dict[int, int] | None = None  # stretches that did not verify: where each ends
        self.is_damaged = False
        self.guard: ThrashGuard | None = None  # once its pages were given back

    def pieces(self, *, is_sealed: bool) -> Iterator[Piece]:
        """What of its files belongs to it at this moment."""
        if self.size > FILE_HEADER_BYTES:
            yield Piece(self.path, self.size, is_final=is_sealed and self.capacity == self.size)
        if self.acks.end:
            yield Piece(self.acks_path, self.acks.end, is_final=False)

    def used(self, now: int) -> None:
        """Its pages are in memory again, or about to be."""
        self.used_at = now
        if self.guard is not None:
            self.guard.came_back(now)

    def released(self, now: int) -> None:
        """Its pages were given back."""
        if self.guard is None:
            self.guard = ThrashGuard()
        self.guard.released(now)

    @property
    def is_released(self) -> bool:
        """Whether its pages were given back and nobody has used them since."""
        return self.guard is not None and self.guard.is_released

    @property
    def remembers(self) -> bool:
        """Whether it holds more than a few numbers."""
        return bool(self.deleted or self.holes or self.returned or self.skips or self.settled)

    @classmethod
    def of(cls, directory: str, facts: SegmentFacts) -> "Segment":
        """One that nobody has read yet."""
        segment = cls(directory, facts.number, facts.salt)
        segment.size = segment.capacity = facts.size
        segment.live = facts.live
        segment.live_bytes = facts.live_bytes
        segment.flags = facts.flags
        segment.used_at = facts.used_at
        segment.acks = AckLog(facts.acks_end)
        segment.add_skip(FILE_HEADER_BYTES, facts.skip)
        segment.is_verified = False
        segment.is_registered = True
        return segment

    def take_over(self, found: "Segment") -> None:
        """What was known of it is replaced by what was found when it was read."""
        for name in _FOUND_BY_READING:
            setattr(self, name, getattr(found, name))
        self.is_verified = True
        self.is_registered = self.is_registered and not self.is_damaged

    @property
    def must_be_read(self) -> bool:
        """Whether every start has to read it, because a register cannot say what there is to know."""
        return self.is_damaged or self.has_returns or self.capacity != self.size

    def facts(self, store: int) -> SegmentFacts | None:
        """What a register may know of it; None when nothing is left in it."""
        if self.live <= 0:
            return None
        return SegmentFacts(
            store,
            self.number,
            self.salt,
            self.size,
            self.live,
            self.acks.end,
            self.skip,
            UNKNOWN if self.must_be_read or self.settled else self.live_bytes,
            self.flags,
            0,
            self.used_at,
        )

    def children(self) -> Iterable[Compactable]:
        return () if self.settled is None else (self.settled,)

    @property
    def acks_path(self) -> str:
        return self.path.removesuffix(MESSAGES_SUFFIX) + ACKS_SUFFIX

    @property
    def damaged_path(self) -> str:
        # The salt tells it from another segment of that number, should the queue start from one again.
        return self.path.removesuffix(MESSAGES_SUFFIX) + f"-{self.salt:08x}{DAMAGED_SUFFIX}"

    @property
    def skip(self) -> int:
        """What the last block's offsets differ by, of positions and in the file."""
        return self.skips[-1] if self.skips else 0

    @property
    def end(self) -> int:
        """Behind the last block, as an offset of positions."""
        return self.size + self.skip

    def skip_at(self, offset: int) -> int:
        """What to take from this offset to have that in the file."""
        if not self.skips or not self.skips_from:
            return 0
        index = bisect_right(self.skips_from, offset) - 1
        return self.skips[index] if index >= 0 else 0

    def add_skip(self, offset: int, skip: int) -> None:
        """From this offset on, behind all there is, another one holds."""
        if skip != self.skip:
            if self.skips is None or self.skips_from is None:
                self.skips, self.skips_from = array("q"), array("I")
            self.skips.append(skip)
            self.skips_from.append(offset)

    def block_after(self, offset: int) -> int:
        """Where in the file the next block begins, given where the last one ended."""
        return self.holes.get(offset, offset) if self.holes else offset

    def reserve(self, files: Files, needed_bytes: int, capacity_max: int, *, sync: bool) -> None:
        """See that the file has this size: a map may reach no further than its file."""
        if needed_bytes <= self.capacity:
            return
        capacity = max(self.capacity, SEGMENT_BYTES_FIRST)
        while capacity < needed_bytes:
            capacity *= 2
        capacity = max(needed_bytes, min(capacity, capacity_max))
        if self.capacity:
            files.allocate(self.path, capacity)
        else:
            self._create(files, capacity, sync=sync)
        self.capacity = capacity

    def _create(self, files: Files, capacity: int, *, sync: bool) -> None:
        try:
            files.create(self.path, capacity, sync=sync)
        except FileExistsError:
            # Somebody put it there while no start looked; it is kept for them, as what is damaged is.
            files.rename(self.path, self.damaged_path)
            files.create(self.path, capacity, sync=sync)

    def cut(self, files: Files) -> None:
        """Give back what was reserved behind the last block."""
        if self.capacity > self.size:
            files.allocate(self.path, self.size)
            self.capacity = self.size

    def remove(self, files: Files) -> None:
        """All of it is settled. The acks go last: without them a crash in between would bring messages back."""
        self.remove_messages(files)
        self.remove_acks(files)

    def remove_messages(self, files: Files) -> None:
        """The first half of `remove`."""
        if self.is_damaged:
            self._put_aside(files)
            self.is_damaged = False
        else:
            _unlink(files, self.path)

    def remove_acks(self, files: Files) -> None:
        """The second."""
        _unlink(files, self.acks_path)
        self.let_go()

    def let_go(self) -> None:
        """Nothing is left of it; whoever knows it still, such as a register, shall not keep what it remembered."""
        self.live = 0
        self.settled = self.guard = None
        self.deleted = self.returned = self.holes = self.skips = self.skips_from = None

    def _put_aside(self, files: Files) -> None:
        try:
            files.rename(self.path, self.damaged_path)
        except FileNotFoundError:
            pass  # which is what its damage is


def _unlink(files: Files, path: str) -> None:
    try:
        files.unlink(path)
    except IsADirectoryError:
        pass  # not ours, and no reason to take it for a disk that refuses


class SoundRun(NamedTuple):
    """Blocks of placed records that verified, one behind the other, with the same skip."""

    begin: int
    end: int
    last: int  # where the last of them begins
    messages: int
    body_bytes: int
    flags: int
    skip: int


def sound_runs(buffer: mmap.mmap, size: int, salt: int) -> Iterator[SoundRun]:
    """All of a segment up to the first block that does not verify, or is of another kind.

    Who publishes now and then leaves a block for each message. This takes 0.6 µs for each, `BlockWalk` 4 (measured).
    """
    offset = FILE_HEADER_BYTES
    with memoryview(buffer) as view:
        while offset + PLACED_HEADER_BYTES <= size:
            skip = PLACE.unpack_from(buffer, offset + BLOCK_HEADER_BYTES)[0] - offset - PLACED_HEADER_BYTES
            end, last, count, found_bytes, flags = placed_blocks(buffer, view, offset, size, salt, skip, crc32)
            if end == offset:
                break
            yield SoundRun(offset, end, last, count, found_bytes, flags, skip)
            offset = end


class Recovered(NamedTuple):
    """A segment with something left to deliver."""

    segment: Segment
    written_at: int  # what the last block's first record has for a timestamp
    returns: dict[int, int]  # how often some of them had come back, by their offsets


def recover_segment(
    files: Files, directory: str, number: int, report: RecoveryReport, *, is_last: bool
) -> Recovered | None:
    """Verify a segment, apply its ack log, cut its torn tail.

    None when nothing in it is left to deliver; its files are gone then, or kept under another name if damaged.
    Only the last segment of a store can have a torn tail; in any other what does not verify is damage.
    Raises StartRefused for a format version this broker does not know.
    """
    segment = Segment(directory, number, 0)
    segment.capacity = files.size(segment.path)
    survey = _Survey(files, segment, report, is_last=is_last)
    survey.run()
    files.forget(segment.path)
    if segment.live == 0:
        segment.remove(files)
        return None
    if not segment.is_damaged:
        segment.cut(files)
    return Recovered(segment, survey.written_at, survey.returns)


def known_segment(files: Files, directory: str, facts: SegmentFacts, *, is_certain: bool) -> Segment | None:
    """A segment as a register knows it; None when it is another now, or not known well enough.

    `is_certain`: nothing can have changed.

    Raises StartRefused for a format version this broker does not know.
    """
    if facts.live_bytes == UNKNOWN:
        return None
    segment = Segment.of(directory, facts)
    if is_certain:
        return segment
    try:
        acks_end = files.size(segment.acks_path)
    except FileNotFoundError:
        acks_end = 0
    if acks_end != facts.acks_end or files.size(segment.path) != facts.size:
        return None
    header = read_file_header(files.read(segment.path, 0, FILE_HEADER_BYTES), SEGMENT_MAGIC, segment.path)
    files.forget(segment.path)
    return segment if header is not None and (header.number, header.salt) == (facts.number, facts.salt) else None


def verify_segment(files: Files, segment: Segment, report: RecoveryReport) -> dict[int, int]:
    """Read a segment of which only a register was asked so far, and correct what it does not have as it was told.

    How often some of its messages had come back, by their offsets. Damage is told, and what verifies is served. Raises
    OSError when it cannot be read; then it can be tried again.
    """
    expected = segment.live
    found = Segment(os.path.dirname(segment.path), segment.number, segment.salt)
    survey = _Survey(files, found, report, is_last=False, expected=expected)
    try:
        found.capacity = files.size(segment.path)
        survey.run()
    except FileNotFoundError:
        survey.damaged("is gone")
    except IsADirectoryError:
        survey.damaged("is no file")
    except StartRefused as refused:
        raise OSError(errno.EIO, str(refused), segment.path) from refused
    if found.live > expected:
        # Its ack log is not what it was: better twice than never.
        report.damaged(f"{segment.acks_path} says nothing of {found.live - expected} messages any more: they return")
    elif found.live < expected and not found.is_damaged:
        survey.damaged("is not the file it was")
    segment.take_over(found)
    return survey.returns


class _Survey:
    """The one walk over a segment at start."""

    def __init__(
        self, files: Files, segment: Segment, report: RecoveryReport, *, is_last: bool, expected: int | None = None
    ) -> None:
        """`expected`: how many messages there should be, where somebody knows."""
        self._files = files
        self._expected = expected
        self._segment = segment
        self._report = report
        self._is_last = is_last
        self._extents = array("I")
        self.written_at = 0
        self.returns: dict[int, int] = {}

    def run(self) -> None:
        segment = self._segment
        size = segment.capacity
        if not size:
            return
        buffer = self._files.map(segment.path, size)
        header = read_file_header(buffer, SEGMENT_MAGIC, segment.path)
        if header is not None and header.number != segment.number:
            # Taking a copied or renamed file for its namesake would deliver messages twice.
            segment.salt = header.salt
            self.damaged(f"says that it is number {header.number}")
            return
        acks = self._recover_acks(header.salt) if header is not None else None
        start = FILE_HEADER_BYTES
        if header is not None and acks is not None and not (acks.ranges or acks.returns):
            start = self._run_through(buffer, header.salt)
        walk = BlockWalk(buffer, size, header.salt if header else None, RECORDS_KINDS, start)
        self._apply(walk, buffer, acks)
        segment.salt = walk.salt or 0
        segment.size = walk.end
        segment.holes = walk.holes or None
        segment.deleted = self._extents or None
        segment.has_returns = bool(self.returns)
        if self.returns:
            segment.returned = array("I", sorted(self.returns))
        self._judge(walk, buffer, has_header=header is not None)

    def _run_through(self, buffer: mmap.mmap, salt: int) -> int:
        """Take blocks in as they are, where nothing was settled; where the first is that needs a closer look."""
        segment = self._segment
        offset = FILE_HEADER_BYTES
        for run in sound_runs(buffer, segment.capacity, salt):
            segment.live += run.messages
            segment.live_bytes += run.body_bytes
            segment.flags |= run.flags
            segment.add_skip(run.begin + PLACED_HEADER_BYTES + run.skip, run.skip)
            if run.end - run.last >= PLACED_HEADER_BYTES + RECORD_HEAD_BYTES:
                self.written_at = RECORD_HEAD.unpack_from(buffer, run.last + PLACED_HEADER_BYTES)[-1]
            offset = run.end
        return offset

    def _apply(self, walk: BlockWalk, buffer: mmap.mmap, acks: RecoveredAcks | None) -> None:
        """Walk the blocks, leaving out what the ack log says is settled."""
        at = 0
        for block in walk:
            if acks is None:  # only now is the salt known for certain
                acks = self._recover_acks(walk.salt)
            self._segment.live += block.entries
            self._segment.add_skip(block.start + block.skip, block.skip)
            found_bytes, flags = tally(buffer, block.start, block.end)
            self._segment.live_bytes += found_bytes
            self._segment.flags |= flags
            if block.end - block.start >= RECORD_HEAD_BYTES:
                self.written_at = RECORD_HEAD.unpack_from(buffer, block.start)[-1]
            at = self._delete(block, buffer, acks.ranges, at)
            self._note_returns(block, buffer, acks)
        if acks is None:
            acks = self._recover_acks(walk.salt)
        self._report.acks_pruned += sum(1 for first, _end in acks.ranges if first >= walk.end + self._segment.skip)

    def _recover_acks(self, salt: int | None) -> RecoveredAcks:
        acks = ack_log.recover(self._files, self._segment.acks_path, salt)
        self._segment.acks = AckLog(acks.end)
        self._report.bytes_cut += acks.bytes_cut
        return acks

    def _note_returns(self, block: Block, buffer: mmap.mmap, acks: RecoveredAcks) -> None:
        """Which records of a block had come back; offsets where no live record begins say nothing."""
        offset, end = block.start + block.skip, block.end + block.skip
        at = bisect_left(acks.returned, offset)
        if at == len(acks.returned) or acks.returned[at] >= end:
            return
        index = bisect_left(self._extents, offset)
        extents = self._extents[index + index % 2 :]  # one of the block before may end where this begins
        gone = dict(zip(extents[::2], extents[1::2], strict=True))
        while offset < end:
            if offset in gone:
                offset = gone[offset]
                continue
            if offset in acks.returns:
                self.returns[offset] = acks.returns[offset]
            offset += max(RECORD_HEAD_BYTES, LENGTH.unpack_from(buffer, offset - block.skip)[0])

    def _delete(self, block: Block, buffer: mmap.mmap, ranges: list[tuple[int, int]], at: int) -> int:
        """Take the settled records of one block out; the index of the first range that may reach beyond it."""
        block_end = block.end + block.skip
        while at < len(ranges) and ranges[at][0] < block_end:
            first, end = ranges[at]
            self._delete_range(block, buffer, max(first, block.start + block.skip), min(end, block_end))
            if end > block_end:
                return at
            at += 1
        return at

    def _delete_range(self, block: Block, buffer: mmap.mmap, first: int, end: int) -> None:
        """Take the records out which begin in `first` <= offset < `end`."""
        offset = first
        while offset < end:
            (record_bytes,) = LENGTH.unpack_from(buffer, offset - block.skip)
            if record_bytes < RECORD_HEAD_BYTES or offset - block.skip + record_bytes > block.end:
                break  # no record begins here: an ack log that lies must not take messages with it
            offset += record_bytes
            self._segment.live -= 1
        if offset > first:
            self._segment.live_bytes -= body_bytes(buffer, first - block.skip, offset - block.skip)
            self._add_extent(block, first, offset)

    def _add_extent(self, block: Block, first: int, end: int) -> None:
        """Neighbours become one, but not those of two blocks: whoever reads goes block by block."""
        extents = self._extents
        if extents and extents[-1] == first and first != block.start + block.skip:
            extents[-1] = end
        else:
            extents.append(first)
            extents.append(end)

    def _judge(self, walk: BlockWalk, buffer: mmap.mmap, *, has_header: bool) -> None:
        """Tell damage from a write that was cut short by the end of the process."""
        left_over = bytes_used(buffer, walk.end, self._segment.capacity)
        if walk.holes:
            lost = sum(end - start for start, end in walk.holes.items())
            self.damaged(f"has {lost} bytes that do not verify")
        elif not has_header and (walk.salt is not None or not SEGMENT_MAGIC.startswith(buffer[:8].rstrip(b"\0"))):
            self.damaged("has a damaged file header")
        elif left_over and not self._is_last:
            self.damaged(f"has {left_over} bytes at its end that do not verify")
        else:
            self._report.bytes_cut += left_over

    def damaged(self, what: str) -> None:
        segment = self._segment
        segment.is_damaged = True
        if self._expected is not None:
            what += f"; {self._expected - segment.live} of {self._expected} messages are lost"
        self._report.damaged(f"{segment.path} {what}; what verifies is delivered, the file is kept")
