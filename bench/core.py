"""A shard's core in this process, without sockets: one publisher, one consumer, and the same turn over and over.

What a client sends is built beforehand, and what is sent to it is dropped, so that a turn costs next to nothing but the
broker's own work.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from msgspec import Struct
from pamqp import base, commands

from ipc.messages.commands import NegotiatedClient, Permissions
from ipc.settings import ConnectionSettings, StoreSettings
from ipc.wire.amqp import frames, methods
from shards.model.turn import Turn
from shards.model.vhosts import VHosts
from shards.protocols.amqp.connection import Connection
from shards.store.files import DiskFiles

QUEUE: Final = "bench"
NOW: Final = 1_000_000
MESSAGE_BYTES_MAX: Final = 1 << 20
DESCRIPTORS_MAX: Final = 64

_EVERYTHING: Final = Permissions(configure=".*", write=".*", read=".*")


class Shape(Struct, frozen=True):
    """What the messages of a conversation are like; `acknowledges`: each with a `basic.ack` of its own."""

    name: str
    size_bytes: int
    acknowledges: bool = False


SHAPES: Final = (
    Shape("16 B, auto-ack", 16),
    Shape("16 B, ack", 16, acknowledges=True),
    Shape("1 KiB, auto-ack", 1024),
)


class Conversation:
    """`turn()` publishes, delivers and, where the shape says so, acknowledges `messages` messages."""

    def __init__(self, core: "Core", shape: Shape, *, messages: int, turns: int) -> None:
        self._core = core
        self._publisher = core.connect()
        self._consumer = core.connect()
        core.say(self._publisher, commands.Queue.Declare(queue=QUEUE))
        core.say(
            self._consumer, commands.Basic.Consume(queue=QUEUE, consumer_tag="bench", no_ack=not shape.acknowledges)
        )
        self._publishes = _message(shape.size_bytes) * messages
        self._acks: Iterator[bytes] = iter(())
        if shape.acknowledges:
            tags = (range(turn * messages + 1, (turn + 1) * messages + 1) for turn in range(turns))
            self._acks = iter([b"".join(_ack(tag) for tag in some) for some in tags])
        self.delivered_bytes = 0

    def turn(self) -> None:
        """No more often than was said at first."""
        self._core.hear(self._publisher, self._publishes)
        self.delivered_bytes += self._core.drop_output(self._consumer)
        for acks in self._acks:
            self._core.hear(self._consumer, acks)
            break

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left in the queue or unacknowledged."""
        queue = self._core.vhost.queue(QUEUE, self._consumer)
        return not queue.ready_count and not queue.unacknowledged_count


class Core:
    """What a shard's host puts together, with a clock that stands still."""

    def __init__(self, directory: Path) -> None:
        self._turn = Turn()
        names = count(1)
        self.vhosts = VHosts(self._turn, DiskFiles(DESCRIPTORS_MAX), StoreSettings(), lambda: f"name-{next(names)}")
        self._connections: list[Connection] = []
        self.vhost, _ = self.vhosts.open("/", str(directory))

    def connect(self) -> Connection:
        """A client that has got as far as the shard, with channel 1 open."""
        client = NegotiatedClient(
            name="bench",
            user="guest",
            tags=(),
            vhost="/",
            permissions=_EVERYTHING,
            frame_max=131_072,
            channel_max=2047,
            heartbeat_seconds=0,
            mechanism="PLAIN",
            client_properties=b"\0\0\0\0",
            capabilities=frozenset(),
            unread=b"",
        )
        connection = Connection(
            client,
            self.vhost,
            self.vhosts.access("guest", "/", _EVERYTHING),
            self._turn,
            ConnectionSettings(),
            message_bytes_max=MESSAGE_BYTES_MAX,
            now=NOW,
        )
        self.vhost.connections[connection] = None
        self._connections.append(connection)
        self.say(connection, commands.Channel.Open())
        return connection

    def say(self, connection: Connection, method: base.Frame) -> None:
        self.hear(connection, methods.frame(1, method))
        self.drop_output(connection)

    def hear(self, connection: Connection, data: bytes) -> None:
        """Bytes arrive, whole frames of them, and the turn is finished."""
        with memoryview(data) as view:
            connection.receive(view, NOW)
        self._finish()

    def drop_output(self, connection: Connection) -> int:
        """As if the kernel took all there is to send; how much that was."""
        total = 0
        while not connection.outbox.is_empty:
            size = len(connection.outbox.buffer)
            connection.sent(size, NOW)
            self._finish()
            total += size
        return total

    def _finish(self) -> None:
        self._turn.finish(NOW)
        unsent, self._turn.unsent = self._turn.unsent, []
        for sender in unsent:
            sender.is_listed = False

    def close(self) -> None:
        for connection in self._connections:
            connection.lost()
        self._turn.finish(NOW)
        self.vhosts.close("/")


@contextmanager
def core() -> Iterator[Core]:
    with TemporaryDirectory(prefix="ebbmq-bench-") as directory:
        opened = Core(Path(directory))
        try:
            yield opened
        finally:
            opened.close()


def _message(size_bytes: int) -> bytes:
    publish = methods.frame(1, commands.Basic.Publish(routing_key=QUEUE))
    header = b"\x00\x3c\x00\x00" + size_bytes.to_bytes(8, "big") + commands.Basic.Properties().marshal()
    return publish + frames.pack(frames.HEADER, 1, header) + frames.pack(frames.BODY, 1, bytes(size_bytes))


def _ack(tag: int) -> bytes:
    return methods.frame(1, commands.Basic.Ack(tag))
