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
"""

from collections.abc import Callable, Iterable, Mapping
from struct import Struct
from typing import Final, NamedTuple, Protocol

from ipc.limits import REGISTER_BYTES_MIN
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
from shards.store.files import Files

KINDS: Final = (Kind.SEGMENTS, Kind.CLOSED)
UNKNOWN: Final = -1
NEW_SUFFIX: Final = ".new"
SEALED_MIN: Final = 64

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


class Register:
    """Of one vhost. What it could not write is not known at the next start, and nothing worse."""

    __slots__ = (
        "_bytes_max",
        "_captured",
        "_closed_at",
        "_end",
        "_everything",
        "_files",
        "_path",
        "_salt",
        "_sealed",
        "_sealed_max",
    )

    def __init__(self, files: Files, path: str, everything: "Callable[[], Iterable[SegmentFacts]]") -> None:
        """`everything`: what is known of registered segments now, for a register that has become too long."""
        self._files = files
        self._path = path
        self._everything = everything
        self._salt = 0
        self._end = 0  # where the next block goes; 0: there is no file
        self._closed_at = 0  # where the block begins that says it is complete; 0: nothing says so
        self._bytes_max = REGISTER_BYTES_MIN  # with more it is written anew
        self._sealed: list[tuple[int, Describable]] = []
        self._sealed_max = SEALED_MIN  # with more, those that have gone are dropped
        self._captured: list[tuple[SegmentFacts, Describable]] = []

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
            self._sealed = [(owner, other) for owner, other in self._sealed if other.facts(owner) is not None]
            self._sealed_max = max(SEALED_MIN, 2 * len(self._sealed))
        self._sealed.append((store, segment))

    def capture(self) -> None:
        """A checkpoint begins; what is settled after this moment is not part of it."""
        sealed, self._sealed = self._sealed, []
        for store, segment in sealed:
            facts = segment.facts(store)
            if facts is not None and facts.live_bytes != UNKNOWN:
                self._captured.append((facts, segment))

    def write(self) -> None:
        """The checkpoint has ended. Raises OSError; then the same can be written with the next one."""
        if not self._captured:
            return
        if self._end > self._bytes_max:
            self._rewrite(self._everything(), is_complete=False)
        self._append([facts for facts, _segment in self._captured])
        for _facts, segment in self._captured:
            segment.is_registered = True
        self._captured = []

    def _append(self, entries: list[SegmentFacts]) -> None:
        parts: list[Buffer] = []
        at = self._end
        if not at:
            self._salt = self._files.nonce()
            parts.append(file_header(REGISTER_MAGIC, 0, self._salt))
            at = FILE_HEADER_BYTES
        payload = b"".join(map(SegmentFacts.pack, entries))
        parts += _block(Kind.SEGMENTS, self._salt, at, len(entries), payload)
        self._files.write(self._path, self._end, parts, sync=False)
        self._end = at + BLOCK_HEADER_BYTES + len(payload)
        self._files.forget(self._path)

    # at an end in order -----------------------------------------------------------------------------------------------

    def close(self, everything: Iterable[SegmentFacts]) -> None:
        """All is on disk, and this is all there is. Raises OSError: then the next start has to look for itself."""
        self._rewrite(everything, is_complete=True)
        self._sealed = []
        self._captured = []

    def _rewrite(self, everything: Iterable[SegmentFacts], *, is_complete: bool) -> None:
        new = self._path + NEW_SUFFIX
        salt = self._files.nonce()
        entries = list(everything)
        payload = b"".join(map(SegmentFacts.pack, entries))
        parts: list[Buffer] = [file_header(REGISTER_MAGIC, 0, salt)]
        end = FILE_HEADER_BYTES
        if entries:
            parts += _block(Kind.SEGMENTS, salt, end, len(entries), payload)
            end += BLOCK_HEADER_BYTES + len(payload)
        if is_complete:
            parts += _block(Kind.CLOSED, salt, end, 0, b"")
            end += BLOCK_HEADER_BYTES
        self._files.unlink(new)
        self._files.write(new, 0, parts, sync=False)
        self._files.sync_batch(new).run()
        self._files.rename(new, self._path)
        self._files.forget(self._path)
        self._salt, self._end = salt, end
        self._bytes_max = max(REGISTER_BYTES_MIN, 2 * end)


def _block(kind: Kind, salt: int, offset: int, count: int, payload: bytes) -> tuple[bytes, bytes]:
    assert aligned(len(payload)) == len(payload), "entries keep blocks aligned"
    return block_header(kind, salt, offset, count, (payload,), len(payload)), payload
