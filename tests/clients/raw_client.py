"""A client that says exactly what it is told, right or wrong, and shows what the broker answers byte for byte."""

import socket
import struct
from collections.abc import Iterable
from typing import Any, Final, Self, TypeVar

from pamqp import base, body, commands, frame, header

PROTOCOL_HEADER: Final = b"AMQP\x00\x00\x09\x01"
PLAIN_GUEST: Final = "\x00guest\x00guest"

CAPABILITIES: Final = {
    "publisher_confirms": True,
    "basic.nack": True,
    "consumer_cancel_notify": True,
    "connection.blocked": True,
    "authentication_failure_close": True,
}

Expected = TypeVar("Expected", bound=base.Frame)


def raw_frame(kind: int, channel: int, payload: bytes, *, end: int = 0xCE) -> bytes:
    """Any frame at all, well-formed or not."""
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + bytes((end,))


def content(channel: int, payload: bytes, *, frame_max: int = 131072, properties: Any = None) -> bytes:
    """Header and body frames of one message."""
    room = frame_max - 8
    parts = [frame.marshal(header.ContentHeader(body_size=len(payload), properties=properties), channel)]
    parts += [
        frame.marshal(body.ContentBody(payload[start : start + room]), channel)
        for start in range(0, len(payload), room)
    ]
    return b"".join(parts)


def publish(
    routing_key: str, payload: bytes, *, exchange: str = "", channel: int = 1, persistent: bool = False
) -> bytes:
    """A whole publish: method, header, body."""
    properties = commands.Basic.Properties(delivery_mode=2 if persistent else 1)
    method = commands.Basic.Publish(exchange=exchange, routing_key=routing_key)
    return frame.marshal(method, channel) + content(channel, payload, properties=properties)


class ClosedByBroker(Exception):
    """The broker closed the socket; `unread` is what came before."""

    def __init__(self, unread: bytes) -> None:
        super().__init__(f"closed by the broker, unread: {unread!r}")
        self.unread = unread


