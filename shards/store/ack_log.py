"""What became of messages, beside each segment: `NUMBER.acks` is to `NUMBER.messages` what a tick is to a list.

A file header and blocks as in `shards/store/blocks.py`; a block's payload is one of

```
settled offsets   u32 each        where a settled record begins
settled ranges    u32 u32 each    every record which begins at first <= offset < end
returns           u32 u32 each    where a record begins, and how often it has come back; the last one counts
```

Acks are written within their turn but never waited for: what a power failure takes is delivered once more.
"""

import sys
from array import array
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final

from shards.compaction.compactable import Compactable
from shards.store.blocks import (
    ACK_LOG_MAGIC,
    BLOCK_HEADER_BYTES,
    FILE_HEADER_BYTES,
    BlockWalk,
    Buffer,
    EntryKind,
    Kind,
    aligned,
    block_header,
    bytes_used,
    file_header,
    read_file_header,
)
from shards.store.files import Files

KINDS: Final = (Kind.SETTLED_OFFSETS, Kind.SETTLED_RANGES, Kind.RETURNS)
_ENTRY_KINDS: Final = (EntryKind.SETTLED_OFFSETS, EntryKind.SETTLED_RANGES, EntryKind.RETURNS)


class Settled(Compactable):
    """Offsets of one segment that were settled since the last flush, or came back."""

    __slots__ = ("_noted", "offsets", "ranges", "returns")
    COLLECTIONS = ("offsets", "ranges", "returns")
    KIND = "unlogged acknowledgements"

    def __init__(self) -> None:
        self.offsets = array("I")
        self.ranges = array("I")
        self.returns = array("I")
        self._noted = (0, 0, 0)  # how much of each the journal has

    def add_range(self, first: int, end: int) -> None:
        """Every record which begins at `first` <= offset < `end`."""
        self.ranges.append(first)
        self.ranges.append(end)

    def add_return(self, offset: int, count: int) -> None:
        """The record at `offset` has come back, `count` times by now."""
        self.returns.append(offset)
        self.returns.append(count)

    def __bool__(self) -> bool:
        return bool(self.offsets or self.ranges or self.returns)

    def add(self, kind: EntryKind, payload: Buffer) -> None:
        """What a journal's entry of this kind holds."""
        columns = dict(zip(_ENTRY_KINDS, (self.offsets, self.ranges, self.returns), strict=True))
        columns[kind].extend(_from_little_endian(payload))

    def take_unnoted(self) -> "Iterator[tuple[EntryKind, array[int]]]":
        """What came since this was asked last, for the journal."""
        noted, self._noted = self._noted, (len(self.offsets), len(self.ranges), len(self.returns))
        columns = (self.offsets, self.ranges, self.returns)
        for kind, entries, start in zip(_ENTRY_KINDS, columns, noted, strict=True):
            if len(entries) > start:
                yield kind, entries[start:] if start else entries

    def set_noted(self) -> None:
        """The journal has been told all of it."""
        self._noted = (len(self.offsets), len(self.ranges), len(self.returns))

    def note_again(self) -> None:
        """The journal is to be told all of it once more."""
        self._noted = (0, 0, 0)

    def sorted_ranges(self) -> "array[int]":
        return array("I", _flat(sorted(_pairs(self.ranges))))

    def forget_before(self, end: int, *, is_noted: bool) -> None:
        """Nobody has to know any more what became of records that begin before this offset; `is_noted`: the journal
        knows all of it.
        """
        self.offsets = array("I", (offset for offset in self.offsets if offset >= end))
        self.ranges = array("I", _flat(pair for pair in _pairs(self.ranges) if pair[1] > end))
        self.returns = array("I", _flat(pair for pair in _pairs(self.returns) if pair[0] >= end))
        self._noted = (len(self.offsets), len(self.ranges), len(self.returns)) if is_noted else (0, 0, 0)

    def extend(self, other: "Settled") -> None:
        """And all of both is noted."""
        self.offsets.extend(other.offsets)
        self.ranges.extend(other.ranges)
        self.returns.extend(other.returns)
        self._noted = (len(self.offsets), len(self.ranges), len(self.returns))


