"""How bytes prove themselves: the file header and the checksummed blocks which segments and ack logs are made of.

All integers are little-endian. A file begins with a header:

```
offset  size  file header
     0     8  magic          "EBBMQSEG", "EBBMQACK", "EBBMQJNL" or "EBBMQREG"
     8     2  format_version 2; 1 is read as well, which lacks the kinds 4 to 9
    10     2  reserved       0
    12     4  number         of the segment, the same in its ack log; or of the journal's file
    16     4  salt           chance; the same in every block of the file, and of a segment's ack log
    20     4  checksum       CRC-32 of bytes 0..20
```

and goes on with blocks, each at an offset divisible by 8, so that a walk which met damage finds the next one again:

```
offset  size  block header
     0     3  magic          "EBK"
     3     1  kind           1 records, 2 settled offsets, 3 settled ranges, 4 returns, 5 placed records, 6 entries,
                             7 segments, 8 closed, 9 entries on a page
     4     4  salt           of the file
     8     4  offset         of this header in its file
    12     4  payload_bytes
    16     4  count          records, offsets, ranges, returns, entries or segments in the payload
    20     4  checksum       CRC-32 of bytes 0..20 and of the payload
    24        payload
```

The payload of placed records begins with a *place* of 8 bytes: the offset of the first record in the segment's
positions (u32), and 4 bytes that are 0. Positions count what was ever appended, a file only what was written: a message
settled before it is written has a position and no place in it. Records of version 1 are where their positions say.

The payload of entries on a page begins with 8 bytes as well: the offset where the block before it ends (u32), and 4
bytes that are 0. Such a block begins at an offset divisible by 4,096, and what is between the two is no damage.

The salt binds an ack log to the segment it was written for, and together with the offset keeps a publisher from forging
a block inside a message body: a walk over damage could not tell it from a real one otherwise.
"""

import mmap
from collections.abc import Collection, Iterable, Iterator
from enum import IntEnum
from struct import Struct
from typing import Final, NamedTuple, TypeAlias
from zlib import crc32

from ipc.errors import ExitCode, StartRefused

Buffer: TypeAlias = bytes | bytearray | memoryview | mmap.mmap
"""Bytes that can be written or walked without a copy."""

FORMAT_VERSION: Final = 2
FORMAT_VERSIONS_READ: Final = (1, 2)
SEGMENT_MAGIC: Final = b"EBBMQSEG"
ACK_LOG_MAGIC: Final = b"EBBMQACK"
JOURNAL_MAGIC: Final = b"EBBMQJNL"
REGISTER_MAGIC: Final = b"EBBMQREG"
BLOCK_MAGIC: Final = b"EBK"
ALIGNMENT: Final = 8
PAGE_BYTES: Final = 4096
"""What is written to disk as one, however little of it has changed."""

FILE_HEADER: Final = Struct("<8sHHIII")
BLOCK_HEADER: Final = Struct("<3sBIIIII")
FILE_HEADER_BYTES: Final = FILE_HEADER.size
BLOCK_HEADER_BYTES: Final = BLOCK_HEADER.size
PLACE: Final = Struct("<II")
PLACED_HEADER_BYTES: Final = BLOCK_HEADER_BYTES + PLACE.size

_FILE_CHECKED: Final = Struct("<8sHHII")
_BLOCK_CHECKED: Final = Struct("<3sBIIII")
_CHECKSUM: Final = Struct("<I")
_ZEROS: Final = bytes(64 * 1024)


class Kind(IntEnum):
    """What a block's payload holds."""

    RECORDS = 1
    SETTLED_OFFSETS = 2  # u32 each: where a settled record begins
    SETTLED_RANGES = 3  # u32 first, u32 end: every record which begins at first <= offset < end
    RETURNS = 4  # u32 offset, u32 count: how often the record there has come back
    PLACED_RECORDS = 5  # a place, then records
    ENTRIES = 6  # of a journal
    SEGMENTS = 7  # entries of a register
    CLOSED = 8  # nothing: the register that ends with it is complete
    ENTRIES_ON_PAGE = 9  # where the block before it ends, then entries of a journal


_WITH_PLACE: Final = (Kind.PLACED_RECORDS, Kind.ENTRIES_ON_PAGE)


class EntryKind(IntEnum):
    """What an entry of a journal says."""

    APPENDED = 1  # u32 offset of the first record, then records
    SETTLED_OFFSETS = 2
    SETTLED_RANGES = 3
    RETURNS = 4


ENTRY: Final = Struct("<IIII")
JOURNAL_KINDS: Final = (Kind.ENTRIES, Kind.ENTRIES_ON_PAGE)


class FileHeader(NamedTuple):
    number: int
    salt: int


class Block(NamedTuple):
    """A block that verified; `start` and `end` enclose its payload, without the place it may begin with."""

    kind: int
    before: int  # where the block before it ends: the same as `begin`, but for what begins on a page
    begin: int
    start: int
    end: int
    entries: int
    salt: int
    skip: int  # what has to be added to offsets in the file to get those of positions

    @property
    def next_offset(self) -> int:
        return aligned(self.end)


def aligned(offset: int) -> int:
    """The first offset from here on where a block may begin."""
    return (offset + ALIGNMENT - 1) & -ALIGNMENT


def next_page(offset: int) -> int:
    """The first offset from here on where a page begins."""
    return (offset + PAGE_BYTES - 1) & -PAGE_BYTES


def file_header(magic: bytes, number: int, salt: int) -> bytes:
    checked = _FILE_CHECKED.pack(magic, FORMAT_VERSION, 0, number, salt)
    return checked + _CHECKSUM.pack(crc32(checked))


