"""After a sudden end: what stands in a journal only is put in its place, and then the journal is empty.

What the journal says is applied to segments and ack logs as files, before any store looks at them, and only where it is
missing: positions are never used twice, so a record is there or it is not. A replay that is cut off is repeated.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from shards.store import ack_log
from shards.store.ack_log import AckLog, Settled
from shards.store.blocks import (
    BLOCK_HEADER_BYTES,
    ENTRY,
    FILE_HEADER_BYTES,
    JOURNAL_KINDS,
    JOURNAL_MAGIC,
    PLACE,
    SEGMENT_MAGIC,
    BlockWalk,
    Buffer,
    EntryKind,
    Kind,
    aligned,
    block_header,
    file_header,
    read_file_header,
    records_at,
)
from shards.store.files import Files
from shards.store.journal import JOURNAL_SUFFIX
from shards.store.record import LENGTH, RECORD_HEAD_BYTES
from shards.store.recovery import RecoveryReport
from shards.store.segment import RECORDS_KINDS, Segment, sound_runs

_OFFSET_BYTES: Final = 4


class Entry(NamedTuple):
    """One thing a turn noted, as `shards/store/journal.py` lays it out."""

    store: int
    kind: EntryKind
    segment: int
    payload: memoryview


def replay(files: Files, directory: str, store_directory: Callable[[int], str | None], report: RecoveryReport) -> None:
    """Put all in its place, on disk, and leave an empty journal; `store_directory`: None for a store that has gone.

    Raises OSError; then it can be repeated. Raises StartRefused for a format version this broker does not know.
    """
    behind: list[str] = []
    for number, replayed in gather(files, directory, report).items():
        place = store_directory(number)
        if place is not None:
            behind += replayed.put_in_place(files, place, report)
    files.sync_batch(*behind).run()
    files.remove_tree(directory)
    files.make_directory(directory, sync=True)
    files.take_unsynced().run()


def gather(files: Files, directory: str, report: RecoveryReport) -> "dict[int, Replayed]":
    """What a journal holds, by store."""
    stores: dict[int, Replayed] = {}
    for entry in read_entries(files, directory, report):
        stores.setdefault(entry.store, Replayed()).take(entry)
    return stores


def read_entries(files: Files, directory: str, report: RecoveryReport) -> Iterator[Entry]:
    """Everything a journal holds, in the order it was noted."""
    for name in files.list(directory):  # sorted, and so in order of their numbers
        stem = name.removesuffix(JOURNAL_SUFFIX)
        if name == stem or not stem.isdecimal():
            continue
        path = f"{directory}/{name}"
        content = files.read(path, 0, files.size(path))
        header = read_file_header(content, JOURNAL_MAGIC, path)
        if header is None or header.number != int(stem):
            continue  # was about to be used again, or its first write did not get through
        walk = BlockWalk(content, len(content), header.salt, JOURNAL_KINDS)
        for block in walk:
            yield from _entries_in(memoryview(content)[block.start : block.end])
        if walk.holes:
            lost = sum(end - start for start, end in walk.holes.items())
            report.damaged(f"{path} has {lost} bytes that do not verify; what verifies was replayed")


def _entries_in(payload: memoryview) -> Iterator[Entry]:
    at = 0
    while at < len(payload):
        store, kind, segment, size = ENTRY.unpack_from(payload, at)
        at += ENTRY.size
        yield Entry(store, EntryKind(kind), segment, payload[at : at + size])
        at += size


class Replayed:
    """What a journal says of one store, by segment."""

    def __init__(self) -> None:
        self.entries = 0
        self._appended: dict[int, list[tuple[int, memoryview]]] = {}
        self._settled: dict[int, Settled] = {}

    def take(self, entry: Entry) -> None:
        self.entries += 1
        if entry.kind is EntryKind.APPENDED:
            offset = int.from_bytes(entry.payload[:_OFFSET_BYTES], "little")
            self._appended.setdefault(entry.segment, []).append((offset, entry.payload[_OFFSET_BYTES:]))
            return
        self._settled.setdefault(entry.segment, Settled()).add(entry.kind, entry.payload)

    def put_in_place(self, files: Files, directory: str, report: RecoveryReport) -> Iterator[str]:
        """Paths of files that must be on disk before the journal goes: who wrote them may have had no time to sync."""
        for number in sorted(self._appended.keys() | self._settled.keys()):
            segment = _Completed(files, directory, number)
            segment.complete(self._appended.get(number, []), self._settled.get(number, Settled()))
            yield from segment.paths


class _Completed:
    """One segment that gets what it is missing."""

    def __init__(self, files: Files, directory: str, number: int) -> None:
        self._files = files
        self._directory = directory
        self._segment = Segment(directory, number, 0)
        self._exists = False
        self._size = 0  # of the file, before anything is appended
        self._end = FILE_HEADER_BYTES
        self._places: list[tuple[int, int, int]] = []  # positions from and to of blocks, and where each begins
        self._look()

    @property
    def paths(self) -> tuple[str, str]:
        return self._segment.path, self._segment.acks_path

    def _look(self) -> None:
        """What is there already."""
        segment = self._segment
        try:
            size = self._files.size(segment.path)
        except FileNotFoundError:
            return
        if not size:
            return
        self._size = size
        content = self._files.map(segment.path, size)
        header = read_file_header(content, SEGMENT_MAGIC, segment.path)
        start = FILE_HEADER_BYTES
        for run in sound_runs(content, size, header.salt) if header else ():
            start = run.end
            self._places = [_place(content, run.last)]
        walk = BlockWalk(content, size, header.salt if header else None, RECORDS_KINDS, start)
        self._places += [(block.start + block.skip, block.end + block.skip, block.begin) for block in walk]
        self._exists = header is not None or bool(self._places)
        segment.salt = walk.salt or 0
        self._end = walk.end
        self._holes = walk.holes
        self._files.forget(segment.path)

    def complete(self, appended: list[tuple[int, memoryview]], settled: Settled) -> None:
        if appended and self._exists:
            self._cut_disorder(appended[0][0])
        is_settled = _membership(settled)
        for offset, records in appended:
            for start, run in _runs(offset, records, lambda at: at >= self._places_end and not is_settled(at)):
                self._append(start, run)
        if self._exists and settled:
            self._settle(settled)
        if appended and self._exists and self._size > self._end:
            # What was torn is there again; what is left of it is no damage.
            self._files.allocate(self._segment.path, self._end)

    @property
    def _places_end(self) -> int:
        """Behind the last record there is. One before it that is not there was settled before that was written, even
        if the news of it are lost; appended now, it would come out behind those that came after it."""
        return self._places[-1][1] if self._places else 0

    def _cut_disorder(self, first: int) -> None:
        """After a power failure a block may be there and one before it not: what the journal has is written anew."""
        for hole, behind in self._holes.items():
            places = [place for place in self._places if place[2] >= behind]
            if all(place[0] >= first for place in places):
                self._files.allocate(self._segment.path, hole)
                self._places = self._places[: len(self._places) - len(places)]
                self._end = hole
                return

    def _append(self, offset: int, records: memoryview) -> None:
        segment = self._segment
        parts: list[bytes | memoryview] = [PLACE.pack(offset, 0), records]
        payload_bytes = PLACE.size + len(records)
        at = self._end
        head: list[bytes] = []
        if not self._exists:
            segment.salt = self._files.nonce()
            self._create()
            head.append(file_header(SEGMENT_MAGIC, segment.number, segment.salt))
            self._exists = True
        count = sum(1 for _ in _records(records))
        head.append(block_header(Kind.PLACED_RECORDS, segment.salt, at, count, parts, payload_bytes))
        self._places.append((offset, offset + len(records), at))
        self._end = aligned(at + BLOCK_HEADER_BYTES + payload_bytes)
        padding = bytes(self._end - at - BLOCK_HEADER_BYTES - payload_bytes)
        self._files.write(segment.path, 0 if len(head) > 1 else at, [*head, *parts, padding], sync=False)

    def _create(self) -> None:
        self._files.make_directory(self._directory, sync=True)
        self._files.unlink(self._segment.path)
        self._files.create(self._segment.path, 0, sync=True)

    def _settle(self, settled: Settled) -> None:
        segment = self._segment
        recovered = ack_log.recover(self._files, segment.acks_path, segment.salt)
        AckLog(recovered.end).write(self._files, segment.acks_path, segment.number, segment.salt, settled)


def _place(content: Buffer, begin: int) -> tuple[int, int, int]:
    """Of the block that begins there."""
    start, end, skip = records_at(content, begin)
    return start + skip, end + skip, begin


def _records(records: memoryview) -> Iterator[tuple[int, int]]:
    """Where each begins and ends."""
    at = 0
    while at < len(records):
        end = at + max(RECORD_HEAD_BYTES, LENGTH.unpack_from(records, at)[0])
        yield at, end
        at = end


def _membership(settled: Settled) -> Callable[[int], bool]:
    """Whether the record at an offset is settled."""
    singles = set(settled.offsets)
    ranges = settled.sorted_ranges()
    firsts, ends = ranges[::2], ranges[1::2]

    def is_settled(offset: int) -> bool:
        index = bisect_right(firsts, offset) - 1
        return offset in singles or (index >= 0 and offset < ends[index])

    return is_settled


def _runs(offset: int, records: memoryview, belongs: Callable[[int], bool]) -> Iterator[tuple[int, memoryview]]:
    """The records that belong to what is looked for, in runs, each with the offset of its first in positions."""
    run: int | None = None
    for at, _end in _records(records):
        if belongs(offset + at):
            run = at if run is None else run
        elif run is not None:
            yield offset + run, records[run:at]
            run = None
    if run is not None:
        yield offset + run, records[run:]
