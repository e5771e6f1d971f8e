"""A client that costs as little as Python allows: prebuilt frames out, frame borders counted in big reads."""

import socket
import struct
from typing import Any, Final

from pamqp import base, commands, frame, header

READ_BYTES: Final = 1 << 20
PUBLISH_CHUNK_BYTES: Final = 256 * 1024

_METHOD, _BODY = 1, 3
_CLOSES: Final = {commands.Connection.Close.frame_id, commands.Channel.Close.frame_id}


class Wire:
    """One connection with one channel, opened when constructed."""

    def __init__(self, port: int, *, vhost: str = "/", seconds: float = 120.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=seconds)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.socket.sendall(b"AMQP\x00\x00\x09\x01")
        self.await_frame("Connection.Start")
        self.send(commands.Connection.StartOk(mechanism="PLAIN", response="\x00guest\x00guest", locale="en_US"), 0)
        tune = self.await_frame("Connection.Tune")
        tuned = commands.Connection.TuneOk(channel_max=tune.channel_max, frame_max=tune.frame_max, heartbeat=0)
        self.send(tuned, 0)
        self.send(commands.Connection.Open(virtual_host=vhost), 0)
        self.await_frame("Connection.OpenOk")
        self.send(commands.Channel.Open())
        self.await_frame("Channel.OpenOk")

    def close(self) -> None:
        self.socket.close()

    def send(self, method: base.Frame, channel: int = 1) -> None:
        self.socket.sendall(frame.marshal(method, channel))

    def await_frame(self, name: str) -> Any:
        """The next frame, which must be of this name."""
        while len(self.buffer) < 7 or len(self.buffer) < 8 + int.from_bytes(self.buffer[3:7], "big"):
            self.buffer += self.receive()
        used, _, got = frame.unmarshal(self.buffer)
        self.buffer = self.buffer[used:]
        if not isinstance(got, base.Frame) or got.name != name:
            text = getattr(got, "reply_text", got)
            raise SystemExit(f"expected {name}, the broker sent {got.name}: {text}")
        return got

    def receive(self) -> bytes:
        received = self.socket.recv(READ_BYTES)
        if not received:
            raise SystemExit("the broker closed the connection")
        return received

    def declare(self, queue: str, *, durable: bool) -> None:
        self.send(commands.Queue.Declare(queue=queue, durable=durable))
        self.await_frame("Queue.DeclareOk")

    def delete(self, queue: str) -> None:
        self.send(commands.Queue.Delete(queue=queue))
        self.await_frame("Queue.DeleteOk")

    def consume(self, queue: str, *, no_ack: bool, prefetch: int) -> None:
        if prefetch:
            self.send(commands.Basic.Qos(prefetch_count=prefetch))
            self.await_frame("Basic.QosOk")
        self.send(commands.Basic.Consume(queue=queue, no_ack=no_ack, consumer_tag="bench"))
        self.await_frame("Basic.ConsumeOk")


def publish_frames(queue: str, size: int, *, persistent: bool) -> bytes:
    """One whole message to a queue through the default exchange."""
    properties = commands.Basic.Properties(delivery_mode=2 if persistent else 1)
    return (
        frame.marshal(commands.Basic.Publish(routing_key=queue), 1)
        + frame.marshal(header.ContentHeader(body_size=size, properties=properties), 1)
        + struct.pack(">BHI", _BODY, 1, size)
        + bytes(size)
        + b"\xce"
    )


def publish_many(wire: Wire, message: bytes, count: int) -> None:
    """Send `count` copies in large writes."""
    per_chunk = max(1, PUBLISH_CHUNK_BYTES // len(message))
    chunk = message * per_chunk
    whole, rest = divmod(count, per_chunk)
    for _ in range(whole):
        wire.socket.sendall(chunk)
    wire.socket.sendall(message * rest)


def take_deliveries(wire: Wire, count: int, size: int, *, ack_every: int) -> None:
    """Take `count` deliveries of `size` bytes of body; every `ack_every` of them (0: none) acknowledge up to the last.

    All deliveries of one run have the same frame lengths, because exchange, routing key and consumer tag do not change:
    so once one is known, whole reads are counted by division, and only their ends are looked at.
    """
    first = _first_delivery(wire, size)
    taken = acknowledged = 0
    pending = len(wire.buffer)
    while True:
        arrived, _ = divmod(pending, first)
        if arrived:
            taken += arrived
            wire.buffer = _rest(wire, arrived * first)
            pending -= arrived * first
        if ack_every and (taken - acknowledged >= ack_every or taken == count):
            wire.send(commands.Basic.Ack(delivery_tag=taken, multiple=True))
            acknowledged = taken
        if taken >= count:
            return
        wire.buffer += wire.receive()
        pending = len(wire.buffer)


def _rest(wire: Wire, used: int) -> bytes:
    """What follows the deliveries just counted; the last of them must end as a frame does."""
    buffer = wire.buffer
    if buffer[used - 1] != 0xCE or buffer[0] != _METHOD:
        raise SystemExit("the broker sent something else than deliveries")
    return buffer[used:]


def _first_delivery(wire: Wire, size: int) -> int:
    """Length of one delivery in bytes: method, header and, unless it is empty, one body frame."""
    while True:
        position = 0
        for _ in range(3 if size else 2):
            if len(wire.buffer) < position + 7:
                break
            position += 8 + int.from_bytes(wire.buffer[position + 3 : position + 7], "big")
        else:
            if len(wire.buffer) >= position:
                return position
        if len(wire.buffer) > 11 and int.from_bytes(wire.buffer[7:11], "big") in _CLOSES:
            raise SystemExit(f"the broker closed: {wire.buffer[11:200]!r}")
        wire.buffer += wire.receive()
