"""Frames: `type u8 | channel u16 | size u32 | payload | 0xCE`, big-endian (specification §4.2.3)."""

import struct
from typing import Final, NamedTuple

from ipc.errors import FrameError
from ipc.limits import FRAME_OVERHEAD_BYTES

METHOD: Final = 1
HEADER: Final = 2
BODY: Final = 3
HEARTBEAT: Final = 8
END: Final = 0xCE
HEADER_BYTES: Final = 7

PROTOCOL_HEADER: Final = b"AMQP\x00\x00\x09\x01"
HEARTBEAT_FRAME: Final = b"\x08\x00\x00\x00\x00\x00\x00\xce"

_KNOWN: Final = frozenset((METHOD, HEADER, BODY, HEARTBEAT))
_FRAME = struct.Struct(">BHI")


class Frame(NamedTuple):
    """Where one whole frame lies in a buffer: payload is `buffer[start:end]`, the next frame begins at `end + 1`."""

    kind: int
    channel: int
    start: int
    end: int


def scan(buffer: bytes | bytearray | memoryview, position: int, frame_max: int) -> Frame | None:
    """The frame that begins at `position`, or None while it is incomplete; `frame_max` in bytes with overhead.

    A payload of `frame_max` bytes is let through, as RabbitMQ does: some clients (amqpstorm 3.1) forget the overhead.

    Raises FrameError (501) for an unknown type, a size beyond `frame_max` or a wrong end octet; an oversized frame is
    refused from its first seven bytes, before any of it is kept.
    """
    if len(buffer) - position < HEADER_BYTES:
        return None
    kind, channel, size = _FRAME.unpack_from(buffer, position)
    if kind not in _KNOWN:
        raise FrameError(f"unknown frame type {kind}")
    if size > frame_max:
        raise FrameError(f"frame of {size + FRAME_OVERHEAD_BYTES} bytes exceeds frame_max {frame_max}")
    start = position + HEADER_BYTES
    end = start + size
    if end >= len(buffer):
        return None
    if buffer[end] != END:
        raise FrameError(f"frame does not end in 0xCE but 0x{buffer[end]:02X}")
    return Frame(kind, channel, start, end)


def pack(kind: int, channel: int, payload: bytes) -> bytes:
    """One whole frame."""
    return b"%b%b\xce" % (_FRAME.pack(kind, channel, len(payload)), payload)
