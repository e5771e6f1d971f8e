"""`basic.qos`, `consume`, `cancel` and `get`: how messages get from a queue's store into a client's outbox."""

from array import array
from typing import TYPE_CHECKING

from pamqp import commands

from ipc.errors import NotAllowed, NotImplementedRefusal, PreconditionFailed
from shards.model.consumers import Consumer
from shards.model.fields import shown
from shards.model.queues.queue import Queue
from shards.model.statistics import DELIVER, DELIVER_NO_ACK, GET, GET_EMPTY, GET_NO_ACK, REDELIVER
from shards.protocols.amqp import replying
from shards.protocols.amqp.framing import DeliveryFraming, StoredRecord, body_frames, get_ok
from shards.store.body_map import BodyMap
from shards.store.half_done import no_way_back
from shards.store.priority_store import QueueStore
from shards.store.reader import Span

if TYPE_CHECKING:
    from ipc.wire.amqp.methods import Method
    from shards.protocols.amqp.channel import Channel

_GET_EMPTY = commands.Basic.GetEmpty()


class ChannelConsumer(Consumer):
    """A `basic.consume` subscription: takes runs of messages within prefetch, flow and the outbox's water mark."""

    __slots__ = ("_framing", "_source", "channel", "needs_ack", "prefetch")

    def __init__(
        self,
        channel: "Channel",
        queue: Queue,
        tag: str,
        *,
        needs_ack: bool,
        is_exclusive: bool,
        prefetch: int,
        priority: int = 0,
    ) -> None:
        super().__init__(queue, tag, is_exclusive=is_exclusive, priority=priority)
        self.channel = channel
        self.needs_ack = needs_ack
        self.prefetch = prefetch if needs_ack else 0
        self._framing = DeliveryFraming(channel.number, tag.encode(), channel.connection.frame_max)
        self._source = channel.add_source(queue, self)

    def room(self) -> int:
        channel = self.channel
        if channel.connection.outbox.room_bytes <= 0:
            return 0
        room = channel.room() if self.needs_ack else (1 << 31 if channel.is_flowing else 0)
        return min(room, self.prefetch - self._source.unacknowledged) if self.prefetch else room

    def take(self, count: int) -> int:
        """Raises OSError when the next message cannot be read, MemoryError when there is no room for it in memory."""
        store = self.queue.store
        connection = self.channel.connection
        outbox = connection.outbox
        ledger = self.channel.ledger
        taken = again = 0
        try:
            while taken < count and store is not None and (room_bytes := outbox.room_bytes) > 0:
                span = store.next_span()
                if span is None:
                    break
                returns = store.returns(span.base + span.start) if span.redelivered else 0
                if returns:
                    single = self._take_single(store, span, returns)
                    taken += single
                    again += single
                    continue
                positions: array[int] = array("Q")
                end = self._framing.run(span, outbox.buffer, ledger.tag_next, count - taken, room_bytes, positions)
                if not positions:
                    taken += self._take_single(store, span)
                    break
                with no_way_back:
                    store.advance(len(positions), end)
                    taken += len(positions)
                    again += len(positions) * span.redelivered
                    self._account(positions)
        finally:  # when what follows cannot be read, too
            if taken:
                self._tell(taken, again)
        return taken

    def _tell(self, taken: int, again: int) -> None:
        """So many messages are in the outbox, of which `again` are there once more."""
        with no_way_back:
            connection = self.channel.connection
            connection.touched()
            connection.turn.delivered += taken
            self._source.count(DELIVER if self.needs_ack else DELIVER_NO_ACK, taken)
            if again:
                self._source.count(REDELIVER, again)

    def _account(self, positions: "array[int]") -> None:
        channel = self.channel
        if self.needs_ack:
            self._source.unacknowledged += len(positions)
            channel.handed_out(self._source, positions)
            return
        channel.ledger.skip(len(positions))
        store = self.queue.store
        assert store is not None
        store.settle_run(positions[0], positions[-1], len(positions))

    def _take_single(self, store: QueueStore, span: Span, returns: int = 0) -> int:
        """Hand out the span's first message if it is large, or has to tell of its `returns`; how many that was.

        Raises MemoryError when it is neither: it was left to this because there was none.
        """
        record = self._send_single(span, returns)
        if record is None:
            raise MemoryError("a delivery finds no room in memory")
        with no_way_back:
            store.advance(1, record.end)
            self._account(array("Q", (record.position,)))
        return 1

    def _send_single(self, span: Span, returns: int) -> StoredRecord | None:
        """The body of a large one follows piece by piece from a map of its own."""
        record = StoredRecord(span, returns)
        if not (record.is_large or returns):
            return None
        channel = self.channel
        outbox = channel.connection.outbox
        written = len(outbox.buffer)
        try:
            self._framing.begin(record, outbox.buffer, channel.ledger.tag_next)
            if record.is_large:
                outbox.begin_body(channel.number, BodyMap(span.buffer, record.body_start, record.end))
            else:
                outbox.write(body_frames(channel.number, record.body(span), channel.connection.frame_max))
        except MemoryError:
            outbox.take_back(written)
            raise
        return record

    def redeliver(self, position: int) -> bool:
        """Hand out once more what is outstanding, under another tag; False when the client has to read first."""
        store = self.queue.store
        connection = self.channel.connection
        outbox, ledger = connection.outbox, self.channel.ledger
        if store is None or (room_bytes := outbox.room_bytes) <= 0:
            return False
        span = store.read(position)
        span.redelivered = True
        returns = store.returns(position)
        positions: array[int] = array("Q")
        if not returns:
            self._framing.run(span, outbox.buffer, ledger.tag_next, 1, room_bytes, positions)
        if not positions and self._send_single(span, returns) is None:
            return False
        self.channel.handed_out(self._source, array("Q", (position,)))
        connection.touched()
        return True

    def leave(self) -> None:
        """Nothing more will be taken; what is outstanding stays the channel's."""
        channel = self.channel
        self._source.consumer = None
        channel.drop_source(self._source)
        if channel.reply_consumer is self:
            channel.reply_consumer = None

    def terms_changed(self, now: int) -> None:
        self.channel.look_again(now)

    def queue_deleted(self) -> None:
        channel = self.channel
        channel.consumers.pop(self.tag, None)
        self.leave()
        if "consumer_cancel_notify" in channel.connection.capabilities:
            channel.connection.tell(commands.Basic.Cancel(consumer_tag=self.tag, nowait=True), channel.number)


