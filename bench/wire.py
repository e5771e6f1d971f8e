"""A plain AMQP client for what is made before a measurement: connections, queues and bindings, many in one write."""

import socket
import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Final

from pamqp import base, commands, frame

READ_BYTES: Final = 1 << 16
PIPELINED: Final = 200  # requests sent before their answers are read
_LOOK_SECONDS: Final = 0.1


class Unexpected(SystemExit):
    """The broker said something else, or nothing at all."""


class Wire:
    """One connection with one channel, opened when constructed."""

    def __init__(self, port: int, *, vhost: str = "/", seconds: float = 120.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=seconds)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        try:
            self._open(vhost)
        except BaseException:
            self.close()
            raise

    def _open(self, vhost: str) -> None:
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

    def __enter__(self) -> "Wire":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def send(self, method: base.Frame, channel: int = 1) -> None:
        self.socket.sendall(frame.marshal(method, channel))

    def await_frame(self, name: str) -> Any:
        """The next frame, which must be of this name."""
        while len(self.buffer) < 7 or len(self.buffer) < 8 + int.from_bytes(self.buffer[3:7], "big"):
            self.buffer += self._receive()
        used, _, got = frame.unmarshal(self.buffer)
        self.buffer = self.buffer[used:]
        if not isinstance(got, base.Frame) or got.name != name:
            text = getattr(got, "reply_text", got)
            raise Unexpected(f"expected {name}, the broker sent {got.name}: {text}")
        return got

    def _receive(self) -> bytes:
        received = self.socket.recv(READ_BYTES)
        if not received:
            raise Unexpected("the broker closed the connection")
        return received

    def ask_all(self, requests: Sequence[base.Frame], answer: str) -> None:
        for start in range(0, len(requests), PIPELINED):
            some = requests[start : start + PIPELINED]
            self.socket.sendall(b"".join(frame.marshal(request, 1) for request in some))
            for _ in some:
                self.await_frame(answer)

    def declare(self, queue: str, *, durable: bool) -> None:
        self.declare_all([queue], durable=durable)

    def declare_all(self, queues: Iterable[str], *, durable: bool) -> None:
        self.ask_all([commands.Queue.Declare(queue=queue, durable=durable) for queue in queues], "Queue.DeclareOk")

    def delete(self, queue: str) -> None:
        self.ask_all([commands.Queue.Delete(queue=queue)], "Queue.DeleteOk")

    def purge(self, queue: str) -> None:
        self.ask_all([commands.Queue.Purge(queue=queue)], "Queue.PurgeOk")

    def depth(self, queue: str, *, durable: bool) -> int:
        """Messages ready in a queue that is there."""
        self.send(commands.Queue.Declare(queue=queue, durable=durable, passive=True))
        return int(self.await_frame("Queue.DeclareOk").message_count)

    def bind_all(self, queue: str, exchange: str, routing_keys: Iterable[str]) -> None:
        self.ask_all(
            [commands.Queue.Bind(queue=queue, exchange=exchange, routing_key=key) for key in routing_keys],
            "Queue.BindOk",
        )


def await_vhost(port: int, vhost: str, *, seconds_max: float) -> None:
    """Until a client can open it: a broker that runs takes notice of a new one in its own time."""
    deadline = time.monotonic() + seconds_max
    while True:
        try:
            Wire(port, vhost=vhost).close()
            return
        except Unexpected:
            if time.monotonic() > deadline:
                raise
            time.sleep(_LOOK_SECONDS)
