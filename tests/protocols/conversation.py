"""A shard's core without sockets, and clients that talk to it in frames: the world of the protocol tests."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from pamqp import commands

from ipc.messages.commands import NegotiatedClient, Permissions
from ipc.settings import ConnectionSettings, StoreSettings
from ipc.wire.amqp import frames, methods
from shards.model.turn import Shortage, Turn
from shards.model.vhost import VHost
from shards.model.vhosts import VHosts
from shards.protocols.amqp.connection import Connection
from shards.store.files import DiskFiles, Files
from shards.store.recovery import RecoveryReport

EVERYTHING = Permissions(configure=".*", write=".*", read=".*")


class Content(NamedTuple):
    """A message as a client sees it."""

    method: Any
    header: bytes
    body: bytes


class World:
    """One shard with the vhost `/`, virtual time, and a disk that is synced when somebody asks."""

    def __init__(
        self,
        directory: Path,
        *,
        files: Files | None = None,
        settings: ConnectionSettings | None = None,
        store: StoreSettings | None = None,
        shard: Any = None,
    ) -> None:
        """`shard`: anything with a turn, files and vhosts of its own to use instead of new ones."""
        self.now = 1_000_000
        self.turn = shard.turn if shard else Turn()
        self.turn.now = self.now
        self.files = shard.files if shard else files or DiskFiles(64)
        self.settings = settings or ConnectionSettings()
        names = count(1)
        self.vhosts = (
            shard.vhosts
            if shard
            else VHosts(self.turn, self.files, store or StoreSettings(), lambda: f"name-{next(names)}")
        )
        self._directory = directory
        self.vhost = self.open("/")
        self.clients: list[Client] = []
        self.syncs_by_itself = True

    def open(self, name: str) -> VHost:
        place = self._directory / (name.strip("/") or "default")
        place.mkdir(parents=True, exist_ok=True)
        vhost, report = self.vhosts.open(name, str(place))
        self.report: RecoveryReport = report
        return vhost

    def client(self, **facts: Any) -> "Client":
        client = Client(self, **facts)
        self.clients.append(client)
        return client

    def finish_turn(self) -> None:
        """What the pump does after input, until nothing is left to do."""
        while True:
            for connection in self._take_resumable():
                connection.resume(self.now)
            try:
                self.turn.finish(self.now)
            except OSError:
                self.turn.block(Shortage.WRITES)
            for sender in self._take_unsent():
                sender.is_listed = False
            for client in self.clients:
                client.collect()
            if self.syncs_by_itself and self.turn.round_wanted:
                self.sync()
            if not self.turn.has_work:
                return

    def sync(self) -> None:
        """One round: definitions committed, files synced, everybody told."""
        number = self.turn.begin_round()
        for definitions, changes in self.vhosts.take_changes():
            definitions.commit(changes)
        self.files.take_unsynced().run()
        self.turn.complete_round(number)
        self.checkpoint()

    def checkpoint(self) -> None:
        """What the host's thread does for journals that have a full file."""
        while self.turn.checkpoints:
            journal, _ = self.turn.checkpoints.popitem()
            journal.begin_checkpoint().run()
            self.turn.checkpointed(journal)

    def retry_storage(self) -> None:
        """What the host does from time to time while the file system refuses."""
        try:
            self.turn.retry()
        except OSError:
            return
        self.finish_turn()

    def advance(self, milliseconds: int) -> None:
        """Let time pass, and every connection do what is due."""
        self.now += milliseconds
        self.turn.now = self.now
        for client in self.clients:
            client.connection.tick(self.now)
        self.finish_turn()

    def restart(self) -> "World":
        """End in order and begin again with what is on disk."""
        self.close()
        return World(self._directory)

    def crash(self) -> "World":
        """End at once, and begin again with what is on disk."""
        return World(self._directory)

    def close(self) -> None:
        for client in self.clients:
            client.connection.lost()
        self.turn.finish(self.now)
        self.sync()
        for name in self.vhosts.names():
            self.vhosts.close(name)

    def _take_resumable(self) -> list[Any]:
        resumable, self.turn.resumable = self.turn.resumable, []
        return resumable

    def _take_unsent(self) -> list[Any]:
        unsent, self.turn.unsent = self.turn.unsent, []
        return unsent