def qos(channel: "Channel", method: commands.Basic.Qos) -> "Method":
    """`global` false: for consumers made from now on; true: shared by the channel (RabbitMQ's reading)."""
    if method.prefetch_size:
        raise NotImplementedRefusal(f"prefetch_size!=0 ({method.prefetch_size})")
    if method.global_:
        channel.prefetch = method.prefetch_count
        channel.offer_consumers()
    else:
        channel.prefetch_of_new_consumers = method.prefetch_count
    return commands.Basic.QosOk()


def consume(channel: "Channel", method: commands.Basic.Consume) -> "Method | None":
    tag = method.consumer_tag or channel.connection.vhost.fresh_name("amq.ctag-")
    if tag in channel.consumers:
        raise NotAllowed(f"attempt to reuse consumer tag '{tag}'")
    priority = _priority(channel, method)
    awaits_replies = method.queue in replying.PSEUDO_QUEUES
    queue = replying.open_queue(channel, method) if awaits_replies else _readable_queue(channel, method)
    consumer = ChannelConsumer(
        channel,
        queue,
        tag,
        needs_ack=not method.no_ack,
        is_exclusive=method.exclusive,
        prefetch=channel.prefetch_of_new_consumers,
        priority=priority,
    )
    try:
        channel.connection.vhost.add_consumer(consumer)
    except BaseException:
        consumer.leave()
        raise
    channel.consumers[tag] = consumer
    if awaits_replies:
        channel.reply_consumer = consumer
    return None if method.nowait else commands.Basic.ConsumeOk(consumer_tag=tag)


def _priority(channel: "Channel", method: commands.Basic.Consume) -> int:
    """Raises PreconditionFailed (406) for one that is no number."""
    priority = (method.arguments or {}).get("x-priority", 0)
    if isinstance(priority, bool) or not isinstance(priority, int):
        queue, vhost = channel.connection.queue_name(channel, method.queue), channel.connection.vhost.name
        raise PreconditionFailed(
            f"invalid arg 'x-priority' for queue '{queue}' in vhost '{vhost}': expected a number, "
            f"received {shown(priority)}"
        )
    return priority


def _readable_queue(channel: "Channel", method: "commands.Basic.Consume | commands.Basic.Get") -> Queue:
    """Raises NotFound (404), ResourceLocked (405), AccessRefused (403)."""
    queue = channel.connection.queue_named(channel, method.queue)
    channel.connection.access.require("read", "queue", queue.name)
    return queue


def cancel(channel: "Channel", method: commands.Basic.Cancel) -> "Method | None":
    """An unknown tag is fine: the queue may have been deleted meanwhile."""
    tag = method.consumer_tag or ""
    consumer = channel.consumers.pop(tag, None)
    if consumer is not None:
        stop(channel, consumer)
    return None if method.nowait else commands.Basic.CancelOk(consumer_tag=tag)


def cancel_understood(channel: "Channel", method: commands.Basic.CancelOk) -> None:
    """The client has understood a cancellation of ours; some say so although it was not asked for."""


def stop(channel: "Channel", consumer: ChannelConsumer) -> None:
    """End a subscription already taken out of `channel.consumers`."""
    consumer.leave()
    channel.connection.vhost.remove_consumer(consumer)


def get(channel: "Channel", method: commands.Basic.Get) -> "Method | None":
    connection = channel.connection
    queue = _readable_queue(channel, method)
    queue.asked(connection.turn.now)
    store = queue.store
    span = store.next_span() if store is not None and not queue.is_paused else None
    if store is None or span is None:
        channel.count(GET_EMPTY, 1, queue)
        return _GET_EMPTY
    channel.count(GET_NO_ACK if method.no_ack else GET, 1, queue)
    if span.redelivered:
        channel.count(REDELIVER, 1, queue)
    record = StoredRecord(span, store.returns(span.base + span.start) if span.redelivered else 0)
    body = b"" if record.is_large else record.body(span)
    body_map = BodyMap(span.buffer, record.body_start, record.end) if record.is_large else None
    source = None if method.no_ack else channel.add_source(queue)
    connection.write(get_ok(channel.number, record, channel.ledger.tag_next, store.ready_count - 1))
    if body_map is not None:
        connection.outbox.begin_body(channel.number, body_map)
    else:
        connection.write(body_frames(channel.number, body, connection.frame_max))
    with no_way_back:
        store.advance(1, record.end)
        if source is None:
            channel.ledger.skip(1)
            store.settle(record.position)
        else:
            source.unacknowledged = 1
            channel.handed_out(source, array("Q", (record.position,)))
        connection.turn.wake(queue)
    return None


def flow(channel: "Channel", method: commands.Channel.Flow) -> "Method":
    channel.is_flowing = bool(method.active)
    if channel.is_flowing:
        channel.offer_consumers()
    return commands.Channel.FlowOk(active=channel.is_flowing)
