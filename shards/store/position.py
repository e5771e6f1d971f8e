"""Where a message is, for good: `segment number << 32 | offset in its file`.

A position is given at append, and holds from the tail through the file to the end of the message: the tail is merely a
block that is not written yet. The upper eight bits of a number are the priority in a priority queue
(`priority_store.py`) and else 0. Nothing is ever appended to a segment that was recovered, so no position is used twice
while an old ack log could speak of it.
"""

from typing import Final

from shards.store.blocks import FILE_HEADER_BYTES, PLACED_HEADER_BYTES

OFFSET_MASK: Final = 0xFFFFFFFF
LEVEL_SHIFT: Final = 24  # of segment numbers: those of a priority queue's levels differ in the bits from here on
FIRST_TAIL_OFFSET: Final = FILE_HEADER_BYTES + PLACED_HEADER_BYTES


def block_base(number: int, end: int = FILE_HEADER_BYTES) -> int:
    """The position of the first record of a block that is still to be written, where the last one of its segment ended
    at this offset."""
    return number << 32 | end + PLACED_HEADER_BYTES
