"""Whole messages as bytes, encoded once and sent thousands of times."""

import datetime
import struct
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, Final

from pamqp import commands, header

from ipc.limits import FRAME_OVERHEAD_BYTES
from ipc.wire.amqp import frames, traffic
from runtime.cli.perf.client import CHANNEL, encoded

PROPERTIES: Final = tuple(commands.Basic.Properties.__slots__)


def body_of(size_bytes: int) -> bytes:
    """What every message carries: `@A…Z` over and over, as lavinmqperf's do."""
    return (bytes(range(64, 91)) * (size_bytes // 27 + 1))[:size_bytes]


def encode_properties(size_bytes: int, properties: dict[str, Any], *, is_persistent: bool) -> bytes:
    """A content header's payload. Raises ValueError with a sentence for properties that do not exist or do not fit."""
    found = commands.Basic.Properties()
    for name, value in properties.items():
        if name not in PROPERTIES:
            raise ValueError(f"there is no property '{name}'; expected some of {', '.join(PROPERTIES)}")
        setattr(found, name, value)
    if is_persistent:
        found.delivery_mode = 2
    try:
        if "timestamp" in properties:
            found.timestamp = datetime.datetime.fromtimestamp(properties["timestamp"], datetime.UTC)
        return header.ContentHeader(body_size=size_bytes, properties=found).marshal()
    except (TypeError, ValueError, OverflowError, AttributeError, struct.error) as fault:
        raise ValueError(f"the properties cannot be encoded: {fault}") from fault


def encode_message(exchange: str, routing_key: str, content_header: bytes, body: bytes, frame_max: int) -> bytes:
    """Publish method, content header and as many body frames as it takes."""
    room = frame_max - FRAME_OVERHEAD_BYTES
    parts = [
        encoded(commands.Basic.Publish, exchange=exchange, routing_key=routing_key),
        frames.pack(frames.HEADER, CHANNEL, content_header),
    ]
    parts += [frames.pack(frames.BODY, CHANNEL, body[at : at + room]) for at in range(0, len(body), room)]
    return b"".join(parts)


class Chunk:
    """As many messages as fit into `size_bytes_max`, and at least one of each kind, one kind after the other.

    `starts[n]` is where the body of message n begins, `ends[n]` where the message ends.
    """

    __slots__ = ("count", "data", "ends", "starts")

    def __init__(self, kinds: Sequence[bytes], body_bytes: int, frame_max: int, *, size_bytes_max: int) -> None:
        rounds = max(1, size_bytes_max // sum(map(len, kinds)))
        pieces = max(1, -(-body_bytes // (frame_max - FRAME_OVERHEAD_BYTES)))
        tail = body_bytes + pieces * FRAME_OVERHEAD_BYTES - frames.HEADER_BYTES  # from the first byte of the body on
        self.count = rounds * len(kinds)
        self.data = bytearray(b"".join(kinds) * rounds)
        self.starts = traffic.new_words(self.count)
        self.ends = [0] * self.count
        end = 0
        for number in range(self.count):
            end += len(kinds[number % len(kinds)])
            self.ends[number] = end
            self.starts[number] = end - tail

    def begin(self, number: int) -> int:
        """Where a message begins."""
        return self.ends[number - 1] if number else 0

    def whole(self, position: int) -> int:
        """How many messages end at or before `position`."""
        return bisect_right(self.ends, position)
