"""What a vhost knows of segments that no longer change, so that a start need not read them to count their messages.

One file, `segments`, beside the journal: a file header and blocks as in `shards/store/blocks.py`. A block of *segments*
holds entries of 56 bytes, the last one of a segment counts:

```
offset  size  entry
     0     4  store          the number that names the store's directory
     4     4  segment        its number
     8     4  salt           of the segment's file
    12     4  size           of that file: all of it blocks, and on disk
    16     4  live           messages in it that are not settled, as of
    20     4  acks_end       this size of its ack log; 0: there is none
    24     8  skip           of its last block, as in `shards/store/segment.py`
    32     8  live_bytes     of the bodies of live messages; -1: not known, so it has to be read
    40     4  flags          of all its records together
    44     4  reserved       0
    48     8  used_at        broker time when it was read or written last
```

Entries are written when a checkpoint has brought the segments they are about to disk. After a sudden end an entry is
good while salt, size and acks_end are what they are; anything else is read and verified as a whole. An end in order
writes all entries anew and a block of kind *closed* behind them: then they are all there is, and no directory has to be
looked at. Whoever opens the vhost takes that block away before anything is changed.

A checkpoint has it written in three parts, so that nobody waits: `prepare` gathers entries in small steps,
`begin_writing` gives their bytes to the checkpoint's thread, which writes them, and `end_writing` takes note of that.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from struct import Struct
from threading import Lock
from typing import Final, NamedTuple, Protocol

from ipc.limits import REGISTER_BYTES_MIN
from ipc.messages.commands import Level
from shards.compaction.compactable import Compactable, Freed, ShrinkPolicy, Step
from shards.store.blocks import (
    BLOCK_HEADER_BYTES,
    FILE_HEADER_BYTES,
    REGISTER_MAGIC,
    BlockWalk,
    Buffer,
    Kind,
    aligned,
    block_header,
    file_header,
    read_file_header,
)
from shards.store.files import NEW_SUFFIX, DetachedFile, Files

KINDS: Final = (Kind.SEGMENTS, Kind.CLOSED)
UNKNOWN: Final = -1
SEALED_MIN: Final = 64
LOOKED_AT_PER_STEP: Final = 256
_SEGMENT_BYTES: Final = 400  # of one that has gone and is known here only (measured)
_REFERENCE_BYTES: Final = 72  # to one that its store accounts for

_ENTRY: Final = Struct("<IIIIIIqqIIQ")


class SegmentFacts(NamedTuple):
    """An entry, as laid out above."""

    store: int
    number: int
    salt: int
    size: int
    live: int
    acks_end: int
    skip: int
    live_bytes: int
    flags: int
    reserved: int
    used_at: int

    def pack(self) -> bytes:
        return _ENTRY.pack(*self)


class Known(NamedTuple):
    """What a register says of one store."""

    segments: Mapping[int, SegmentFacts]  # by their numbers
    is_complete: bool  # nothing else can be in its directory, and nothing of it has changed


NOTHING_KNOWN: Final = Known({}, is_complete=False)


class Describable(Protocol):
    """A segment that takes no more messages."""

    is_registered: bool

    def facts(self, store: int) -> SegmentFacts | None:
        """None when nothing is left in it."""


class Writing:
    """What a thread has to write: bytes that do not change, and a file that is nobody else's meanwhile."""

    __slots__ = ("_file", "_is_abandoned", "_lock", "_offset", "entries", "everything", "is_done", "salt", "segments")

    def __init__(
        self,
        file: DetachedFile,
        salt: int,
        offset: int,
        everything: bytes | None,
        entries: bytes,
        segments: Sequence[Describable],
    ) -> None:
        """`offset`: where the next block goes; `everything`: entries before these, of a file to be written anew."""
        self._file = file
        self._offset = offset
        self._lock = Lock()
        self._is_abandoned = False
        self.salt = salt
        self.everything = everything
        self.entries = entries
        self.segments = segments  # that will be known
        self.is_done = False

    def run(self) -> None:
        """In any thread, once; when it fails the next start has more to read, and whoever asked can try again."""
        with self._lock:
            if self._is_abandoned:
                return
            try:
                self._write()
            except (OSError, MemoryError):
                return
            self.is_done = True

    def _write(self) -> None:
        if self.everything is None:
            self._file.write(self._offset, _parts(self.salt, self._offset, self.entries))
        else:
            self._file.replace(_parts(self.salt, 0, self.everything, self.entries))

    @property
    def end(self) -> int:
        """Of the file, once it is done."""
        if self.everything is None:
            return self._offset + _size(self._offset, self.entries)
        return _size(0, self.everything, self.entries)

    def abandon(self) -> None:
        """It does not run from now on; waits for a thread that is at it."""
        with self._lock:
            self._is_abandoned = True


