"""Stored records become content frames: `basic.deliver` for runs of messages, `get-ok` and `return` for single ones.

Hot module: `DeliveryFraming.run` frames many messages in one call, from the store's buffer into the outbox; per
message it unpacks 20 bytes and copies each byte once. The record's layout, `shards/store/record.py`'s, is chosen so
that exchange, routing key and content header are sent exactly as they came in.
"""

import struct
from array import array
from typing import Final

from ipc.limits import FRAME_OVERHEAD_BYTES, LARGE_BODY_BYTES
from ipc.wire.amqp import amending, frames
from shards.protocols.amqp.runs import frame_deliveries
from shards.store.reader import Span
from shards.store.record import RECORD_HEAD_BYTES

_DELIVER: Final = b"\x00\x3c\x00\x3c"
_GET_OK: Final = b"\x00\x3c\x00\x47"
_RETURN: Final = b"\x00\x3c\x00\x32"

_DELIVERY_COUNT: Final = "x-delivery-count"

_LENGTHS = struct.Struct("<IIH")  # record, header, address
_FRAME = struct.Struct(">BHI")
_TAG = struct.Struct(">QB")


class DeliveryFraming:
    """Frames deliveries for one consumer; what is the same in all of them is made once."""

    __slots__ = ("_body_max", "_channel", "_method")

    def __init__(self, channel: int, consumer_tag: bytes, frame_max: int) -> None:
        self._channel = channel
        self._body_max = frame_max - FRAME_OVERHEAD_BYTES
        self._method = _DELIVER + bytes((len(consumer_tag),)) + consumer_tag

    def run(
        self,
        span: Span,
        outbox: bytearray,
        first_tag: int,
        count: int,
        room_bytes: int,
        positions: "array[int]",
    ) -> int:
        """Frame up to `count` records of `span` until `room_bytes` are used; appends their positions to `positions`.

        The index where the next record of the span begins. Stops before a large body, which goes another way.
        """
        return frame_deliveries(
            span.buffer,
            span.start,
            span.end,
            outbox,
            len(outbox) + room_bytes,
            self._channel,
            self._method,
            span.redelivered,
            first_tag,
            first_tag + count,
            self._body_max,
            span.base,
            positions,
        )

    def begin(self, record: "StoredRecord", outbox: bytearray, tag: int) -> None:
        """Frame method and header of one record, whose body goes its own way."""
        outbox += frames.pack(
            frames.METHOD, self._channel, self._method + _TAG.pack(tag, record.redelivered) + record.address
        )
        outbox += frames.pack(frames.HEADER, self._channel, record.header)


class StoredRecord:
    """The parts of a span's first record, copied out."""

    __slots__ = ("address", "body_start", "end", "header", "position", "redelivered")

    def __init__(self, span: Span, returns: int = 0) -> None:
        """`returns`: how often it has come back, where somebody counts; the header tells."""
        record_bytes, header_bytes, address_bytes = _LENGTHS.unpack_from(span.buffer, span.start)
        address = span.start + RECORD_HEAD_BYTES
        header = address + address_bytes
        self.body_start: int = header + header_bytes
        self.end: int = span.start + record_bytes
        self.address = bytes(span.buffer[address:header])
        self.header = bytes(span.buffer[header : self.body_start])
        if returns:
            self.header = _with_delivery_count(self.header, returns)
        self.position = span.base + span.start
        self.redelivered = span.redelivered

    @property
    def body_bytes(self) -> int:
        return self.end - self.body_start

    @property
    def is_large(self) -> bool:
        return self.body_bytes >= LARGE_BODY_BYTES

    def body(self, span: Span) -> bytes:
        return bytes(span.buffer[self.body_start : self.end])


def _with_delivery_count(header: bytes, returns: int) -> bytes:
    """As RabbitMQ's quorum queues tell how often a message has been handed out before."""
    return amending.with_header_field(header, _DELIVERY_COUNT, lambda _before: amending.number(returns))


def get_ok(channel: int, record: StoredRecord, tag: int, messages_left: int) -> bytes:
    """Method and header frame of `basic.get-ok`."""
    method = _GET_OK + _TAG.pack(tag, record.redelivered) + record.address + struct.pack(">I", messages_left)
    return frames.pack(frames.METHOD, channel, method) + frames.pack(frames.HEADER, channel, record.header)


def returned(channel: int, code: int, text: bytes, address: bytes, header: bytes) -> bytes:
    """Method and header frame of `basic.return`."""
    method = _RETURN + struct.pack(">HB", code, len(text)) + text + address
    return frames.pack(frames.METHOD, channel, method) + frames.pack(frames.HEADER, channel, header)


def body_frames(channel: int, body: bytes | bytearray, frame_max: int) -> bytes:
    """A body in frames none of which exceeds `frame_max`; an empty body has none."""
    body_max = frame_max - FRAME_OVERHEAD_BYTES
    return b"".join(
        frames.pack(frames.BODY, channel, bytes(body[start : start + body_max]))
        for start in range(0, len(body), body_max)
    )
