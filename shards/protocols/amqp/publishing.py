"""`basic.publish`: a method, a header and a body become one stored record in every queue the message goes to.

Two ways lead here. `intake.py` takes whole publishes out of the receive buffer while it knows their route; everything
else (first of its kind, split over reads, bodies of many frames, unroutable and mandatory) is put together here, frame
by frame.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pamqp import commands

from ipc.errors import AccessRefused, FrameError, PreconditionFailed, ReplyCode, UnexpectedFrame
from ipc.limits import LARGE_BODY_BYTES
from ipc.wire.amqp import properties
from shards.model.queues.queue import Queue
from shards.protocols.amqp import addressing
from shards.protocols.amqp.framing import body_frames, returned
from shards.store import record

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
    """Where the bytes of one publish method lead, as long as the topology's revision stays the same."""

    __slots__ = (
        "address",
        "channel",
        "has_durable",
        "is_immediate",
        "is_mandatory",
        "queues",
        "revision",
        "takes_runs",
    )

    def __init__(self, channel: "Channel", method: bytes, queues: list[Queue], revision: int) -> None:
        """`method`: the whole frame."""
        self.channel = channel
        self.address = method[_ADDRESS]
        self.queues = queues
        self.revision = revision
        self.is_mandatory = bool(method[_FLAGS] & _MANDATORY)
        self.is_immediate = bool(method[_FLAGS] & _IMMEDIATE)
        self.has_durable = any(queue.is_durable for queue in queues)
        self.takes_runs = all(queue.takes_runs for queue in queues)


class Content:
    """A message under way on one channel: its method has come, header and body have not all."""

    __slots__ = ("body", "body_bytes", "copies", "exchange", "facts", "header", "method", "routing_key")

    def __init__(self, method: bytes, exchange: str, routing_key: str) -> None:
        self.method = method
        self.exchange = exchange
        self.routing_key = routing_key
        self.copies: tuple[str, ...] = ()  # more routing keys
        self.header: bytes | None = None
        self.facts = properties.NO_FACTS
        self.body = bytearray()  # and not a list of frames, which may be tiny, or empty without end
        self.body_bytes = 0


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
    if content is None or content.header is not None:
        raise UnexpectedFrame("content header without basic.publish before it")
    size = properties.body_size(payload)
    limit = channel.connection.message_bytes_max
    if size > limit:
        raise PreconditionFailed(f"message size {size} is larger than configured max size {limit}")
    content.facts = facts = properties.inspect(payload)
    content.header = payload
    if not addressing.is_plain(channel.connection, facts):
        content.header = _admit(channel, content, payload, now)
    content.body_bytes = size
    if not size:
        _complete(channel, content, now)


def _admit(channel: "Channel", content: Content, payload: bytes, now: int) -> bytes:
    """The header to be stored instead of this one, which is not plain; raises PreconditionFailed (406)."""
    facts = content.facts
    addressing.check_user(channel.connection, facts)
    if facts.reply_to_at:
        payload = addressing.with_reply_address(channel, payload, facts)
    if facts.may_have_copies:
        content.copies = addressing.copies(payload, facts)
        _require_topics(channel.connection, channel.connection.vhost.exchange(content.exchange), content.copies)
        payload = addressing.without_hidden(payload, facts)
    if addressing.lacks_timestamp(channel.connection, facts):
        payload = addressing.with_timestamp(payload, now)
    return payload


def body(channel: "Channel", payload: memoryview, now: int) -> None:
    content = channel.content
    if content is None or content.header is None:
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
    payload, facts = content.header or b"", content.facts
    exchange = vhost.exchange(content.exchange)
    queues, by_key = vhost.route(
        exchange,
        content.routing_key,
        lambda: properties.headers(payload, facts),
        content.copies,
        lambda: properties.identities(payload),
    )
    route = Route(channel, content.method, queues, vhost.revision)
    return route, by_key and not content.copies and not route.is_immediate


def store(route: Route, content: Content, now: int) -> bool:
    """Append the message to all its queues, or return it, and count it for the publisher's confirm.

    False when one of the queues is full and refused it.
    """
    channel, facts = route.channel, content.facts
    channel.connection.turn.published += 1
    queues = [queue for queue in route.queues if _takes_at_once(queue)] if route.is_immediate else route.queues
    is_refused = False
    if queues:
        is_refused = not _append(queues, route.address, content, now)
    elif route.is_mandatory and not route.queues:
        _return(channel, ReplyCode.NO_ROUTE, route.address, content)
    elif route.is_immediate:
        _return(channel, ReplyCode.NO_CONSUMERS, route.address, content)
    if channel.confirms is not None and is_refused:
        channel.confirms.refused()
    elif channel.confirms is not None:
        channel.confirms.published(1, awaits_disk=facts.is_persistent and route.has_durable)
    return not is_refused


def _takes_at_once(queue: Queue) -> bool:
    """Whether the next message is handed out before this turn ends."""
    return sum(consumer.room() for consumer in queue.consumers() if consumer.is_waiting) > queue.ready_count


def _return(channel: "Channel", code: ReplyCode, address: bytes, content: Content) -> None:
    connection = channel.connection
    connection.write(
        returned(channel.number, code, code.name.encode(), address, content.header or b"")
        + body_frames(channel.number, content.body, connection.frame_max)
    )


def _append(queues: list[Queue], address: bytes, content: Content, now: int) -> bool:
    """Whether all of them took it; those that do take it whatever others say."""
    header, facts, body = content.header or b"", content.facts, content.body
    flags = record.flags(is_persistent=facts.is_persistent, expires=facts.expires)
    taking = [queue for queue in queues if not queue.is_full(now)]
    if len(body) >= LARGE_BODY_BYTES:
        head = record.encode_head(now, flags, facts.priority, address, header, len(body))
        for queue in taking:
            queue.append_large([head, body], len(head) + len(body), expires=facts.expires)
    else:
        whole = record.encode(now, flags, facts.priority, address, header, body)
        for queue in taking:
            queue.append(whole, expires=facts.expires)
    if len(taking) == len(queues):
        return True
    refused = record.Record(now, flags, facts.priority, address, header, bytes(body))
    for queue in queues:
        if queue not in taking:
            queue.refuse(refused, now)
    return False
