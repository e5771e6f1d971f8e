"""A client's connection after `connection.open`: bytes come in, state changes, bytes wait in the outbox.

```
OPEN ──connection.close from the client──► CLOSED (close-ok sent)
  └──a refusal, or the broker's wish──► CLOSING (close sent; all but close-ok ignored) ──close-ok or deadline──► CLOSED
```
A connection keeps its input, and its host stops reading, while it waits for something: for the disk before it may reply
(a durable declaration), for memory and disk to have room for its publishes (`blocking.py`), for its client to read what
it asked for.
"""

import sys
from collections.abc import Callable, Iterable, Mapping
from enum import Enum, auto
from typing import Any, ClassVar, Final

from pamqp import commands

from ipc.errors import (
    ChannelError,
    ChannelRefusal,
    ConnectionRefusal,
    NotAllowed,
    NotFound,
    Refusal,
    ReplyCode,
    UnexpectedFrame,
)
from ipc.limits import EFFORT_BYTES, EFFORT_PER_TURN, ROUTES_CACHED_MAX
from ipc.messages.commands import NegotiatedClient
from ipc.settings import ConnectionSettings
from ipc.wire.amqp import frames, methods
from shards.compaction.compactable import Compactable
from shards.model.access import Access
from shards.model.queues.queue import Queue
from shards.model.statistics import (
    CHANNEL_CLOSED,
    CHANNEL_CREATED,
    CONNECTION_CLOSED,
    CONNECTION_COUNTERS,
    CONNECTION_CREATED,
    RECEIVED,
    RECEIVED_BYTES,
    SENT,
    SENT_BYTES,
    Tally,
    count_up,
)
from shards.model.turn import Turn
from shards.model.vhost import VHost
from shards.protocols.amqp import blocking, publishing, settling
from shards.protocols.amqp.channel import Channel, ChannelState
from shards.protocols.amqp.consuming import stop
from shards.protocols.amqp.intake import Intake
from shards.protocols.amqp.outbox import Outbox
from shards.protocols.amqp.publishing import Route
from shards.protocols.amqp.verbs import VERBS
from shards.store.half_done import HalfDone, no_way_back

CLOSE_PATIENCE_MS: Final = 5_000
"""How long a client may take to read what it was sent before our `connection.close`, and that."""
CLOSE_OK_PATIENCE_MS: Final = 2_000
"""How long it may take to answer once the kernel has everything: much longer, and it is not listening."""

_TICK_MS_MIN: Final = 250
_FACTS_BYTES: Final = 900  # of what was negotiated, the outbox and the intake as objects (measured)
_ROUTE_BYTES: Final = 300  # of a remembered route and the method that is its key (measured)
_CONNECTION_CLASS: Final = 10
_GET: Final = b"\x00\x3c\x00\x46"


class ConnectionState(Enum):
    OPEN = auto()
    CLOSING = auto()
    CLOSED = auto()


