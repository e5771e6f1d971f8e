"""A vhost's journal: what a turn did to durable queues, in one write and one sync, before it is in its place.

```
turn:        stores note appends and settlements ─► one block of entries ─► confirms wait for its sync
behind it:   stores write segments and ack logs ─► checkpoint syncs those ─► the file they are covered by is used again
```
Without it every queue a turn touched would have to be synced; with it one file is, however many queues there are. What
is settled before its store writes it back stands here only.

`NUMBER.journal` begins with a file header and goes on with blocks of entries (`shards/store/blocks.py`); a block holds
what one turn noted, all of it or nothing. An entry is

```
offset  size  entry
     0     4  store          the number that names the store's directory
     4     4  kind           1 appended, 2 settled offsets, 3 settled ranges, 4 returns
     8     4  segment        number of the segment it is about
    12     4  payload_bytes
    16        payload        1: offset of the first record (u32), then whole records; else as in an ack log's block
```
What is noted after a sync has begun goes to the next page, if there is enough of it. Files are used in turn: one that
is covered by a checkpoint gets the next number and is overwritten, because writing over what is there costs no
metadata. Numbers, in name and header alike, and the salt tell what is stale in it.
"""

import errno
import sys
from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from struct import Struct
from typing import Final, NamedTuple, Protocol

from ipc.limits import (
    JOURNAL_FILE_BYTES_FIRST,
    JOURNAL_FILE_BYTES_MAX,
    JOURNAL_FILES_MAX,
    JOURNAL_PAGE_WORTH_BYTES,
    JOURNAL_SPARE_FILES_MAX,
    WRITE_BACK_MS,
    WRITTEN_BACK_PER_TURN_MAX,
)
from shards.compaction.compactable import Compactable
from shards.store.blocks import (
    BLOCK_HEADER_BYTES,
    ENTRY,
    FILE_HEADER_BYTES,
    JOURNAL_MAGIC,
    PLACE,
    PLACED_HEADER_BYTES,
    Buffer,
    EntryKind,
    Kind,
    aligned,
    block_header,
    file_header,
    next_page,
)
from shards.store.copying import Piece
from shards.store.files import Files, SyncBatch
from shards.store.register import Register, Writing
from shards.store.segment import Segment

JOURNAL_SUFFIX: Final = ".journal"
_OFFSET: Final = Struct("<I")


class Covered(Protocol):
    """A queue with something in the journal that is not in its place yet."""

    @property
    def is_leaving(self) -> bool:
        """Whether some of it cannot be written to its place yet."""

    def write_back(self, now: int, *, whole: bool) -> bool:
        """Write what has waited for long enough to its place, or all; True while something is left. Raises OSError."""


class _Since(NamedTuple):
    when: int  # broker time
    file: int  # the journal's, that was written then


class Checkpoint:
    """For a worker thread: files are synced, and then the register says so."""

    __slots__ = ("_batch", "_writing")

    def __init__(self, batch: SyncBatch, writing: Writing | None) -> None:
        self._batch = batch
        self._writing = writing

    def __bool__(self) -> bool:
        return bool(self._batch) or self._writing is not None

    def run(self) -> None:
        """Raises OSError as a `SyncBatch` does; what the register did not take costs time at the next start only."""
        self._batch.run()
        if self._writing is not None:
            self._writing.run()


