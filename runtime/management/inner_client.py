"""A client of the broker that is part of it: what the API does to queues and messages, it does as any client would.

So permissions, refusals and durability are those of AMQP, and there is one way to do each thing. The supervisor lets it
in without a password, on behalf of the user who asks; it lives as long as one request.
"""

import struct
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import trio
from msgspec import Struct
from pamqp import commands

from ipc.errors import ReplyCode
from ipc.limits import FRAME_OVERHEAD_BYTES, INNER_CLIENT_SECONDS_MAX
from ipc.wire.amqp import amending, frames, methods, properties
from runtime.management.broker import Broker, Refused, Unavailable

Answer = TypeVar("Answer", bound=methods.Method)

NAME: Final = "management"
"""What its connections begin with in lists."""

_CHANNEL: Final = 1
_RECEIVE_BYTES: Final = 64 * 1024
_UNENCODABLE: Final = (TypeError, ValueError, OverflowError, struct.error)


class Content(Struct, frozen=True):
    """A content header, the size of the body it announces, and as much of that as was to be kept."""

    header: bytes
    body_bytes: int
    body: bytes


class Message(Struct, frozen=True):
    """One that was taken from a queue; `ready`: how many are left behind it."""

    tag: int
    exchange: str
    routing_key: str
    redelivered: bool
    ready: int
    content: Content


class Wish(Struct, frozen=True):
    """A method whose answer tells no more than that it was done: `nowait` asks for none, where there is such a flag."""

    kind: type[methods.Method]
    answer: type[methods.Method]
    fields: dict[str, Any]
    unanswered: bytes  # its frame with that flag

    @classmethod
    def of(cls, kind: type[methods.Method], answer: type[methods.Method], **fields: Any) -> "Wish":
        """Raises Refused for what no frame can hold."""
        flag = {"nowait": True} if cls.can_be_unanswered(kind) else {}
        return cls(kind, answer, fields, _encoded(kind, **fields, **flag))

    @staticmethod
    def can_be_unanswered(kind: type[methods.Method]) -> bool:
        return "nowait" in kind.attributes()