class Register(Compactable):
    """Of one vhost. What it could not write is not known at the next start, and nothing worse."""

    __slots__ = (
        "_bytes_max",
        "_captured",
        "_closed_at",
        "_end",
        "_entries",
        "_everything",
        "_files",
        "_gathered",
        "_is_stopped",
        "_path",
        "_salt",
        "_sealed",
        "_sealed_max",
        "_writing",
    )
    KIND = "register"

    def __init__(self, files: Files, path: str, everything: "Callable[[], Iterable[Iterable[SegmentFacts]]]") -> None:
        """`everything`: what is known of registered segments now, for a register that has become too long.

        By queues, one after the other; they may change in between.
        """
        self._files = files
        self._path = path
        self._everything = everything
        self._salt = 0
        self._end = 0  # where the next block goes; 0: there is no file
        self._closed_at = 0  # where the block begins that says it is complete; 0: nothing says so
        self._bytes_max = REGISTER_BYTES_MIN  # with more it is written anew
        self._sealed: list[tuple[int, Describable]] = []
        self._sealed_max = SEALED_MIN  # with more, those that have gone are dropped
        self._captured: list[Describable] = []  # to be made known
        self._entries = bytearray()  # by these
        self._gathered: bytearray | None = None  # what else belongs into a register that is to be written anew
        self._writing: Writing | None = None  # under way
        self._is_stopped = False

    # at a start -------------------------------------------------------------------------------------------------------

    def load(self) -> dict[int, dict[int, SegmentFacts]]:
        """Entries by store and segment. Raises StartRefused for a format version this broker does not know."""
        found: dict[int, dict[int, SegmentFacts]] = {}
        try:
            size = self._files.size(self._path)
        except FileNotFoundError:
            return found
        content = self._files.read(self._path, 0, size)
        self._files.forget(self._path)
        header = read_file_header(content, REGISTER_MAGIC, self._path)
        if header is None:
            return found
        self._salt = header.salt
        walk = BlockWalk(content, size, header.salt, KINDS)
        for block in walk:
            self._closed_at = block.begin if block.kind == Kind.CLOSED else 0
            for fields in _ENTRY.iter_unpack(memoryview(content)[block.start : block.end]):
                facts = SegmentFacts._make(fields)
                found.setdefault(facts.store, {})[facts.number] = facts
        if walk.holes or walk.end != size:
            self._closed_at = 0
        self._end = walk.end
        return found

    @property
    def is_complete(self) -> bool:
        """Whether what was loaded is all there is, because it was written by an end in order."""
        return self._closed_at > 0

    def begin(self) -> None:
        """From now on things change. Raises OSError; then nothing may be changed."""
        if not self._end:
            self._files.unlink(self._path)
            return
        self._end = self._closed_at or self._end
        self._closed_at = 0
        self._files.allocate(self._path, self._end)
        self._files.sync_batch(self._path).run()
        self._bytes_max = max(REGISTER_BYTES_MIN, 2 * self._end)

    # while it changes -------------------------------------------------------------------------------------------------

    def sealed(self, store: int, segment: Describable) -> None:
        """Nothing is appended to this segment any more: the next checkpoint, which syncs it, makes it known."""
        if len(self._sealed) >= self._sealed_max:
            self._sealed = _left(self._sealed)
            self._sealed_max = max(SEALED_MIN, 2 * len(self._sealed))
        self._sealed.append((store, segment))

    def prepare(self) -> Iterator[None]:
        """Small steps before `begin_writing`, between which things may change.

        An entry may become outdated that way before it is written, as it may afterwards.
        """
        while self._sealed:
            store, segment = self._sealed.pop()
            self._capture(store, segment)
            yield
        if self._captured and self._end > self._bytes_max and self._writing is None:
            gathered = bytearray()
            for some in self._everything():
                for facts in some:
                    gathered += facts.pack()
                    yield
                yield
            self._gathered = gathered

    def _capture(self, store: int, segment: Describable) -> None:
        facts = segment.facts(store)
        if facts is not None and facts.live_bytes != UNKNOWN:
            self._captured.append(segment)
            self._entries += facts.pack()

    def begin_writing(self) -> Writing | None:
        """A checkpoint begins, which covers what was captured; to be run after its sync. None: there is nothing to do.

        Whatever of `prepare` is left is done at once.
        """
        if self._is_stopped or self._writing is not None:
            return None
        if self._sealed or (self._captured and self._end > self._bytes_max and self._gathered is None):
            for _ in self.prepare():
                pass
        if not self._captured:
            return None
        everything = None if self._gathered is None else bytes(self._gathered)
        is_new = everything is not None or not self._end
        salt = self._files.nonce() if is_new else self._salt
        file = self._files.detach(self._path)
        self._writing = Writing(file, salt, self._end, everything, bytes(self._entries), self._captured)
        self._captured, self._entries, self._gathered = [], bytearray(), None
        return self._writing

    def end_writing(self) -> None:
        """Take note of what was written; what could not be is tried again by the next checkpoint."""
        writing = self._writing
        if writing is None or self._is_stopped:
            return
        self._writing = None
        if not writing.is_done:
            self._captured[:0] = writing.segments
            self._entries[:0] = writing.entries
            return
        self._salt, self._end = writing.salt, writing.end
        if writing.everything is not None:
            self._bytes_max = max(REGISTER_BYTES_MIN, 2 * self._end)
        for segment in writing.segments:
            segment.is_registered = True

    def stop(self) -> None:
        """No checkpoint writes it from now on; waits for one that is at it."""
        self._is_stopped = True
        if self._writing is not None:
            self._writing.abandon()

    # what it holds ----------------------------------------------------------------------------------------------------

    def holdings(self) -> Iterable[tuple[str, int]]:
        known = _REFERENCE_BYTES * (len(self._sealed) + len(self._captured))
        return ((self.KIND, known + len(self._entries) + len(self._gathered or b"")),)

    def shrink(self, level: Level, policy: ShrinkPolicy) -> Iterator[Step]:
        """Segments that have gone before a checkpoint came are let go of."""
        yield from super().shrink(level, policy)
        top = len(self._sealed)
        while top > 0:
            bottom = max(0, top - LOOKED_AT_PER_STEP)
            some = self._sealed[bottom:top]  # which may be fewer by now
            left = _left(some)
            if not policy.is_dry:
                self._sealed[bottom:top] = left
            top = bottom
            yield Freed(self.KIND, _SEGMENT_BYTES * (len(some) - len(left)))

    # at an end in order -----------------------------------------------------------------------------------------------

    def close(self, everything: Iterable[SegmentFacts]) -> None:
        """All is on disk, and this is all there is. Raises OSError: then the next start has to look for itself."""
        self.stop()
        new = self._path + NEW_SUFFIX
        salt = self._files.nonce()
        payload = b"".join(map(SegmentFacts.pack, everything))
        parts = _parts(salt, 0, payload)
        end = _size(0, payload)
        parts += _block(Kind.CLOSED, salt, end, b"")
        self._files.unlink(new)
        self._files.write(new, 0, parts, sync=False)
        self._files.sync_batch(new).run()
        self._files.rename(new, self._path)
        self._files.forget(self._path)
        self._salt, self._end = salt, end + BLOCK_HEADER_BYTES
        self._sealed = []