class Journal(Compactable):
    """Of one vhost. Every call belongs to the thread of the event loop; syncs go through `Files`."""

    __slots__ = (
        "_batch",
        "_before",
        "_capacity",
        "_checkpoint",
        "_closed",
        "_count",
        "_covered",
        "_directory",
        "_end",
        "_files",
        "_kept",
        "_number",
        "_register",
        "_salt",
        "_spare",
        "_syncing",
        "_syncs_begun",
        "_unsynced",
        "appointment",
    )
    COLLECTIONS = ("_covered", "_syncing", "_unsynced")
    KIND = "journal"

    def __init__(self, files: Files, directory: str, register: Register | None = None) -> None:
        """A new journal: what the directory held was replayed before. Makes no file before something is written.

        `register`: who is to know of segments that a checkpoint has brought to disk.
        """
        self.appointment = 0
        self._register = register
        self._files = files
        self._directory = directory
        self._batch = bytearray()  # this turn's entries
        self._count = 0
        self._number = 0  # of the file that is written, or was last
        self._salt = 0
        self._end = 0  # where its next block goes; 0: no file is written
        self._syncs_begun = 0  # before its last block was written
        self._before = 0  # where its last block ends, when the next one goes to a page behind it
        self._capacity = 0
        self._kept = 0  # files up to this number may not be overwritten
        self._closed: deque[int] = deque(maxlen=JOURNAL_FILES_MAX)  # full, and not covered by a checkpoint
        self._spare: deque[int] = deque()  # covered, to be used again; the oldest first, which is how they must go
        self._covered: dict[Covered, _Since] = {}  # oldest first
        self._unsynced: dict[str, None] = {}  # files that were written behind the journal
        self._syncing: dict[str, None] = {}  # those the checkpoint under way syncs
        self._checkpoint = 0  # number of the last file that the checkpoint under way covers; 0: none is

    # what a turn notes ------------------------------------------------------------------------------------------------

    def note_appended(self, store: int, position: int, records: Buffer) -> None:
        """These records stand at this position and after it."""
        batch = self._batch
        batch += ENTRY.pack(store, EntryKind.APPENDED, position >> 32, _OFFSET.size + len(records))
        batch += _OFFSET.pack(position & 0xFFFFFFFF)
        batch += records
        self._count += 1

    def note(self, store: int, kind: EntryKind, segment: int, entries: "array[int]") -> None:
        """Offsets or pairs, as an ack log holds them."""
        if sys.byteorder == "big":
            entries = entries[:]
            entries.byteswap()
        payload = entries.tobytes()
        self._batch += ENTRY.pack(store, kind, segment, len(payload))
        self._batch += payload
        self._count += 1

    @property
    def is_dirty(self) -> bool:
        """Whether anything was noted that `write` has not written."""
        return self._count > 0

    def write(self) -> None:
        """Write what was noted as one block, to be synced by the next round.

        Raises OSError; then nothing is lost, and it can be called again.
        """
        if not self._count:
            return
        try:
            self._write_block()
        except OSError:
            self._give_way()
            raise
        self._batch = bytearray()
        self._count = 0

    def _write_block(self) -> None:
        self._go_to_page()
        needed = aligned(PLACED_HEADER_BYTES + len(self._batch))
        while self._end + needed > self._capacity:
            self._make_room(needed)
        offset = self._end
        kind, place = (Kind.ENTRIES_ON_PAGE, PLACE.pack(self._before, 0)) if self._before else (Kind.ENTRIES, b"")
        payload_bytes = len(place) + len(self._batch)
        header = block_header(kind, self._salt, offset, self._count, (place, self._batch), payload_bytes)
        size = aligned(BLOCK_HEADER_BYTES + payload_bytes)
        parts: list[Buffer] = [header, place, self._batch, bytes(size - BLOCK_HEADER_BYTES - payload_bytes)]
        if offset == FILE_HEADER_BYTES:
            offset = 0
            parts.insert(0, file_header(JOURNAL_MAGIC, self._number, self._salt))
        self._files.write(self._path(self._number), offset, parts, sync=True)
        self._end += size
        self._before = 0

    def _go_to_page(self) -> None:
        """What a sync has covered is not written again with what comes behind it: that goes to the next page.

        A disk writes whole pages. With a fast one there are many syncs, and so many pages that would be written twice.
        """
        begun = self._files.syncs_begun
        if begun == self._syncs_begun:
            return
        self._syncs_begun = begun
        page = next_page(self._end)
        if len(self._batch) >= JOURNAL_PAGE_WORTH_BYTES and self._end > FILE_HEADER_BYTES and page != self._end:
            # At another attempt the block before it still ends where it did.
            self._before, self._end = self._before or self._end, page

    def _give_way(self) -> None:
        """The file cannot grow: have a checkpoint cover it, because to write over what is there takes no room."""
        if self._end > FILE_HEADER_BYTES and not self._closed:
            self._closed.append(self._number)
            self._end = self._before = self._capacity = 0
        elif self._end == FILE_HEADER_BYTES:
            self._end = self._capacity = 0
            self._files.unlink(self._path(self._number))

    @property
    def _file(self) -> int:
        """The number of the file that what is noted now will be in."""
        return self._number if self._end else self._number + 1

    # its files --------------------------------------------------------------------------------------------------------

    def _path(self, number: int) -> str:
        return f"{self._directory}/{number:010d}{JOURNAL_SUFFIX}"

    def _make_room(self, needed: int) -> None:
        """Grow the file, or go on in the next one; a block larger than a file gets one of its own."""
        is_fresh = self._end == FILE_HEADER_BYTES
        if not self._end or (self._end + needed > JOURNAL_FILE_BYTES_MAX and not is_fresh):
            self._open_next()
            return
        capacity = self._capacity
        while capacity < self._end + needed:
            capacity *= 2
        self._files.allocate(self._path(self._number), capacity)
        self._capacity = capacity

    def _open_next(self) -> None:
        if len(self._closed) == JOURNAL_FILES_MAX:
            raise OSError(errno.EAGAIN, "the journal is full until a checkpoint has ended", self._directory)
        number = self._number + 1
        path = self._path(number)
        if self._spare and self._spare[0] > self._kept:
            capacity = self._files.size(self._path(self._spare[0]))
            self._files.rename(self._path(self._spare[0]), path)
            self._spare.popleft()
        else:
            capacity = JOURNAL_FILE_BYTES_FIRST
            self._files.make_directory(self._directory, sync=True)
            self._files.create(path, capacity, sync=True)
        if self._end:
            self._closed.append(self._number)
        self._number = number
        self._salt = self._files.nonce()
        self._end = FILE_HEADER_BYTES
        self._before = 0
        self._capacity = capacity

    # what is behind it ------------------------------------------------------------------------------------------------

    def cover(self, covered: Covered, now: int) -> None:
        """This queue has something here that is not in its place."""
        if covered not in self._covered:
            self._covered[covered] = _Since(now, self._file)

    def forget(self, covered: Covered) -> None:
        """Nothing of this queue is waiting any more, or it is gone."""
        self._covered.pop(covered, None)

    def written_behind(self, path: str) -> None:
        """A store has written this file, for the next checkpoint to sync."""
        self._unsynced[path] = None

    def sealed(self, store: int, segment: Segment) -> None:
        """Nothing is appended to this segment any more."""
        if self._register is not None:
            self.written_behind(segment.path)  # it was cut to its length
            self._register.sealed(store, segment)

    def look_again(self, now: int) -> None:
        """Its time has come: the turn that this is part of calls `write_back`."""

    @property
    def due(self) -> int:
        """When `write_back` has something to do, in broker time; 0: never."""
        oldest = next(iter(self._covered.values()), None)
        return 0 if oldest is None else oldest.when + WRITE_BACK_MS

    def write_back(self, now: int) -> None:
        """Have queues write what has waited here for long, or stands in a file that is full; some in each call.

        Raises OSError when one of them could not, after the others did.
        """
        refusals = []
        for covered in self._waiting_longest(now):
            # What is left in a file that is full would keep it for as long as messages are young.
            whole = self._covered[covered].file in self._closed
            try:
                is_waiting = covered.write_back(now, whole=whole)
            except OSError as fault:
                refusals.append(fault)  # and its oldest file is needed still
                continue
            if covered.is_leaving:
                self._covered[covered] = self._covered[covered]._replace(when=now)
                continue
            del self._covered[covered]
            if is_waiting:
                self._covered[covered] = _Since(now, self._file)
        if refusals:
            raise refusals[0]

    def _waiting_longest(self, now: int) -> list[Covered]:
        found: list[Covered] = []
        for covered, since in self._covered.items():
            if len(found) == WRITTEN_BACK_PER_TURN_MAX:
                break
            if since.when + WRITE_BACK_MS > now and since.file not in self._closed:
                break
            found.append(covered)
        return found

    # checkpoints ------------------------------------------------------------------------------------------------------

    @property
    def wants_checkpoint(self) -> bool:
        """Whether a file is full, and all that it covers was written to its place."""
        if not self._closed or self._checkpoint:
            return False
        oldest = next(iter(self._covered.values()), None)
        return oldest is None or oldest.file > self._closed[0]

    def prepare_checkpoint(self) -> Iterator[None]:
        """Small steps before `begin_checkpoint`, which does at once what is left of them."""
        return iter(()) if self._register is None else self._register.prepare()

    def begin_checkpoint(self) -> Checkpoint:
        """What has to be run, in any thread, before `end_checkpoint`."""
        oldest = next(iter(self._covered.values()), None)
        covered = [number for number in self._closed if oldest is None or number < oldest.file]
        self._checkpoint = covered[-1] if covered else 0
        writing = None if self._register is None else self._register.begin_writing()
        return Checkpoint(self.take_written_behind(), writing)

    def take_written_behind(self) -> SyncBatch:
        """All that was written behind it; only a checkpoint that has ended lets go of that."""
        # Whatever another one has begun to sync and not ended.
        self._syncing.update(self._unsynced)
        self._unsynced = {}
        return self._files.sync_batch(*self._syncing)

    def end_checkpoint(self) -> None:
        """What it covers is on disk, and may be overwritten."""
        while self._closed and self._closed[0] <= self._checkpoint:
            self._spare.append(self._closed.popleft())
        self._checkpoint = 0
        self._syncing = {}
        if self._register is not None:
            self._register.end_writing()
        try:
            # The oldest first: what was appended must not outlive the news that it is settled.
            while len(self._spare) > JOURNAL_SPARE_FILES_MAX:
                self._files.unlink(self._path(self._spare[0]))
                self._spare.popleft()
        except OSError:
            pass  # used again, or tried again at the next checkpoint

    def close(self) -> None:
        """Everything it covered is in its place and on disk: leave nothing behind."""
        self._files.remove_tree(self._directory)
        self._number = self._end = self._before = self._capacity = 0
        self._closed.clear()
        self._spare.clear()
        self._unsynced = {}
        self._syncing = {}

    # copies -----------------------------------------------------------------------------------------------------------

    def pieces(self) -> Iterator[Piece]:
        """What of its files is not covered at this moment. Raises OSError."""
        for number in self._closed:
            path = self._path(number)
            yield Piece(path, self._files.size(path), is_final=False)
        if self._end > FILE_HEADER_BYTES:
            yield Piece(self._path(self._number), self._end, is_final=False)

    def keep_files(self) -> None:
        """Overwrite nothing that is there now, until `free_files`; covered files may go all the same."""
        self._kept = self._number

    def free_files(self) -> None:
        self._kept = 0

    def holdings(self) -> Iterable[tuple[str, int]]:
        return (("journal", sys.getsizeof(self._batch)),)

    def numbers(self) -> Iterator[int]:
        """Of its files that are not covered, for tests and tools."""
        yield from self._closed
        if self._end:
            yield self._number