class Connection(Compactable):
    """One client; the host moves bytes between it and a socket and decides nothing."""

    __slots__ = (
        "_answering",
        "_awaits_outbox",
        "_close_due",
        "_closing_because",
        "_consequences",
        "_heartbeat_ms",
        "_held",
        "_held_until",
        "_intake",
        "_is_told_blocked",
        "_is_waiting",
        "_partial",
        "_received_at",
        "_sent_at",
        "access",
        "capabilities",
        "channel_max",
        "channels",
        "client",
        "effort",
        "exclusive_queues",
        "frame_max",
        "is_listed",
        "message_bytes_max",
        "opened_at",
        "outbox",
        "publishes",
        "routes",
        "settings",
        "state",
        "tally",
        "turn",
        "uncommitted_bytes",
        "vhost",
    )
    COLLECTIONS = ("channels", "exclusive_queues")
    CACHES = ("routes",)
    KIND = "connections"
    KINDS: ClassVar[Mapping[str, str]] = {"channels": "channels", "routes": "route cache"}
    SORT = "connection"

    def __init__(
        self,
        client: NegotiatedClient,
        vhost: VHost,
        access: Access,
        turn: Turn,
        settings: ConnectionSettings,
        *,
        message_bytes_max: int,
        now: int,
        refusal: ConnectionRefusal | None = None,
    ) -> None:
        """`refusal`: why this client is sent away instead of being let in."""
        self.client = client
        self.vhost = vhost
        self.access = access
        self.turn = turn
        self.settings = settings
        self.opened_at = now
        self.frame_max = client.frame_max
        self.channel_max = client.channel_max
        self.message_bytes_max = message_bytes_max
        self.capabilities = client.capabilities
        self.state = ConnectionState.OPEN
        self.outbox = Outbox(high=settings.outbox_bytes_high, low=settings.outbox_bytes_low, frame_max=client.frame_max)
        self.channels: dict[int, Channel] = {}
        self.routes: dict[bytes, Route] = {}
        self.exclusive_queues: dict[str, None] = {}
        self.is_listed = False
        self.tally = Tally(CONNECTION_COUNTERS)
        self.publishes = False  # has done so at least once, and may be asked to wait for consumers
        self._intake = Intake(self)
        self._partial = client.unread
        self.effort = 0  # that the last call to `receive` took, in frames
        self.uncommitted_bytes = 0  # of messages in all its channels' transactions
        self._held: bytes | None = None  # a reply that waits for the disk
        self._held_until = 0  # the round that brings its change there
        self._is_waiting = False
        self._is_told_blocked = False  # connection.blocked was sent, and must be taken back
        self._awaits_outbox = False
        self._answering = 0  # class and method of the frame at hand, named in a close
        self._consequences = b""  # what the method at hand caused, which its reply comes before
        self._heartbeat_ms = client.heartbeat_seconds * 1000
        self._received_at = now
        self._sent_at = now
        self._close_due = 0
        self._closing_because = ""
        count_up(vhost, CONNECTION_CREATED, 1)
        if refusal is None:
            self.write(methods.frame(0, commands.Connection.OpenOk()))
        else:
            self._answering = commands.Connection.Open.index
            self._refuse(0, refusal, now)

    @property
    def name(self) -> str:
        return self.client.name

    def children(self) -> Iterable[Compactable]:
        return tuple(self.channels.values())

    def holdings(self) -> Iterable[tuple[str, int]]:
        return (
            (self.KIND, _FACTS_BYTES + len(self.client.client_properties)),
            ("outbox", self.outbox.size_bytes),
            ("statistics", self.tally.size_bytes),
            ("partial input", sys.getsizeof(self._partial)),
            ("route cache", _ROUTE_BYTES * len(self.routes)),
            ("transactions", self.uncommitted_bytes),
        )

    # input ------------------------------------------------------------------------------------------------------------

    @property
    def wants_input(self) -> bool:
        """Whether the host should read; not while the connection waits for something."""
        return not self._is_waiting and self.state is not ConnectionState.CLOSED

    @property
    def is_assembling(self) -> bool:
        """Whether a message has begun to come, and the rest of it has not come yet."""
        return any(channel.content is not None for channel in self.channels.values())

    @property
    def partial(self) -> bytes:
        """Input kept from earlier reads, which the next call to `receive` must begin with."""
        return self._partial

    @property
    def closing_because(self) -> str:
        """Why the broker ended this connection, for its log; empty when the client did."""
        return self._closing_because

    def receive(self, view: memoryview, now: int) -> None:
        """Take `partial` and what came after it, in one view that is the host's again afterwards.

        A megabyte of the smallest frames is a second's work, so what takes too much effort waits for the next turn.
        """
        self._received_at = now
        position = effort = 0
        try:
            while position < len(view) and self.wants_input:
                if self.state is ConnectionState.OPEN:
                    position = self._intake.run(view, position, now)
                    if self._intake.awaits_rest:
                        break
                frame = frames.scan(view, position, self.frame_max)
                if frame is None or self._must_wait(view, frame):
                    break
                self._take(view, frame, now)
                position = frame.end + 1
                effort += 1 if frame.kind == frames.BODY else 1 + (frame.end - frame.start) // EFFORT_BYTES
                if effort >= EFFORT_PER_TURN and position < len(view) and self.wants_input:
                    self._is_waiting = True
                    self.turn.resumable.append(self)
        except Refusal as refusal:
            # Only faults of framing get here; what follows a broken frame means nothing.
            position = len(view)
            self._refuse(0, refusal, now)
        self._partial = bytes(view[position:])
        self.effort = effort
        counts = self.tally.counts
        counts[RECEIVED_BYTES] += position
        counts[RECEIVED] += 1

    def resume(self, now: int) -> None:
        """Go on with input that was kept; what made it wait is over."""
        self._is_waiting = False
        self._tell_unblocked()
        self.overlooked(now)
        self.effort = 0
        kept = self._partial
        if kept:
            with memoryview(kept) as view:
                self.receive(view, now)

    def _must_wait(self, view: memoryview, frame: frames.Frame) -> bool:
        """Whether this frame has to stay where it is until `resume`."""
        if self.state is not ConnectionState.OPEN:
            return False
        method = bytes(view[frame.start : frame.start + len(_GET)]) if frame.kind == frames.METHOD else b""
        if self.turn.shortages and blocking.stores(method, self.channels.get(frame.channel)):
            self.turn.blocked[self] = None
            self._tell_blocked()
        elif self.outbox.is_clogged or (method == _GET and self.outbox.room_bytes <= 0):
            self._awaits_outbox = True
        else:
            return False
        self._is_waiting = True
        return True

    def _tell_blocked(self) -> None:
        if not self._is_told_blocked and "connection.blocked" in self.capabilities:
            self._is_told_blocked = True
            self.write(methods.frame(0, commands.Connection.Blocked(blocking.reason(self.turn.shortages))))

    def _tell_unblocked(self) -> None:
        if self._is_told_blocked and not self.turn.shortages:
            self._is_told_blocked = False
            self.write(methods.frame(0, commands.Connection.Unblocked()))

    def _take(self, view: memoryview, frame: frames.Frame, now: int) -> None:
        try:
            _BY_KIND[frame.kind](self, view, frame, now)
        except Refusal as refusal:
            self._refuse(frame.channel, refusal, now)
        finally:
            self._answering = 0
            if self._consequences:
                consequences, self._consequences = self._consequences, b""
                self.write(consequences)

    def _take_heartbeat(self, view: memoryview, frame: frames.Frame, now: int) -> None:
        if frame.channel:
            raise UnexpectedFrame(f"heartbeat on channel {frame.channel}")

    def _take_content_header(self, view: memoryview, frame: frames.Frame, now: int) -> None:
        channel = self._channel_for_content(frame.channel)
        if channel is not None:
            publishing.header(channel, bytes(view[frame.start : frame.end]), now)

    def _take_content_body(self, view: memoryview, frame: frames.Frame, now: int) -> None:
        channel = self._channel_for_content(frame.channel)
        if channel is not None:
            publishing.body(channel, view[frame.start : frame.end], now)

    def _channel_for_content(self, number: int) -> Channel | None:
        """The same as for a method; what is refused from here on is the publish that has begun."""
        channel = self._channel_in_use(number)
        if channel is not None and channel.content is not None:
            self._answering = commands.Basic.Publish.index
        return channel

    def _take_method(self, view: memoryview, frame: frames.Frame, now: int) -> None:
        payload = bytes(view[frame.start : frame.end])
        self._answering = int.from_bytes(payload[:4], "big")
        method = methods.decode(payload)
        if self.state is ConnectionState.CLOSING and not isinstance(
            method, commands.Connection.Close | commands.Connection.CloseOk
        ):
            return
        verb = _CONNECTION_VERBS.get(type(method))
        if verb is not None:
            _check_channel(frame.channel, method)
            verb(self, frame.channel, method, now)
            return
        channel = self._channel_in_use(frame.channel)
        if channel is None:
            return
        if channel.content is not None:
            raise UnexpectedFrame(f"{method.name} between the frames of a message on channel {frame.channel}")
        if isinstance(method, commands.Basic.Publish):
            raw = bytes(view[frame.start - frames.HEADER_BYTES : frame.end + 1])
            publishing.publish(channel, method, raw)
            return
        self._do(channel, method)

    def _do(self, channel: Channel, method: methods.Method) -> None:
        verb = VERBS.get(type(method))
        if verb is None:
            raise ConnectionRefusal(ReplyCode.COMMAND_INVALID, "unimplemented method")
        changes = len(self.vhost.changes)
        reply = verb(channel, method)
        if reply is None:
            return
        consequences, self._consequences = self._consequences, b""
        data = methods.frame(channel.number, reply) + consequences
        if len(self.vhost.changes) > changes:
            self._held = data
            self._held_until = self.turn.await_round(self)
            self._is_waiting = True
        else:
            self.write(data)

    def released(self, durable_through: int) -> bool:
        """Once the round that holds our change is on disk: reply, and go on reading."""
        if durable_through < self._held_until:
            return True
        held, self._held = self._held, None
        if held is not None:
            self.write(held)
            self.turn.resumable.append(self)
        return False

    def write_when_durable(self, reply: bytes) -> None:
        """Reply once everything that was taken in so far is on disk, and go on reading only then."""
        self._held = reply
        self._is_waiting = True
        self.turn.confirming.append(self)

    def written(self, turn: Turn) -> None:
        """What the held reply promises has left the process."""
        if self._held is None:
            return
        if self.vhost.awaits_disk:
            self._held_until = turn.await_round(self)
        else:
            self.released(self._held_until)

    def overlooked(self, now: int) -> None:
        """Nobody listened until now, so it was not the client who was silent."""
        self._received_at = now

    # channels ---------------------------------------------------------------------------------------------------------

    def _channel_in_use(self, number: int) -> Channel | None:
        """The channel a frame is for; None when the frame is to be ignored because we are closing it."""
        if self.state is ConnectionState.CLOSING:
            return None
        channel = self.channels.get(number)
        if channel is None:
            raise _unopened(number)
        return channel if channel.state is ChannelState.OPEN else None

    def _open_channel(self, number: int, method: commands.Channel.Open, now: int) -> None:
        if number in self.channels:
            raise ChannelError(f"second 'channel.open' seen on channel {number}")
        # How many there are and not their numbers, as in RabbitMQ: a client may number them as it likes.
        if (count := len(self.channels)) >= self.channel_max:
            raise NotAllowed(
                f"number of channels opened ({count}) has reached the negotiated channel_max ({self.channel_max})"
            )
        self._require_room_for_channel()
        self.channels[number] = Channel(number, self)
        count_up(self.vhost, CHANNEL_CREATED, 1)
        self.write(methods.frame(number, commands.Channel.OpenOk()))

    def _require_room_for_channel(self) -> None:
        """Raises NotAllowed (530) with RabbitMQ's words; the broker's own connections in a user's name are free."""
        limit = self.access.channels_max
        if limit is None or not self.client.mechanism:
            return
        count = sum(
            len(other.channels)
            for other in self.vhost.connections
            if isinstance(other, Connection) and other.access is self.access and other.client.mechanism
        )
        if count >= limit:
            raise NotAllowed(
                f"number of channels opened for user '{self.access.user}' has reached the maximum allowed user limit "
                f"of ({limit})"
            )

    def _close_channel(self, number: int, method: commands.Channel.Close, now: int) -> None:
        channel = self.channels.get(number)
        if channel is None:
            raise _unopened(number)
        self._end_channel(channel)
        del self.channels[number]
        self.write(methods.frame(number, commands.Channel.CloseOk()))

    def _finish_channel(self, number: int, method: commands.Channel.CloseOk, now: int) -> None:
        channel = self.channels.get(number)
        if channel is not None and channel.state is ChannelState.CLOSING:
            del self.channels[number]

    def _end_channel(self, channel: Channel) -> None:
        """Consumers leave, what is unacknowledged goes back, nothing is confirmed any more."""
        with no_way_back:
            channel.state = ChannelState.CLOSING
            channel.content = None
            count_up(self.vhost, CHANNEL_CLOSED, 1)
            self.turn.agenda.clear(channel)
            self.routes = {}
            consumers, channel.consumers = channel.consumers, {}
            # Back into the queue first: an auto-delete queue goes with its last consumer, and others must get these.
            settling.requeue_all(channel)
            for consumer in consumers.values():
                stop(channel, consumer)
            if channel.confirms is not None:
                channel.confirms.close()
            if channel.transaction is not None:
                channel.transaction.rollback()

    def queue_name(self, channel: Channel, name: str) -> str:
        """An empty name means the queue last declared on the channel; raises NotFound (404) when there is none."""
        if name:
            return name
        if channel.last_queue is None:
            raise NotFound("no previously declared queue")
        return channel.last_queue

    def queue_named(self, channel: Channel, name: str) -> Queue:
        return self.vhost.queue(self.queue_name(channel, name), self)

    def remember_route(self, method: bytes, route: Route) -> None:
        if len(self.routes) >= ROUTES_CACHED_MAX:
            self.routes = {}
        self.routes[method] = route

    # output -----------------------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        self.outbox.write(data)
        self.touched()

    def tell(self, method: methods.Method, channel: int) -> None:
        """Say what nobody asked for; the reply to the method that caused it, if this client sent it, comes first."""
        data = methods.frame(channel, method)
        if self._answering:
            self._consequences += data
        else:
            self.write(data)

    def touched(self) -> None:
        """The outbox has grown: send it before the turn ends."""
        if not self.is_listed:
            self.turn.unsent.append(self)
            self.is_listed = True

    def sent(self, size_bytes: int, now: int) -> None:
        """The kernel took so many bytes of `outbox.buffer`."""
        was_low = self.outbox.is_low
        self.outbox.sent(size_bytes)
        self._sent_at = now
        counts = self.tally.counts
        counts[SENT_BYTES] += size_bytes
        counts[SENT] += 1
        if self.state is ConnectionState.CLOSING and self.outbox.is_empty:
            self._close_due = min(self._close_due, now + CLOSE_OK_PATIENCE_MS)
        if self.outbox.is_low and not was_low:
            self.offer_consumers()
            if self._awaits_outbox:
                self._awaits_outbox = False
                self.turn.resumable.append(self)

    def offer_consumers(self) -> None:
        for channel in self.channels.values():
            channel.offer_consumers()

    # time -------------------------------------------------------------------------------------------------------------

    def tick(self, now: int) -> int:
        """Do what is due; when to call again, in broker time, or 0 for never.

        A client is dead after two heartbeat intervals without a byte from it (specification §4.2.7).
        """
        if self.state is ConnectionState.CLOSING and now >= self._close_due:
            self.state = ConnectionState.CLOSED
        if self.state is not ConnectionState.OPEN:
            return self._close_due if self.state is ConnectionState.CLOSING else 0
        if not self._heartbeat_ms:
            return 0
        if now - self._received_at >= 2 * self._heartbeat_ms and not self._is_waiting:
            self._closing_because = "missed heartbeats from client"
            self.state = ConnectionState.CLOSED
            return 0
        if now - self._sent_at >= self._heartbeat_ms // 2 and self.outbox.is_empty:
            self.write(frames.HEARTBEAT_FRAME)
            self._sent_at = now
        due = min(self._sent_at + self._heartbeat_ms // 2, self._received_at + 2 * self._heartbeat_ms)
        return max(due, now + _TICK_MS_MIN)

    # the end ----------------------------------------------------------------------------------------------------------

    def close(self, refusal: ConnectionRefusal, now: int) -> None:
        """The broker's wish: tell the client why, and wait for its close-ok."""
        if self.state is ConnectionState.OPEN:
            self._refuse(0, refusal, now)

    def refuse_channel(self, channel: Channel, refusal: ChannelRefusal, now: int) -> None:
        """Nothing this client just said is wrong, but something it does not say."""
        self._refuse(channel.number, refusal, now)

    def _refuse(self, number: int, refusal: Refusal, now: int) -> None:
        if self.state is not ConnectionState.OPEN:
            return
        channel = self.channels.get(number)
        if isinstance(refusal, ChannelRefusal) and channel is not None:
            self._end_channel(channel)
            self.write(methods.frame(number, self._farewell(commands.Channel.Close, refusal)))
            return
        self._end()
        self.state = ConnectionState.CLOSING
        self._close_due = now + CLOSE_PATIENCE_MS
        self._closing_because = str(refusal)
        self.write(methods.frame(0, self._farewell(commands.Connection.Close, refusal)))

    def _farewell(
        self, kind: type[commands.Channel.Close] | type[commands.Connection.Close], refusal: Refusal
    ) -> methods.Method:
        return kind(
            reply_code=refusal.code,
            reply_text=refusal.reply_text,
            class_id=self._answering >> 16,
            method_id=self._answering & 0xFFFF,
        )

    def _closed_by_client(self, number: int, method: commands.Connection.Close, now: int) -> None:
        self._end()
        self.write(methods.frame(0, commands.Connection.CloseOk()))
        self.state = ConnectionState.CLOSED

    def _finish_close(self, number: int, method: commands.Connection.CloseOk, now: int) -> None:
        if self.state is not ConnectionState.CLOSING:
            raise ConnectionRefusal(ReplyCode.COMMAND_INVALID, "connection.close-ok without connection.close")
        self.state = ConnectionState.CLOSED

    def _update_secret(self, number: int, method: commands.Connection.UpdateSecret, now: int) -> None:
        """Passwords do not expire, so there is nothing to renew: RabbitMQ's answer for users without a token."""
        self.write(methods.frame(0, commands.Connection.UpdateSecretOk()))

    def _unexpected(self, number: int, method: methods.Method, now: int) -> None:
        raise ConnectionRefusal(ReplyCode.COMMAND_INVALID, f"{method.name} on an open connection")

    def lost(self) -> None:
        """The socket is gone, for whatever reason."""
        try:
            count_up(self.vhost, CONNECTION_CLOSED, 1)
            self._end()
            self._intake.close()
            self.state = ConnectionState.CLOSED
            self.outbox.discard()
        except MemoryError as fault:  # nobody would do it once more
            raise HalfDone from fault

    def _end(self) -> None:
        """Let go of everything this client holds in the broker; may be called again."""
        with no_way_back:
            self.turn.forget(self)
            self.turn.blocked.pop(self, None)
            self._held = None
            self._held_until = 0
            self._is_waiting = self._awaits_outbox = self._is_told_blocked = False
            channels, self.channels = self.channels, {}
            for channel in channels.values():
                if channel.state is ChannelState.OPEN:
                    self._end_channel(channel)
            exclusive, self.exclusive_queues = self.exclusive_queues, {}
            for name in exclusive:
                queue = self.vhost.find_queue(name)
                if queue is not None and queue.owner is self:
                    self.vhost.delete_queue(queue)


def _check_channel(number: int, method: methods.Method) -> None:
    """What is the connection's own comes on channel 0, and nothing else does."""
    if number and method.index >> 16 == _CONNECTION_CLASS:
        raise ConnectionRefusal(ReplyCode.COMMAND_INVALID, f"{method.name} on channel {number}")
    if not number and method.index >> 16 != _CONNECTION_CLASS:
        raise _unopened(number)


def _unopened(number: int) -> ChannelError:
    if number == 0:
        return ChannelError("unexpected frame on channel 0, which is the connection's own")
    return ChannelError(f"expected 'channel.open' on channel {number}")


_BY_KIND: Final[dict[int, Callable[[Connection, memoryview, frames.Frame, int], None]]] = {
    frames.METHOD: Connection._take_method,
    frames.HEADER: Connection._take_content_header,
    frames.BODY: Connection._take_content_body,
    frames.HEARTBEAT: Connection._take_heartbeat,
}

_CONNECTION_VERBS: Final[dict[type[methods.Method], Callable[[Connection, int, Any, int], None]]] = {
    commands.Channel.Open: Connection._open_channel,
    commands.Channel.Close: Connection._close_channel,
    commands.Channel.CloseOk: Connection._finish_channel,
    commands.Connection.Close: Connection._closed_by_client,
    commands.Connection.CloseOk: Connection._finish_close,
    commands.Connection.UpdateSecret: Connection._update_secret,
    commands.Connection.StartOk: Connection._unexpected,
    commands.Connection.TuneOk: Connection._unexpected,
    commands.Connection.Open: Connection._unexpected,
}
