"""`basic.publish`: a method, a header and a body become one stored record in every queue the message goes to.

Two ways lead here. `intake.py` takes whole publishes out of the receive buffer while it knows their route; everything
else (first of its kind, split over reads, bodies of many frames, unroutable and mandatory) is put together here, frame
by frame.
"""

from array import array
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pamqp import commands

from ipc.errors import AccessRefused, FrameError, PreconditionFailed, ReplyCode, UnexpectedFrame
from ipc.wire.amqp import properties
from shards.model import carbon_copies
from shards.model.publication import Publication
from shards.model.queues.queue import Queue
from shards.model.statistics import DROP_UNROUTABLE, PUBLISH, PUBLISH_OUT, RETURN_UNROUTABLE, count_up, counts_of
from shards.protocols.amqp import addressing
from shards.protocols.amqp.framing import body_frames, returned

if TYPE_CHECKING:
    from shards.model.exchanges.exchange import Exchange
    from shards.protocols.amqp.channel import Channel
    from shards.protocols.amqp.connection import Connection

# A whole publish frame: prefix 7, class u16, method u16, reserved u16 | exchange, routing key | flags u8, end octet.
_ADDRESS = slice(13, -2)
_FLAGS = -2
_MANDATORY = 1
_IMMEDIATE = 2


class Route:
    """Where the bytes of one publish method lead, as long as the topology's revision stays the same.

    Where a message waits on its way stands in its content, because it depends on more than that.
    """

    __slots__ = (
        "_counts",
        "address",
        "channel",
        "deduplication",
        "exchange",
        "has_durable",
        "is_immediate",
        "is_mandatory",
        "queues",
        "revision",
        "takes_runs",
    )

    def __init__(
        self,
        channel: "Channel",
        content: "Content",
        exchange: "Exchange",
        queues: list[Queue],
        revision: int,
    ) -> None:
        """Of a message that was routed."""
        method = content.method
        self._counts: tuple[array[int], ...] | None = None
        self.channel = channel
        self.address = content.address
        self.exchange = exchange
        self.queues = queues
        self.revision = revision
        self.deduplication = exchange.deduplication
        self.is_mandatory = bool(method[_FLAGS] & _MANDATORY)
        self.is_immediate = bool(method[_FLAGS] & _IMMEDIATE)
        self.has_durable = any(queue.is_durable for queue in queues) or any(
            exchange.is_durable for exchange in content.held_at
        )
        self.takes_runs = all(queue.takes_runs for queue in queues)

    def count(self, number: int) -> None:
        """So many messages came this way, in runs; what goes wrong on the way is counted where it does."""
        if self._counts is None:
            self._counts = counts_of(self.exchange, self.channel, self.channel.connection.vhost, *self.queues)
        for counts in self._counts:
            counts[PUBLISH] += number
        if self.queues:
            self._counts[0][PUBLISH_OUT] += number * len(self.queues)
        else:
            self.channel.count(DROP_UNROUTABLE, number)


class Content(Publication):
    """A message under way on one channel: its method has come, header and body have not all."""

    __slots__ = ("body_bytes", "copies", "exchange", "method", "routing_key")
    body: bytearray

    def __init__(self, method: bytes, exchange: str, routing_key: str) -> None:
        # A body in one piece, and not a list of frames, which may be tiny, or empty without end.
        super().__init__(method[_ADDRESS], b"", properties.NO_FACTS, bytearray())
        self.method = method
        self.exchange = exchange
        self.routing_key = routing_key
        self.copies: tuple[str, ...] = ()  # more routing keys
        self.body_bytes = 0

    @property
    def awaits_header(self) -> bool:
        return not self.header


def publish(channel: "Channel", method: commands.Basic.Publish, raw: bytes) -> None:
    """The method frame has come. Raises NotFound, AccessRefused before any content is kept."""
    connection = channel.connection
    exchange = connection.vhost.exchange(method.exchange)
    connection.access.require("write", "exchange", method.exchange)
    if exchange.is_internal:
        raise AccessRefused(f"cannot publish to internal exchange '{exchange.name}' in vhost '{connection.vhost.name}'")
    _require_topics(connection, exchange, (method.routing_key,))
    channel.content = Content(raw, method.exchange, method.routing_key)
    connection.publishes = True


def _require_topics(connection: "Connection", exchange: "Exchange", routing_keys: Iterable[str]) -> None:
    """Raises AccessRefused (403); only topic exchanges ask for permissions on routing keys."""
    if exchange.type == "topic":
        for routing_key in routing_keys:
            connection.access.require_topic("write", exchange.name, routing_key)