class AckLog:
    """The ack log of one segment, as far as a store must know it."""

    __slots__ = ("end",)

    def __init__(self, end: int = 0) -> None:
        self.end = end  # where the next block goes; 0: there is no file yet

    def write(self, files: Files, path: str, number: int, salt: int, settled: Settled) -> None:
        """One write. Raises OSError: then the same can be written again."""
        offset = self.end or FILE_HEADER_BYTES
        parts: list[Buffer] = [] if self.end else [file_header(ACK_LOG_MAGIC, number, salt)]
        for kind, width, entries in (
            (Kind.SETTLED_OFFSETS, 1, settled.offsets),
            (Kind.SETTLED_RANGES, 2, settled.ranges),
            (Kind.RETURNS, 2, settled.returns),
        ):
            if entries:
                payload = _little_endian(entries)
                parts.append(block_header(kind, salt, offset, len(entries) // width, (payload,), len(payload)))
                parts.append(payload)
                end = offset + BLOCK_HEADER_BYTES + len(payload)
                offset = aligned(end)
                parts.append(bytes(offset - end))
        files.write(path, self.end, parts, sync=False)
        self.end = offset


class RecoveredAcks:
    """What an ack log says: half-open ranges of offsets, sorted and disjoint, a single ack being a range of one; and
    how often records have come back, by their offsets, some of which may be settled."""

    __slots__ = ("bytes_cut", "end", "ranges", "returned", "returns")

    def __init__(self, ranges: list[tuple[int, int]], returns: dict[int, int], end: int, bytes_cut: int) -> None:
        self.ranges = ranges
        self.returns = returns
        self.returned = sorted(returns)
        self.end = end
        self.bytes_cut = bytes_cut


def recover(files: Files, path: str, salt: int | None) -> RecoveredAcks:
    """Read an ack log and cut what did not verify off its end. A log that belongs to another segment says nothing."""
    try:
        size = files.size(path)
    except FileNotFoundError:
        return RecoveredAcks([], {}, 0, 0)
    content = files.read(path, 0, size)
    read_file_header(content, ACK_LOG_MAGIC, path)  # for its version; the salt of each block says whose it is
    ranges: list[tuple[int, int]] = []
    returns: dict[int, int] = {}
    end = 0  # from there on nothing is ours
    if salt is not None:
        walk = BlockWalk(content, size, salt, KINDS)
        for block in walk:
            entries = _from_little_endian(content[block.start : block.end])
            if block.kind == Kind.RETURNS:
                returns.update(_pairs(entries))
            else:
                ranges.extend(_ranges(block.kind, entries))
        if ranges or returns:
            end = walk.end
    left_over = bytes_used(content, end, size)
    if end < size:
        files.allocate(path, end)
    files.forget(path)
    ranges.sort()
    return RecoveredAcks(_disjoint(ranges), returns, end, left_over)


def _ranges(kind: int, entries: "array[int]") -> Iterable[tuple[int, int]]:
    if kind == Kind.SETTLED_OFFSETS:
        return ((offset, offset + 1) for offset in entries)
    return _pairs(entries)


def _flat(pairs: Iterable[tuple[int, int]]) -> Iterable[int]:
    return chain.from_iterable(pairs)


def _pairs(entries: "array[int]") -> Iterable[tuple[int, int]]:
    return zip(entries[::2], entries[1::2], strict=True)


def _disjoint(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for first, end in ranges:
        if merged and first < merged[-1][1]:
            if end > merged[-1][1]:
                merged[-1] = (merged[-1][0], end)
        else:
            merged.append((first, end))
    return merged


def _little_endian(entries: "array[int]") -> bytes:
    if sys.byteorder == "big":
        entries = entries[:]
        entries.byteswap()
    return entries.tobytes()


def _from_little_endian(payload: Buffer) -> "array[int]":
    entries = array("I")
    entries.frombytes(payload)
    if sys.byteorder == "big":
        entries.byteswap()
    return entries