class Client:
    """Speaks frames to one connection and collects what comes back; `chop` cuts its input into pieces."""

    def __init__(
        self,
        world: World,
        *,
        vhost: VHost | None = None,
        user: str = "guest",
        tags: tuple[str, ...] = (),
        permissions: Permissions = EVERYTHING,
        frame_max: int = 131072,
        channel_max: int = 2047,
        heartbeat: int = 0,
        capabilities: frozenset[str] = frozenset({"consumer_cancel_notify", "basic.nack"}),
        chop: Callable[[bytes], Iterator[bytes]] | None = None,
        message_bytes_max: int = 128 * 1024 * 1024,
    ) -> None:
        self.world = world
        owner = vhost or world.vhost
        facts = NegotiatedClient(
            name=f"127.0.0.1:{len(world.clients) + 40000} -> 127.0.0.1:5672",
            user=user,
            tags=tags,
            vhost=owner.name,
            permissions=permissions,
            frame_max=frame_max,
            channel_max=channel_max,
            heartbeat_seconds=heartbeat,
            mechanism="PLAIN",
            client_properties=b"\0\0\0\0",
            capabilities=capabilities,
            unread=b"",
        )
        self.connection = Connection(
            facts,
            owner,
            world.vhosts.access(user, owner.name, permissions),
            world.turn,
            world.settings,
            message_bytes_max=message_bytes_max,
            now=world.now,
        )
        owner.connections[self.connection] = None
        self.frame_max = frame_max
        self.wire = bytearray()
        self._kept: list[Any] = []  # heard while we waited for something else
        self.reads = True
        self._chop = chop or (lambda data: iter((data,)))
        self.replies()  # connection.open-ok

    # saying -----------------------------------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Bytes arrive, in the pieces this client's connection cuts them into; the turn is finished after each."""
        for piece in self._chop(data):
            whole = self.connection.partial + piece
            if not self.connection.wants_input:
                raise AssertionError("the pump would not have read this")
            with memoryview(whole) as view:
                self.connection.receive(view, self.world.now)
            self.world.finish_turn()

    def say(self, method: methods.Method, channel: int = 1) -> None:
        self.send(methods.frame(channel, method))

    def ask(self, method: methods.Method, channel: int = 1) -> Any:
        """Say it and give the single reply."""
        self.say(method, channel)
        replies = self.replies()
        assert len(replies) == 1, replies
        return replies[0]

    def open(self, channel: int = 1) -> "Client":
        self.ask(commands.Channel.Open(), channel)
        return self

    def declare(self, queue: str, *, channel: int = 1, **facts: Any) -> Any:
        method = commands.Queue.Declare(**facts)
        method.queue = queue  # set afterwards: the constructor knows fewer names than there are
        return self.ask(method, channel)

    def bind(self, exchange: str, queue: str, key: str = "", arguments: Any = None, channel: int = 1) -> Any:
        return self.ask(
            commands.Queue.Bind(exchange=exchange, queue=queue, routing_key=key, arguments=arguments), channel
        )

    def consume(
        self, queue: str, *, tag: str = "", acks: bool = False, exclusive: bool = False, channel: int = 1
    ) -> str:
        """Subscribe; the consumer tag. What is delivered at once is heard later."""
        self.say(commands.Basic.Consume(queue=queue, consumer_tag=tag, no_ack=not acks, exclusive=exclusive), channel)
        reply, *self._kept = self.replies()
        assert isinstance(reply, commands.Basic.ConsumeOk), reply
        return str(reply.consumer_tag)

    def prefetch(self, count: int, *, shared: bool = False, channel: int = 1) -> Any:
        """`shared`: by all consumers of the channel."""
        return self.ask(commands.Basic.Qos(prefetch_count=count, global_=shared), channel)

    def get(self, queue: str, *, acks: bool = False, channel: int = 1) -> Content | None:
        method = commands.Basic.Get(no_ack=not acks)
        method.queue = queue  # as above
        reply = self.ask(method, channel)
        return reply if isinstance(reply, Content) else None

    def drain(self, queue: str) -> list[bytes]:
        """The bodies of everything ready, taken one by one."""
        bodies = []
        while (message := self.get(queue)) is not None:
            bodies.append(message.body)
        return bodies

    def ack(self, tag: int, *, multiple: bool = False, channel: int = 1) -> None:
        self.say(commands.Basic.Ack(delivery_tag=tag, multiple=multiple), channel)

    def nack(self, tag: int, *, multiple: bool = False, requeue: bool = True, channel: int = 1) -> None:
        self.say(commands.Basic.Nack(delivery_tag=tag, multiple=multiple, requeue=requeue), channel)

    def disconnect(self) -> None:
        """The socket is gone."""
        self.connection.vhost.connections.pop(self.connection, None)
        self.connection.lost()
        self.world.finish_turn()

    def publish(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        *,
        channel: int = 1,
        persistent: bool = False,
        mandatory: bool = False,
        immediate: bool = False,
        properties: commands.Basic.Properties | None = None,
    ) -> None:
        self.send(
            content(
                exchange,
                routing_key,
                body,
                channel=channel,
                mandatory=mandatory,
                immediate=immediate,
                properties=properties or commands.Basic.Properties(delivery_mode=2 if persistent else None),
                frame_max=self.frame_max,
            )
        )

    # hearing ----------------------------------------------------------------------------------------------------------

    def collect(self) -> None:
        """The client reads all there is, unless it has stopped reading."""
        while self.reads and not self.connection.outbox.is_empty:
            data = bytes(self.connection.outbox.buffer)
            self.wire += data
            self.connection.sent(len(data), self.world.now)

    def replies(self) -> list[Any]:
        """Everything heard since the last call: methods, and messages as Content."""
        return [thing for _channel, thing in self.heard()]

    def heard(self) -> list[tuple[int, Any]]:
        """The same with the channel before each."""
        self.collect()
        kept, self._kept = self._kept, []
        heard = [*((0, thing) for thing in kept), *parse(bytes(self.wire), self.frame_max)]
        self.wire.clear()
        return heard

    def deliveries(self) -> list[Content]:
        return [thing for thing in self.replies() if isinstance(thing, Content)]

    def bodies(self) -> list[bytes]:
        return [message.body for message in self.deliveries()]

    def refusal(self) -> tuple[str, int]:
        """The one reply, which closes a channel or the connection: ("channel" or "connection", reply code)."""
        (reply,) = self.replies()
        assert isinstance(reply, commands.Channel.Close | commands.Connection.Close), reply
        return reply.name.partition(".")[0].lower(), reply.reply_code or 0


