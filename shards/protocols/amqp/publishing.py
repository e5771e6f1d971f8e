"""`basic.publish`: a method, a header and a body become one stored record in every queue the message goes to.

Two ways lead here. `intake.py` takes whole publishes out of the receive buffer while it knows their route; everything
else (first of its kind, split over reads, bodies of many frames, unroutable and mandatory) is put together here, frame
by frame.
"""

from typing import TYPE_CHECKING

from pamqp import commands

from ipc.errors import AccessRefused, FrameError, NotImplementedRefusal, PreconditionFailed, ReplyCode, UnexpectedFrame
from ipc.limits import LARGE_BODY_BYTES
from ipc.wire.amqp import properties
from shards.model.queues.queue import Queue
from shards.protocols.amqp.framing import body_frames, returned
from shards.store import record

if TYPE_CHECKING:
    from shards.protocols.amqp.channel import Channel
    from shards.protocols.amqp.connection import Connection

# A whole publish frame: prefix 7, class u16, method u16, reserved u16 | exchange, routing key | flags u8, end octet.
_ADDRESS = slice(13, -2)
_FLAGS = -2
_MANDATORY = 1


class Route:
    """Where the bytes of one publish method lead, as long as the topology's revision stays the same."""

    __slots__ = ("address", "channel", "has_durable", "is_mandatory", "queues", "revision")

    def __init__(
        self, channel: "Channel", address: bytes, queues: list[Queue], revision: int, *, is_mandatory: bool
    ) -> None:
        self.channel = channel
        self.address = address
        self.queues = queues
        self.revision = revision
        self.is_mandatory = is_mandatory
        self.has_durable = any(queue.is_durable for queue in queues)


class Content:
    """A message under way on one channel: its method has come, header and body have not all."""

    __slots__ = ("body", "body_bytes", "exchange", "facts", "header", "method", "routing_key")

    def __init__(self, method: bytes, exchange: str, routing_key: str) -> None:
        self.method = method
        self.exchange = exchange
        self.routing_key = routing_key
        self.header: bytes | None = None
        self.facts = properties.NO_FACTS
        self.body = bytearray()  # and not a list of frames, which may be tiny, or empty without end
        self.body_bytes = 0


def publish(channel: "Channel", method: commands.Basic.Publish, raw: bytes) -> None:
    """The method frame has come. Raises NotFound, AccessRefused before any content is kept."""
    connection = channel.connection
    if method.immediate:
        raise NotImplementedRefusal("immediate=true")
    exchange = connection.vhost.exchange(method.exchange)
    connection.access.require("write", "exchange", method.exchange)
    if exchange.is_internal:
        raise AccessRefused(f"cannot publish to internal exchange '{exchange.name}' in vhost '{connection.vhost.name}'")
    channel.content = Content(raw, method.exchange, method.routing_key)
    connection.publishes = True


def header(channel: "Channel", payload: bytes, now: int) -> None:
    content = channel.content
    if content is None or content.header is not None:
        raise UnexpectedFrame("content header without basic.publish before it")
    size = properties.body_size(payload)
    limit = channel.connection.message_bytes_max
    if size > limit:
        raise PreconditionFailed(f"message size {size} is larger than configured max size {limit}")
    content.facts = properties.inspect(payload)
    content.header = payload
    content.body_bytes = size
    if not size:
        _complete(channel, content, now)


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
    connection = channel.connection
    assert content.header is not None
    payload, facts = content.header, content.facts
    route, is_lasting = _route(channel, content)
    if is_lasting:
        connection.remember_route(content.method, route)
    store(connection, route, payload, facts, content.body, now)


def _route(channel: "Channel", content: Content) -> tuple[Route, bool]:
    vhost = channel.connection.vhost
    payload, facts = content.header or b"", content.facts
    queues, by_key = vhost.route(
        vhost.exchange(content.exchange), content.routing_key, lambda: properties.headers(payload, facts)
    )
    raw = content.method
    route = Route(channel, raw[_ADDRESS], queues, vhost.revision, is_mandatory=bool(raw[_FLAGS] & _MANDATORY))
    return route, by_key


def store(
    connection: "Connection",
    route: Route,
    payload: bytes,
    facts: properties.Facts,
    body: bytearray,
    now: int,
) -> None:
    """Append the message to all its queues, or return it, and count it for the publisher's confirm."""
    channel = route.channel
    connection.turn.published += 1
    flags = record.PERSISTENT if facts.is_persistent else 0
    if not route.queues and route.is_mandatory:
        connection.write(
            returned(channel.number, ReplyCode.NO_ROUTE, b"NO_ROUTE", route.address, payload)
            + body_frames(channel.number, body, connection.frame_max)
        )
    elif len(body) >= LARGE_BODY_BYTES:
        head = record.encode_head(now, flags, facts.priority, route.address, payload, len(body))
        for queue in route.queues:
            queue.append_large([head, body], len(head) + len(body))
    else:
        whole = record.encode(now, flags, facts.priority, route.address, payload, body)
        for queue in route.queues:
            queue.append(whole)
    if channel.confirms is not None:
        channel.confirms.published(1, awaits_disk=facts.is_persistent and route.has_durable)
