"""A spike of load that rises and falls: connections with channels, queues with bindings, unacknowledged deliveries."""

import struct
import time
from typing import Final

from msgspec import Struct
from pamqp import body, commands, frame, header

from bench.wire import READ_BYTES, Unexpected, Wire

BIG_QUEUE: Final = "tide-unacknowledged"
BODY: Final = b"x" * 64
_PUBLISHED_AT_ONCE: Final = 1_000
_QUEUES_AT_ONCE: Final = 200
_FRAME: Final = struct.Struct(">BHI")
_ACK: Final = struct.Struct(">BHIHHQBB")
_BODY_FRAME: Final = 3
_SETTLE_SECONDS_MAX: Final = 30.0


class Size(Struct, frozen=True):
    """How high a spike rises."""

    connections: int = 1_000
    channels: int = 5  # of each connection
    queues: int = 5_000  # each bound to a topic exchange
    deliveries: int = 500_000  # unacknowledged at the same time, of one queue

    def scaled(self, factor: float) -> "Size":
        return Size(
            round(self.connections * factor),
            self.channels,
            round(self.queues * factor),
            round(self.deliveries * factor),
        )


class Tide:
    """One spike on one broker; what it is made of stands in `size`."""

    def __init__(self, port: int, size: Size) -> None:
        self._port = port
        self._size = size
        self._control = Wire(port)
        self._connections: list[Wire] = []
        self._queues: list[str] = []
        self._consumer: Wire | None = None

    def rise(self) -> None:
        self.connect()
        self.declare()
        self.deliver()

    def fall(self, *, keep_each: int = 0) -> None:
        """All of it goes; with `keep_each`, every so many-th of each kind stays, spread over what there was."""
        self._settle(keep_each)
        self._disconnect(keep_each)
        self._delete(keep_each)
        if not keep_each:
            self._control.delete(BIG_QUEUE)
        self._await_quiet()

    def close(self) -> None:
        """Whatever was kept goes, too."""
        for queue in (*self._queues, BIG_QUEUE):
            self._control.delete(queue)
        for wire in (*self._connections, *((self._consumer,) if self._consumer else ()), self._control):
            wire.close()

    # rising -----------------------------------------------------------------------------------------------------------

    def connect(self) -> None:
        for _ in range(self._size.connections):
            wire = Wire(self._port)
            self._connections.append(wire)
            for number in range(2, self._size.channels + 1):
                wire.send(commands.Channel.Open(), number)
            for _ in range(2, self._size.channels + 1):
                wire.await_frame("Channel.OpenOk")

    def declare(self) -> None:
        self._queues = [f"tide-{number}" for number in range(self._size.queues)]
        for start in range(0, len(self._queues), _QUEUES_AT_ONCE):
            some = self._queues[start : start + _QUEUES_AT_ONCE]
            self._control.ask_all([commands.Queue.Declare(queue=queue) for queue in some], "Queue.DeclareOk")
            self._control.ask_all(
                [commands.Queue.Bind(queue=queue, exchange="amq.topic", routing_key=f"a.{queue}.#") for queue in some],
                "Queue.BindOk",
            )

    def deliver(self) -> None:
        self._control.declare(BIG_QUEUE, durable=True)
        message = publish("", BIG_QUEUE, BODY)
        for start in range(0, self._size.deliveries, _PUBLISHED_AT_ONCE):
            self._control.socket.sendall(message * min(_PUBLISHED_AT_ONCE, self._size.deliveries - start))
        self._consumer = wire = Wire(self._port)
        wire.send(commands.Basic.Consume(queue=BIG_QUEUE, consumer_tag="tide"))
        wire.await_frame("Basic.ConsumeOk")
        drain(wire, self._size.deliveries)

    # falling ----------------------------------------------------------------------------------------------------------

    def _settle(self, keep_each: int) -> None:
        wire = self._consumer
        assert wire is not None
        if not keep_each:
            wire.socket.sendall(acknowledge(0, multiple=True))
            wire.close()
            self._consumer = None
            return
        for start in range(1, self._size.deliveries + 1, _PUBLISHED_AT_ONCE):
            tags = range(start, min(start + _PUBLISHED_AT_ONCE, self._size.deliveries + 1))
            wire.socket.sendall(b"".join(acknowledge(tag) for tag in tags if tag % keep_each))

    def _disconnect(self, keep_each: int) -> None:
        kept = [wire for index, wire in enumerate(self._connections) if keep_each and index % keep_each == 0]
        for wire in self._connections:
            if wire not in kept:
                wire.close()
        self._connections = kept

    def _delete(self, keep_each: int) -> None:
        going = [queue for index, queue in enumerate(self._queues) if not keep_each or index % keep_each]
        self._control.ask_all([commands.Queue.Delete(queue=queue) for queue in going], "Queue.DeleteOk")
        self._queues = [queue for queue in self._queues if queue not in set(going)]

    def _await_quiet(self) -> None:
        """Until the broker has taken in all that was said: it answers in order, and cancelling ends deliveries."""
        if self._consumer is not None:
            self._consumer.send(commands.Basic.Qos())
            self._consumer.await_frame("Basic.QosOk")
        self._control.send(commands.Basic.Qos())
        self._control.await_frame("Basic.QosOk")


def publish(exchange: str, routing_key: str, content: bytes) -> bytes:
    """A persistent message on channel 1, as frames."""
    properties = commands.Basic.Properties(delivery_mode=2)
    return (
        frame.marshal(commands.Basic.Publish(exchange=exchange, routing_key=routing_key), 1)
        + frame.marshal(header.ContentHeader(0, len(content), properties), 1)
        + frame.marshal(body.ContentBody(content), 1)
    )


def acknowledge(tag: int, *, multiple: bool = False) -> bytes:
    return _ACK.pack(1, 1, 13, 60, 80, tag, multiple, 0xCE)


def drain(wire: Wire, count: int) -> None:
    """Read so many deliveries, all of one size, and keep none of them."""
    while (first := _delivery_bytes(wire.buffer)) == 0:
        wire.buffer += wire.socket.recv(READ_BYTES)
    left = first * count - len(wire.buffer)
    deadline = time.monotonic() + _SETTLE_SECONDS_MAX + count / 10_000
    space = bytearray(1 << 20)
    while left > 0:
        received = wire.socket.recv_into(space, min(left, len(space)))
        if not received or time.monotonic() > deadline:
            raise Unexpected(f"{left // first} of {count} deliveries did not come")
        left -= received
    wire.buffer = b""


def _delivery_bytes(buffer: bytes) -> int:
    """What the first delivery takes, from its method to the end of its only body frame; 0 while it is not all there."""
    at = 0
    while len(buffer) - at >= _FRAME.size:
        kind, _channel, size = _FRAME.unpack_from(buffer, at)
        at += size + 8
        if kind == _BODY_FRAME:
            return at if at <= len(buffer) else 0
    return 0
