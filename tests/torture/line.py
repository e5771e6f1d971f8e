"""A connection of the torture: opened like any other, then read and written without waiting, message by message.

A publisher that waited for the broker while the broker waits for the consumer beside it would stop both for ever, so
what the kernel does not take stays here, up to a bound at which actors pause.
"""

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from pamqp import base, commands, frame

from tests.clients.raw_client import ClosedByBroker, RawClient

FRAME_MAX: Final = 16 * 1024
UNSENT_BYTES_MAX: Final = 256 * 1024
_READ_BYTES: Final = 1 << 18
_OVERHEAD_BYTES: Final = 8
_BODY_ROOM_BYTES: Final = FRAME_MAX - _OVERHEAD_BYTES
_METHOD, _HEADER, _BODY = 1, 2, 3
_PERSISTENT: Final = 2
_PRIORITY_FLAG, _DELIVERY_MODE_FLAG = 1 << 11, 1 << 12

DELIVER: Final = commands.Basic.Deliver.index
GET_OK: Final = commands.Basic.GetOk.index
RETURN: Final = commands.Basic.Return.index
_WITH_CONTENT: Final = frozenset((DELIVER, GET_OK, RETURN))
_BLOCKING: Final = {commands.Connection.Blocked.index: True, commands.Connection.Unblocked.index: False}


class Heard(NamedTuple):
    """A method and, where content follows it, the whole body."""

    channel: int
    method: int
    payload: bytes
    body: bytes


class Line(RawClient):
    """A client connection; `is_cut_off` once the broker, or somebody who killed it, has ended it."""

    def __init__(self, port: int, vhost: str) -> None:
        super().__init__(port)
        self.is_cut_off = False
        self.is_leaving = False
        self.is_blocked = False  # told that what it publishes has to wait
        self._unsent = bytearray()
        self._open_contents: dict[int, _Content] = {}
        try:
            self.open(vhost=vhost, frame_max=FRAME_MAX)
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def is_congested(self) -> bool:
        return len(self._unsent) > UNSENT_BYTES_MAX

    @property
    def has_unsent(self) -> bool:
        return bool(self._unsent)

    @property
    def holder(self) -> "Line | None":
        """Who has what is delivered here: nobody once the goodbye is said, because it goes back unread."""
        return None if self.is_leaving else self

    def say(self, *parts: bytes) -> None:
        """Send as soon as the kernel takes it."""
        for part in parts:
            self._unsent += part

    def exchange(self) -> list[Heard]:
        """Send and receive what can be sent and received now."""
        self._socket.settimeout(0)
        try:
            if self._unsent:
                del self._unsent[: self._socket.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self.is_cut_off = True
        try:
            received = self._socket.recv(_READ_BYTES)
            self.is_cut_off = self.is_cut_off or not received
            self._buffer += received
        except BlockingIOError:
            pass
        except OSError:
            self.is_cut_off = True
        return list(self._whole())

    def ask(self, method: bytes, answer: int) -> list[Heard]:
        """Say it and wait; everything that was heard until the answer was among it.

        Raises ClosedByBroker.
        """
        self._socket.settimeout(20)
        self._socket.sendall(self._unsent + method)
        self._unsent.clear()
        heard = list(self._whole())
        while all(one.method != answer for one in heard):
            self._receive()
            heard += self._whole()
        return heard

    def _receive(self) -> None:
        try:
            super()._receive()
        except (ClosedByBroker, OSError):
            self.is_cut_off = True
            raise

    def _whole(self) -> Iterator[Heard]:
        buffer = self._buffer
        at = 0
        while len(buffer) - at > _OVERHEAD_BYTES - 1:
            kind, channel, size = struct.unpack_from(">BHI", buffer, at)
            end = at + _OVERHEAD_BYTES + size
            if len(buffer) < end:
                break
            payload = bytes(buffer[at + 7 : end - 1])
            at = end
            heard = self._take(kind, channel, payload)
            if heard is not None:
                yield heard
        del buffer[:at]

    def _take(self, kind: int, channel: int, payload: bytes) -> Heard | None:
        if kind == _METHOD:
            index = int.from_bytes(payload[:4], "big")
            if index == commands.Connection.Close.index:
                self.say(method_frame(0, commands.Connection.CloseOk()))
            self.is_blocked = _BLOCKING.get(index, self.is_blocked)
            if index not in _WITH_CONTENT:
                return Heard(channel, index, payload, b"")
            self._open_contents[channel] = _Content(index, payload)
            return None
        content = self._open_contents.get(channel)
        assert content is not None, f"frame of kind {kind} on channel {channel} belongs to nothing"
        if kind == _HEADER:
            content.left = int.from_bytes(payload[4:12], "big")
        else:
            content.body += payload
            content.left -= len(payload)
        if content.left:
            return None
        del self._open_contents[channel]
        return Heard(channel, content.index, content.payload, bytes(content.body))


class _Content:
    def __init__(self, index: int, payload: bytes) -> None:
        self.index = index
        self.payload = payload
        self.body = bytearray()
        self.left = 0


def publish_frames(channel: int, exchange: str, routing_key: str, body: bytes, priority: int) -> bytes:
    """A whole publish of a persistent message."""
    method = b"\x00\x3c\x00\x28\x00\x00" + _short(exchange) + _short(routing_key) + b"\x00"
    flags = _DELIVERY_MODE_FLAG | _PRIORITY_FLAG
    content = struct.pack(">HHQHBB", 60, 0, len(body), flags, _PERSISTENT, priority)
    parts = [_frame(_METHOD, channel, method), _frame(_HEADER, channel, content)]
    parts += [
        _frame(_BODY, channel, body[start : start + _BODY_ROOM_BYTES])
        for start in range(0, len(body), _BODY_ROOM_BYTES)
    ]
    return b"".join(parts)


def settle_frame(channel: int, kind: type[commands.Basic.Ack | commands.Basic.Nack], tag: int, flags: int) -> bytes:
    """`basic.ack` or `basic.nack`; flags: 1 multiple, 2 requeue."""
    return _frame(_METHOD, channel, struct.pack(">IQB", kind.index, tag, flags))


def method_frame(channel: int, method: base.Frame) -> bytes:
    return bytes(frame.marshal(method, channel))


def _frame(kind: int, channel: int, payload: bytes) -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"


def _short(text: str) -> bytes:
    encoded = text.encode()
    return bytes((len(encoded),)) + encoded
