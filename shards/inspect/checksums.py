"""Every checksum of a file compared: where it is not as it was written, and what is lost with that."""

import mmap
import os
from collections.abc import Collection
from typing import Final

from msgspec import Struct

from shards.inspect.accounts import Damage
from shards.store import ack_log, register
from shards.store.blocks import (
    ACK_LOG_MAGIC,
    BLOCK_HEADER,
    BLOCK_HEADER_BYTES,
    BLOCK_MAGIC,
    FILE_HEADER_BYTES,
    JOURNAL_KINDS,
    JOURNAL_MAGIC,
    REGISTER_MAGIC,
    SEGMENT_MAGIC,
    BlockWalk,
    Kind,
    aligned,
    bytes_used,
    read_file_header,
)
from shards.store.files import Files
from shards.store.segment import RECORDS_KINDS

_NOUNS: Final = {
    SEGMENT_MAGIC: "messages",
    ACK_LOG_MAGIC: "settlements",
    JOURNAL_MAGIC: "entries",
    REGISTER_MAGIC: "segments",
}


class Form(Struct, frozen=True):
    """What a file of ours has to look like."""

    magic: bytes
    kinds: Collection[Kind]


SEGMENT: Final = Form(SEGMENT_MAGIC, RECORDS_KINDS)
ACK_LOG: Final = Form(ACK_LOG_MAGIC, ack_log.KINDS)
JOURNAL: Final = Form(JOURNAL_MAGIC, JOURNAL_KINDS)
REGISTER: Final = Form(REGISTER_MAGIC, register.KINDS)


def entries_in(files: Files, path: str) -> int:
    """What the headers of a file's blocks say that is in them, from one to the next, without comparing checksums."""
    count = 0
    at = FILE_HEADER_BYTES
    while len(header := files.read(path, at, BLOCK_HEADER_BYTES)) == BLOCK_HEADER_BYTES:
        magic, _kind, _salt, own_offset, payload_bytes, entries, _checksum = BLOCK_HEADER.unpack(header)
        if magic != BLOCK_MAGIC or own_offset != at:
            break
        count += entries
        at = aligned(at + BLOCK_HEADER_BYTES + payload_bytes)
    return count


def verify(path: str, form: Form, *, may_be_torn: bool) -> list[Damage]:
    """Compare every checksum of a file.

    `may_be_torn`: what stands behind the last whole block is a write that was cut short, and nobody's loss. Raises
    StartRefused for an unknown format version, OSError when the file cannot be read.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if not size:
            return []
        content = mmap.mmap(file.fileno(), size, mmap.MAP_SHARED, mmap.PROT_READ)
    damages: list[Damage] = []
    header = read_file_header(content, form.magic, path)
    if header is None and bytes_used(content, 0, min(size, FILE_HEADER_BYTES)):
        damages.append(Damage(path, 0, min(size, FILE_HEADER_BYTES), "the file header does not verify"))
    walk = BlockWalk(content, size, header.salt if header else None, form.kinds)
    for _block in walk:
        pass
    for start, end in walk.holes.items():
        what = f"{_claims(content, start, end, _NOUNS[form.magic])}, does not verify"
        damages.append(Damage(path, start, end - start, what))
    left_over = bytes_used(content, walk.end, size)
    if left_over and not may_be_torn:
        what = f"{_claims(content, walk.end, walk.end + left_over, _NOUNS[form.magic])}, does not verify"
        damages.append(Damage(path, walk.end, left_over, what))
    return damages


def _claims(content: mmap.mmap, start: int, end: int, noun: str) -> str:
    """What damaged bytes say they are; nobody vouches for it."""
    blocks = count = 0
    at = start
    while at + BLOCK_HEADER_BYTES <= end:
        magic, _kind, _salt, own_offset, payload_bytes, entries, _checksum = BLOCK_HEADER.unpack_from(content, at)
        if magic != BLOCK_MAGIC or own_offset != at:
            break
        blocks += 1
        count += entries
        at = aligned(at + BLOCK_HEADER_BYTES + payload_bytes)
    if not blocks:
        return f"what was a block of {noun}"
    return f"what says to be {count:,} {noun} in {blocks} {'block' if blocks == 1 else 'blocks'}"