class InnerClient:
    """One channel of one connection; not to be used by two tasks at a time."""

    def __init__(self, stream: trio.SocketStream, frame_max: int) -> None:
        self._stream = stream
        self._frame_max = frame_max
        self._received = bytearray()

    async def ask(self, kind: type[methods.Method], answer: type[Answer], **fields: Any) -> Answer:
        """Say a method and wait for its answer. Raises Refused and Unavailable."""
        await self.say(kind, **fields)
        method, _content = await self.hear()
        if not isinstance(method, answer):
            raise Unavailable(f"the broker answered {method.name}")
        return method

    async def ask_all(self, wishes: Sequence[Wish]) -> None:
        """Say them in this order, and return when all are done and on disk, which takes as long as one of them.

        Not more at once than a connection can take in before it answers. Raises Refused when one of them is refused;
        then those before it are done, and those behind it are not.
        """
        *most, last = wishes
        answers = [wish.answer for wish in most if not wish.can_be_unanswered(wish.kind)] + [last.answer]
        await self._send(b"".join(wish.unanswered for wish in most) + _encoded(last.kind, **last.fields))
        for answer in answers:
            method, _content = await self.hear()
            if not isinstance(method, answer):
                raise Unavailable(f"the broker answered {method.name}")

    async def say(self, kind: type[methods.Method], **fields: Any) -> None:
        """Raises Refused for what no frame can hold."""
        await self._send(_encoded(kind, **fields))

    async def hear(self, *, kept_bytes_max: int = sys.maxsize) -> tuple[methods.Method, Content | None]:
        """The next method, and the content that belongs to it, of whose body only the beginning may be kept.

        Raises Refused when the broker refuses.
        """
        method = methods.decode(await self._frame(frames.METHOD))
        if isinstance(method, (commands.Channel.Close, commands.Connection.Close)):
            raise Refused(method.reply_code or ReplyCode.INTERNAL_ERROR, method.reply_text or "")
        if not isinstance(method, (commands.Basic.GetOk, commands.Basic.Return)):
            return method, None
        head = await self._frame(frames.HEADER)
        body_bytes = left = properties.body_size(head)
        body = bytearray()
        while left:
            piece = await self._frame(frames.BODY)
            left -= len(piece)
            body += piece[: max(0, kept_bytes_max - len(body))]
        return method, Content(head, body_bytes, bytes(body))

    # messages ---------------------------------------------------------------------------------------------------------

    async def publish(self, exchange: str, routing_key: str, parts: Mapping[int, bytes], body: bytes) -> bool:
        """Whether any queue took it; returns when it is as safe as its kind promises. Raises Refused.

        `parts`: the bytes of its properties, as `message_properties.encoded` gives them.
        """
        await self.ask(commands.Confirm.Select, commands.Confirm.SelectOk)
        room = self._frame_max - FRAME_OVERHEAD_BYTES
        head = amending.put_together(len(body), parts)
        if len(head) > room:
            raise Refused(ReplyCode.SYNTAX_ERROR, f"properties of {len(head)} bytes, which is more than a frame has")
        said = [
            _encoded(commands.Basic.Publish, exchange=exchange, routing_key=routing_key, mandatory=True),
            frames.pack(frames.HEADER, _CHANNEL, head),
            *(frames.pack(frames.BODY, _CHANNEL, body[start : start + room]) for start in range(0, len(body), room)),
        ]
        await self._send(b"".join(said))
        is_routed = True
        while True:
            method, _content = await self.hear()
            if isinstance(method, commands.Basic.Return):
                is_routed = False
            elif isinstance(method, commands.Basic.Nack):
                return False
            elif isinstance(method, commands.Basic.Ack):
                return is_routed

    async def get(self, queue: str, *, kept_bytes_max: int = sys.maxsize) -> Message | None:
        """The next message, to be settled; None when there is none. Raises Refused."""
        await self.say(commands.Basic.Get, queue=queue)
        method, content = await self.hear(kept_bytes_max=kept_bytes_max)
        if content is None:
            return None
        assert isinstance(method, commands.Basic.GetOk)
        return Message(
            tag=method.delivery_tag or 0,
            exchange=method.exchange or "",
            routing_key=method.routing_key or "",
            redelivered=bool(method.redelivered),
            ready=method.message_count or 0,
            content=content,
        )

    async def check_alive(self, queue: str) -> None:
        """Have a message come through this queue, which is made where there is none. Raises Refused, Unavailable."""
        await self.ask(commands.Queue.Declare, commands.Queue.DeclareOk, queue=queue)
        await self.publish("", queue, {}, b"test_message")
        message = await self.get(queue)
        if message is None:
            raise Unavailable(f"what was published to '{queue}' did not come")
        await self.say(commands.Basic.Ack, delivery_tag=message.tag)

    async def close(self) -> None:
        """When it returns, everything that was said has taken effect."""
        await self._send(methods.frame(0, commands.Connection.Close(200, "bye", 0, 0)))
        while not isinstance((await self.hear())[0], commands.Connection.CloseOk):
            pass

    # frames -----------------------------------------------------------------------------------------------------------

    async def _send(self, data: bytes) -> None:
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # why may still be there to read

    async def _frame(self, kind: int) -> bytes:
        """The payload of the next frame of this kind; heartbeats are passed over."""
        while True:
            frame = frames.scan(self._received, 0, self._frame_max)
            if frame is not None:
                payload = bytes(self._received[frame.start : frame.end])
                del self._received[: frame.end + 1]
                if frame.kind == kind:
                    return payload
                continue
            try:
                received = await self._stream.receive_some(_RECEIVE_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                received = b""
            if not received:
                raise Unavailable("the shard that has this virtual host ended")
            self._received += received


@asynccontextmanager
async def inner_client(
    broker: Broker,
    user: str,
    vhost: str,
    *,
    seconds_max: float = INNER_CLIENT_SECONDS_MAX,
    is_literal: bool = False,
) -> AsyncIterator[InnerClient]:
    """A client of this user in this vhost; at the end, what it said has taken effect. Raises Refused, Unavailable."""
    try:
        with trio.fail_after(seconds_max):
            end, frame_max = await broker.enter(
                user, vhost, f"{NAME} ({user})" if user else NAME, is_literal=is_literal
            )
            async with trio.SocketStream(trio.socket.from_stdlib_socket(end)) as stream:
                client = InnerClient(stream, frame_max)
                await client.hear()  # connection.open-ok
                await client.ask(commands.Channel.Open, commands.Channel.OpenOk)
                yield client
                await client.close()
    except trio.TooSlowError as fault:
        raise Unavailable(f"no answer within {seconds_max:g} seconds") from fault


def _encoded(kind: type[methods.Method], **fields: Any) -> bytes:
    method = methods.make(kind, **fields)
    try:
        return methods.frame(_CHANNEL, method)
    except _UNENCODABLE as fault:
        raise Refused(ReplyCode.SYNTAX_ERROR, f"{method.name} cannot be encoded: {fault}") from fault