def read_file_header(buffer: Buffer, magic: bytes, path: str) -> FileHeader | None:
    """None when it is damaged. Raises StartRefused when it is whole and of a version this broker does not know."""
    view = memoryview(buffer)[:FILE_HEADER_BYTES]
    if len(view) < FILE_HEADER_BYTES:
        return None
    found, version, _reserved, number, salt, checksum = FILE_HEADER.unpack(view)
    if found != magic or checksum != crc32(view[: _FILE_CHECKED.size]):
        return None
    if version not in FORMAT_VERSIONS_READ:
        raise StartRefused(
            ExitCode.FORMAT_UNKNOWN,
            f"{path} has format version {version}; this broker reads versions up to {FORMAT_VERSION}",
        )
    return FileHeader(number, salt)


def block_header(
    kind: Kind, salt: int, offset: int, count: int, payload: Iterable[Buffer], payload_bytes: int
) -> bytes:
    """The header of the block which is to be written at `offset`."""
    checked = _BLOCK_CHECKED.pack(BLOCK_MAGIC, kind, salt, offset, payload_bytes, count)
    checksum = crc32(checked)
    for part in payload:
        checksum = crc32(part, checksum)
    return checked + _CHECKSUM.pack(checksum)


def records_at(buffer: Buffer, offset: int) -> tuple[int, int, int]:
    """Where the records of the block at `offset` begin and end, and their `skip`, as in `Block`.

    For blocks that verified, or that this process wrote. Raises ValueError when there is none: the file has changed.
    """
    magic, kind, _salt, own_offset, payload_bytes, _count, _checksum = BLOCK_HEADER.unpack_from(buffer, offset)
    if magic != BLOCK_MAGIC or own_offset != offset:
        raise ValueError(f"no block at offset {offset}")
    start = offset + BLOCK_HEADER_BYTES
    return _records_in(buffer, kind, start, start + payload_bytes)


def _records_in(buffer: Buffer, kind: int, start: int, end: int) -> tuple[int, int, int]:
    if kind != Kind.PLACED_RECORDS:
        return start, end, 0
    place, _reserved = PLACE.unpack_from(buffer, start)
    start += PLACE.size
    return start, end, place - start


def verified_block(view: memoryview, offset: int, size: int, salt: int | None) -> Block | None:
    """The block at `offset`, if all of it is there and its checksum holds."""
    start = offset + BLOCK_HEADER_BYTES
    if start > size:
        return None
    magic, kind, own_salt, own_offset, payload_bytes, count, checksum = BLOCK_HEADER.unpack_from(view, offset)
    end = start + payload_bytes
    if magic != BLOCK_MAGIC or own_offset != offset or end > size or (salt is not None and own_salt != salt):
        return None
    if crc32(view[start:end], crc32(view[offset : offset + _BLOCK_CHECKED.size])) != checksum:
        return None
    if kind in _WITH_PLACE and payload_bytes < PLACE.size:
        return None
    if kind == Kind.ENTRIES_ON_PAGE:
        before, _reserved = PLACE.unpack_from(view, start)
        return Block(kind, before, offset, start + PLACE.size, end, count, own_salt, 0)
    start, end, skip = _records_in(view, kind, start, end)
    return Block(kind, offset, offset, start, end, count, own_salt, skip)


class BlockWalk:
    """Every verified block of a file, in order; afterwards it knows what did not verify.

    `salt` may be unknown when the file header is damaged: then the first block that verifies tells it.
    """

    def __init__(
        self,
        buffer: mmap.mmap | bytes,
        size: int,
        salt: int | None,
        kinds: Collection[Kind],
        start: int = FILE_HEADER_BYTES,
    ) -> None:
        """`start`: everything before it has been walked already."""
        self._buffer = buffer
        self._size = size
        self._kinds = kinds
        self.salt = salt
        self.end = start  # behind the last verified block
        self.holes: dict[int, int] = {}  # damaged stretches with verified blocks behind them: where each ends
        self._used_end: int | None = None  # behind the last byte that is not zero, once something did not verify

    def __iter__(self) -> Iterator[Block]:
        offset = self.end
        while (block := self._next(offset)) is not None:
            if block.before != offset:
                self.holes[offset] = block.begin
            self.salt = block.salt
            self.end = offset = block.next_offset
            yield block

    def _next(self, offset: int) -> Block | None:
        """The first verified block from `offset` on."""
        with memoryview(self._buffer) as view:
            while offset >= 0:
                block = verified_block(view, offset, self._size, self.salt)
                if block is not None and block.kind in self._kinds:
                    return block
                offset = self._find_magic(offset + ALIGNMENT)
        return None

    def _find_magic(self, offset: int) -> int:
        if self._used_end is None:
            self._used_end = self._size - _zeros_at_end(self._buffer, min(offset, self._size), self._size)
        while True:
            found = self._buffer.find(BLOCK_MAGIC, offset, self._used_end)
            if found < 0 or found % ALIGNMENT == 0:
                return found
            offset = found + 1


def bytes_used(buffer: mmap.mmap | bytes, start: int, size: int) -> int:
    """How many bytes from `start` on hold anything but the zeros of a file which was made larger in advance."""
    return size - start - _zeros_at_end(buffer, start, size)


def _zeros_at_end(buffer: mmap.mmap | bytes, start: int, size: int) -> int:
    top = size
    while top > start:
        bottom = max(start, top - len(_ZEROS))
        piece = bytes(buffer[bottom:top])
        # Compared before it is stripped: that is 30 times faster (measured), and mostly all there is to do.
        if piece != _ZEROS[: len(piece)]:
            return size - bottom - len(piece.rstrip(b"\0"))
        top = bottom
    return size - start