class RawClient:
    """A blocking socket with a frame reader on it; every wait ends after `seconds`."""

    def __init__(self, port: int, *, host: str = "127.0.0.1", seconds: float = 10.0) -> None:
        self._socket = socket.create_connection((host, port), timeout=seconds)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray()
        self.frame_max = 131072

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def detach(self) -> socket.socket:
        """The socket, for who goes on without us; it has to be closed there."""
        return self._socket

    def reset(self) -> None:
        """Close without a goodbye: the broker gets a TCP reset."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    # speaking ---------------------------------------------------------------------------------------------------------

    def send_bytes(self, *parts: bytes) -> None:
        self._socket.sendall(b"".join(parts))

    def send_drop_by_drop(self, whole: bytes) -> None:
        """One byte a packet, as far as the kernel goes along."""
        for position in range(len(whole)):
            self._socket.send(whole[position : position + 1])

    def send(self, method: base.Frame, channel: int = 0) -> None:
        self.send_bytes(frame.marshal(method, channel))

    def call(self, method: base.Frame, answer: type[Expected], channel: int = 1) -> Expected:
        self.send(method, channel)
        return self.expect(answer, channel)

    # listening --------------------------------------------------------------------------------------------------------

    def _receive(self) -> None:
        try:
            received = self._socket.recv(1 << 18)
        except ConnectionResetError:
            received = b""
        if not received:
            raise ClosedByBroker(bytes(self._buffer))
        self._buffer += received

    def receive_bytes(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._receive()
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def receive_until_closed(self) -> bytes:
        """All that still comes before the broker closes the socket; a TimeoutError if it does not."""
        while True:
            try:
                self._receive()
            except ClosedByBroker as closed:
                self._buffer.clear()
                return closed.unread

    def next_frame(self) -> tuple[int, Any]:
        """Channel and decoded frame."""
        while True:
            if len(self._buffer) >= 7:
                size = 8 + int.from_bytes(self._buffer[3:7], "big")
                if len(self._buffer) >= size:
                    _, channel, decoded = frame.unmarshal(bytes(self._buffer[:size]))
                    del self._buffer[:size]
                    return channel, decoded
            self._receive()

    def expect(self, kind: type[Expected], channel: int = 0) -> Expected:
        """The next frame but heartbeats, which must be of this kind and on this channel."""
        while True:
            on, decoded = self.next_frame()
            if getattr(decoded, "name", "") == "Heartbeat" and kind.__name__ != "Heartbeat":
                continue
            assert isinstance(decoded, kind), f"expected {kind.__name__}, got {describe(decoded)}"
            assert on == channel, f"{kind.__name__} on channel {on}, expected {channel}"
            return decoded

    def expect_connection_close(self, code: int) -> commands.Connection.Close:
        """`connection.close` with this code, answered; then the broker closes the socket."""
        close = self.expect(commands.Connection.Close)
        assert close.reply_code == code, describe(close)
        self.send(commands.Connection.CloseOk())
        assert self.receive_until_closed() == b""
        return close

    def expect_close_unanswered(self, code: int) -> None:
        """`connection.close` with this code, to which this client never says `close-ok`."""
        close = self.expect(commands.Connection.Close)
        assert close.reply_code == code, describe(close)

    def expect_channel_close(self, code: int, channel: int = 1) -> commands.Channel.Close:
        """`channel.close` with this code, answered; the connection goes on."""
        close = self.expect(commands.Channel.Close, channel)
        assert close.reply_code == code, describe(close)
        self.send(commands.Channel.CloseOk(), channel)
        return close

    def expect_delivery(self, channel: int = 1) -> tuple[commands.Basic.Deliver, bytes]:
        deliver = self.expect(commands.Basic.Deliver, channel)
        return deliver, self.expect_content(channel)

    def expect_content(self, channel: int = 1) -> bytes:
        on, content_header = self.next_frame()
        assert isinstance(content_header, header.ContentHeader) and on == channel, describe(content_header)
        size = content_header.body_size
        whole = bytearray()
        while len(whole) < size:
            on, part = self.next_frame()
            assert isinstance(part, body.ContentBody) and on == channel, describe(part)
            whole += part.value
        return bytes(whole)

    # the opening ------------------------------------------------------------------------------------------------------

    def start(self, *, capabilities: dict[str, bool] = CAPABILITIES, response: str = PLAIN_GUEST) -> None:
        """Protocol header up to and including `connection.start-ok`."""
        self.send_bytes(PROTOCOL_HEADER)
        self.expect(commands.Connection.Start)
        self.send(
            commands.Connection.StartOk(
                client_properties={"product": "raw", "capabilities": dict(capabilities)},
                mechanism="PLAIN",
                response=response,
                locale="en_US",
            )
        )

    def offered(self) -> tuple[int, int, int]:
        """Go as far as `connection.tune`: channel_max, frame_max, heartbeat."""
        self.start()
        tune = self.expect(commands.Connection.Tune)
        return tune.channel_max, tune.frame_max, tune.heartbeat

    def tune(self, *, frame_max: int | None = None, channel_max: int | None = None, heartbeat: int = 0) -> None:
        offered = self.expect(commands.Connection.Tune)
        self.frame_max = offered.frame_max if frame_max is None else frame_max
        self.send(
            commands.Connection.TuneOk(
                channel_max=offered.channel_max if channel_max is None else channel_max,
                frame_max=self.frame_max,
                heartbeat=heartbeat,
            )
        )

    def open(self, *, vhost: str = "/", frame_max: int | None = None, heartbeat: int = 0) -> "RawClient":
        self.start()
        self.tune(frame_max=frame_max, heartbeat=heartbeat)
        self.send_bytes(frame.marshal(open_vhost(vhost), 0))
        self.expect(commands.Connection.OpenOk)
        return self

    def open_channel(self, *channels: int) -> "RawClient":
        for channel in channels or (1,):
            self.call(commands.Channel.Open(), commands.Channel.OpenOk, channel)
        return self

    def declare(self, queue: str, **options: Any) -> commands.Queue.DeclareOk:
        return self.call(commands.Queue.Declare(queue=queue, **options), commands.Queue.DeclareOk)


def open_vhost(vhost: str) -> commands.Connection.Open:
    return commands.Connection.Open(virtual_host=vhost)


def describe(decoded: Any) -> str:
    """What came instead, with reply code and text where it has them."""
    name = getattr(decoded, "name", type(decoded).__name__)
    fields: Iterable[str] = getattr(decoded, "__slots__", ())
    return f"{name} {[(field, getattr(decoded, field, None)) for field in fields]}"
