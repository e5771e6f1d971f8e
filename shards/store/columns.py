"""Columns of numbers: the loops over typed arrays and runs of records that must not make an object for each entry.

Hot module; its compiled types stand in `columns.pxd`.
"""

from array import array
from collections.abc import Callable
from typing import Final

import cython

from ipc.wire.raw import Buffer

if not cython.compiled:
    from ipc.wire.raw import add_number, get16le, get32le

_BLOCK_HEAD: Final = 24  # of `shards/store/blocks.py`
_BLOCK_CHECKED: Final = 20  # so much of that stands in the checksum
_PLACED: Final = 0x054B4245  # how a block of placed records begins
_PLACE: Final = 8
_FLAGS_AT: Final = 10
_RECORD_HEAD: Final = 20  # of `shards/store/record.py`, compiled a C number
_OFFSET: Final = 0xFFFFFFFF  # of a position: what is not the segment's number


def add_sequence(target: "array[int]", first: int, count: int) -> None:
    """Append `first`, `first` + 1 …: `count` numbers."""
    for number in range(first, first + count):
        add_number(target, number)


def is_uniform(column: "array[int]", start: int, end: int) -> bool:
    """Whether the 32-bit entries from `start` to before `end` are all the same; also when there are none."""
    index = start + 1
    while index < end and column[index] == column[start]:
        index += 1
    return index >= end


def add_offsets(positions: "array[int]", index: int, low: int, high: int, offsets: "array[int]") -> int:
    """Append the lower halves of `positions[index:]` while they are `low` <= position < `high`; where that ends."""
    end = len(positions)
    while index < end and low <= positions[index] < high:
        add_number(offsets, positions[index] & _OFFSET)
        index += 1
    return index


def count_matching(wanted: "array[int]", index: int, tags: "array[int]", sources: "array[int]", head: int) -> int:
    """How many of `wanted[index:]` stand in `tags[head:]` one after the other, with a source that is not 0."""
    count = 0
    end = min(len(wanted) - index, len(tags) - head)
    while count < end and wanted[index + count] == tags[head + count] and sources[head + count] != 0:
        count += 1
    return count


def body_bytes(buffer: Buffer, at: int, end: int) -> int:
    """Bytes of the bodies of the records in `buffer[at:end]`, which follow each other without a gap."""
    total = 0
    while at < end:
        record_bytes = get32le(buffer, at)
        rest = _RECORD_HEAD + get32le(buffer, at + 4) + get16le(buffer, at + 8)
        if rest > record_bytes:
            break  # the file changed under the broker; whoever delivers from it will notice
        total += record_bytes - rest
        at += record_bytes
    return total


def tally(buffer: Buffer, at: int, end: int) -> tuple[int, int]:
    """What `body_bytes` says of the records in `buffer[at:end]`, and the flags that any of them has."""
    total = flags = 0
    while at < end:
        record_bytes = get32le(buffer, at)
        rest = _RECORD_HEAD + get32le(buffer, at + 4) + get16le(buffer, at + 8)
        if rest > record_bytes:
            break
        flags |= buffer[at + _FLAGS_AT]
        total += record_bytes - rest
        at += record_bytes
    return total, flags


def placed_blocks(
    buffer: Buffer, view: memoryview, at: int, size: int, salt: int, skip: int, checksum: Callable[..., int]
) -> tuple[int, int, int, int, int]:
    """Walk blocks of placed records from `at` on, as long as they verify, follow each other and have this skip.

    Where that ends, where the last of them begins, how many records they say to have, and what `tally` says of those.
    `view` is of `buffer`, which has `size` bytes; `checksum` is zlib's.
    """
    last = at
    count = total = flags = 0
    while at + _BLOCK_HEAD + _PLACE <= size:
        if get32le(buffer, at) != _PLACED or get32le(buffer, at + 4) != salt or get32le(buffer, at + 8) != at:
            break
        payload_bytes = get32le(buffer, at + 12)
        start = at + _BLOCK_HEAD
        end = start + payload_bytes
        if payload_bytes < _PLACE or end > size or get32le(buffer, start) - start - _PLACE != skip:
            break
        if checksum(view[start:end], checksum(view[at : at + _BLOCK_CHECKED])) != get32le(buffer, at + 20):
            break
        count += get32le(buffer, at + 16)
        record = start + _PLACE
        while record < end:
            record_bytes = get32le(buffer, record)
            rest = _RECORD_HEAD + get32le(buffer, record + 4) + get16le(buffer, record + 8)
            if rest > record_bytes:
                break
            flags |= buffer[record + _FLAGS_AT]
            total += record_bytes - rest
            record += record_bytes
        last = at
        at = (end + 7) & ~7
    return at, last, count, total, flags


def settled_front(buffer: Buffer, base: int, offsets: "array[int]", ranges: "array[int]") -> tuple[int, int]:
    """How far the records at the beginning of `buffer` are settled, in bytes, and how many they are.

    The one at index i has the offset `base + i`. `offsets` are those of settled ones, and `ranges` pairs of first and
    end, as in an ack log; both sorted.
    """
    at = count = next_offset = next_range = 0
    end = len(buffer)
    while at < end:
        offset = base + at
        while next_offset < len(offsets) and offsets[next_offset] < offset:
            next_offset += 1
        while next_range < len(ranges) and ranges[next_range + 1] <= offset:
            next_range += 2
        is_single = next_offset < len(offsets) and offsets[next_offset] == offset
        if not is_single and (next_range >= len(ranges) or ranges[next_range] > offset):
            break
        record_bytes = get32le(buffer, at)
        if record_bytes < _RECORD_HEAD:
            break
        at += record_bytes
        count += 1
    return at, count