def parse(wire: bytes, frame_max: int) -> Iterator[tuple[int, Any]]:
    """Frames as (channel, method or Content or "heartbeat"); a frame beyond `frame_max` or cut short fails the test."""
    position = 0
    pending: dict[int, tuple[Any, bytes, bytearray, int]] = {}
    while position < len(wire):
        frame = frames.scan(wire, position, frame_max)
        assert frame is not None, "the broker sent half a frame"
        assert frame.end + 1 - position <= frame_max, "the broker sent too large a frame"
        position = frame.end + 1
        payload = wire[frame.start : frame.end]
        if frame.kind == frames.HEARTBEAT:
            yield frame.channel, "heartbeat"
        elif frame.kind == frames.METHOD:
            method = methods.decode(payload)
            assert frame.channel not in pending, "a method between the frames of a message"
            if isinstance(method, commands.Basic.Deliver | commands.Basic.GetOk | commands.Basic.Return):
                pending[frame.channel] = (method, b"", bytearray(), -1)
            else:
                yield frame.channel, method
        else:
            method, header, body, size = pending.pop(frame.channel)
            if frame.kind == frames.HEADER:
                header, size = payload, int.from_bytes(payload[4:12], "big")
            else:
                body += payload
            if len(body) == size:
                yield frame.channel, Content(method, header, bytes(body))
            else:
                pending[frame.channel] = (method, header, body, size)
    assert not pending, "the broker sent half a message"


def content(
    exchange: str,
    routing_key: str,
    body: bytes,
    *,
    channel: int = 1,
    mandatory: bool = False,
    immediate: bool = False,
    properties: commands.Basic.Properties | None = None,
    frame_max: int = 131072,
) -> bytes:
    """All frames of one `basic.publish`."""
    method = commands.Basic.Publish(
        exchange=exchange, routing_key=routing_key, mandatory=mandatory, immediate=immediate
    )
    marshalled = (properties or commands.Basic.Properties()).marshal()
    header = b"\x00\x3c\x00\x00" + len(body).to_bytes(8, "big") + marshalled
    data = methods.frame(channel, method) + frames.pack(frames.HEADER, channel, header)
    for start in range(0, len(body), frame_max - 8):
        data += frames.pack(frames.BODY, channel, body[start : start + frame_max - 8])
    return data