def header(channel: "Channel", payload: bytes, now: int) -> None:
    content = channel.content
    if content is None or not content.awaits_header:
        raise UnexpectedFrame("content header without basic.publish before it")
    size = properties.body_size(payload)
    limit = channel.connection.message_bytes_max
    if size > limit:
        raise PreconditionFailed(f"message size {size} is larger than configured max size {limit}")
    content.facts = facts = properties.inspect(payload)
    content.header = content.whole_header = payload
    if not addressing.is_plain(channel.connection, facts):
        _admit(channel, content, now)
    content.body_bytes = size
    if not size:
        _complete(channel, content, now)


def _admit(channel: "Channel", content: Content, now: int) -> None:
    """Put the header to be stored in the place of one that is not plain; raises PreconditionFailed (406)."""
    facts = content.facts
    addressing.check_user(channel.connection, facts)
    if facts.reply_to_at:
        content.header = content.whole_header = addressing.with_reply_address(channel, content.header, facts)
    if addressing.lacks_timestamp(channel.connection, facts):
        content.header = content.whole_header = addressing.with_timestamp(content.header, now)
    if facts.may_have_copies:
        content.copies = carbon_copies.copies(content.header, facts)
        _require_topics(channel.connection, channel.connection.vhost.exchange(content.exchange), content.copies)
        content.header = carbon_copies.without_hidden(content.header, facts)


def body(channel: "Channel", payload: memoryview, now: int) -> None:
    content = channel.content
    if content is None or content.awaits_header:
        raise UnexpectedFrame("content body without content header before it")
    content.body += payload
    if len(content.body) > content.body_bytes:
        raise FrameError(f"body of more than the {content.body_bytes} bytes its header promised")
    if len(content.body) == content.body_bytes:
        _complete(channel, content, now)


def _complete(channel: "Channel", content: Content, now: int) -> None:
    channel.content = None
    if channel.transaction is not None:
        channel.transaction.publish(content)
        return
    route, is_lasting = find_route(channel, content)
    if is_lasting:
        channel.connection.remember_route(content.method, route)
    store(route, content, now)


def find_route(channel: "Channel", content: Content) -> tuple[Route, bool]:
    """Where the message leads now, and whether every message with this method does, whatever its properties say."""
    vhost = channel.connection.vhost
    exchange = vhost.exchange(content.exchange)
    queues, by_key = vhost.route(
        exchange, content.routing_key, content.headers, content.copies, content.identities, content.is_held
    )
    route = Route(channel, content, exchange, queues, vhost.revision)
    is_plain = not (content.copies or route.is_immediate) and route.deduplication is None
    return route, by_key and is_plain


def store(route: Route, content: Content, now: int) -> bool:
    """Append the message to all its queues, or return it, and count it for the publisher's confirm.

    False when one of the queues is full and refused it.
    """
    channel = route.channel
    channel.connection.turn.published += 1
    _count(route)
    # What the exchange remembers leads nowhere, and is not returned: it is where it belongs already.
    is_known = route.deduplication is not None and route.deduplication.is_duplicate(content.fields, now)
    is_taken = is_known or _pass_on(route, content, now)
    if channel.confirms is not None and not is_taken:
        channel.confirms.refused()
    elif channel.confirms is not None:
        channel.confirms.published(1, awaits_disk=content.facts.is_persistent and route.has_durable)
    return is_taken


def _count(route: Route) -> None:
    """One message came this way; queues that take it count it themselves."""
    route.channel.count(PUBLISH, 1)
    count_up(route.exchange, PUBLISH, 1)
    if route.queues:
        count_up(route.exchange, PUBLISH_OUT, len(route.queues))
    elif not route.is_mandatory:
        route.channel.count(DROP_UNROUTABLE, 1)


def _pass_on(route: Route, content: Content, now: int) -> bool:
    """False when one of the queues refused it."""
    channel = route.channel
    queues = [queue for queue in route.queues if _takes_at_once(queue)] if route.is_immediate else route.queues
    is_held = bool(content.held_at)
    if route.is_mandatory and not (route.queues or is_held):
        _return(channel, ReplyCode.NO_ROUTE, route.address, content)
        return True
    if route.is_immediate and not (queues or is_held):
        _return(channel, ReplyCode.NO_CONSUMERS, route.address, content)
        return True
    if is_held:
        channel.connection.vhost.hold(content, now)
    is_taken = content.offer(queues, now)
    if is_taken and route.deduplication is not None:
        route.deduplication.remember(content.fields, now)
    return is_taken


def _takes_at_once(queue: Queue) -> bool:
    """Whether the next message is handed out before this turn ends."""
    return sum(consumer.room() for consumer in queue.consumers() if consumer.is_waiting) > queue.ready_count


def _return(channel: "Channel", code: ReplyCode, address: bytes, content: Content) -> None:
    connection = channel.connection
    channel.count(RETURN_UNROUTABLE, 1)
    connection.write(
        returned(channel.number, code, code.name.encode(), address, content.header)
        + body_frames(channel.number, content.body, connection.frame_max)
    )