def _left(sealed: "Sequence[tuple[int, Describable]]") -> "list[tuple[int, Describable]]":
    """Those in which there is something."""
    return [(store, segment) for store, segment in sealed if segment.facts(store) is not None]


def _parts(salt: int, offset: int, *payloads: bytes) -> list[Buffer]:
    """A block for each, from this offset on; with the file's header where it begins."""
    parts: list[Buffer] = []
    if not offset:
        parts.append(file_header(REGISTER_MAGIC, 0, salt))
        offset = FILE_HEADER_BYTES
    for payload in payloads:
        if payload:
            parts += _block(Kind.SEGMENTS, salt, offset, payload)
            offset += BLOCK_HEADER_BYTES + len(payload)
    return parts


def _size(offset: int, *payloads: bytes) -> int:
    """Of those parts, in bytes."""
    blocks = sum(BLOCK_HEADER_BYTES + len(payload) for payload in payloads if payload)
    return blocks if offset else FILE_HEADER_BYTES + blocks


def _block(kind: Kind, salt: int, offset: int, payload: bytes) -> tuple[bytes, bytes]:
    assert aligned(len(payload)) == len(payload), "entries keep blocks aligned"
    return block_header(kind, salt, offset, len(payload) // _ENTRY.size, (payload,), len(payload)), payload
