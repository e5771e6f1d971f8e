"""A client of the broker that is part of it: what the API does to queues and messages, it does as any client would.

So permissions, refusals and durability are those of AMQP, and there is one way to do each thing. The supervisor lets it
in without a password, on behalf of the user who asks; it lives as long as one request.
"""

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import trio
from msgspec import Struct
from pamqp import commands, header

from ipc.errors import ReplyCode
from ipc.limits import FRAME_OVERHEAD_BYTES, INNER_CLIENT_SECONDS_MAX
from ipc.wire.amqp import frames, methods
from runtime.management.broker import Broker, Refused, Unavailable

Answer = TypeVar("Answer", bound=methods.Method)

NAME: Final = "management"
"""What its connections begin with in lists."""

_CHANNEL: Final = 1
_RECEIVE_BYTES: Final = 64 * 1024
_UNENCODABLE: Final = (TypeError, ValueError, OverflowError, struct.error)


class Message(Struct, frozen=True):
    """One that was taken from a queue; `ready`: how many are left behind it."""

    tag: int
    exchange: str
    routing_key: str
    redelivered: bool
    ready: int
    properties: commands.Basic.Properties
    body: bytes


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

    async def say(self, kind: type[methods.Method], **fields: Any) -> None:
        """Raises Refused for what no frame can hold."""
        await self._send(_encoded(kind, **fields))

    async def hear(self) -> tuple[methods.Method, "tuple[commands.Basic.Properties, bytes] | None"]:
        """The next method, and the content that belongs to it. Raises Refused when the broker refuses."""
        method = methods.decode(await self._frame(frames.METHOD))
        if isinstance(method, (commands.Channel.Close, commands.Connection.Close)):
            raise Refused(method.reply_code or ReplyCode.INTERNAL_ERROR, method.reply_text or "")
        if not isinstance(method, (commands.Basic.GetOk, commands.Basic.Return)):
            return method, None
        head = header.ContentHeader()
        head.unmarshal(await self._frame(frames.HEADER))
        body = bytearray()
        while len(body) < head.body_size:
            body += await self._frame(frames.BODY)
        assert isinstance(head.properties, commands.Basic.Properties)
        return method, (head.properties, bytes(body))

    # messages ---------------------------------------------------------------------------------------------------------

    async def publish(
        self, exchange: str, routing_key: str, properties: commands.Basic.Properties, body: bytes
    ) -> bool:
        """Whether any queue took it; returns when it is as safe as its kind promises. Raises Refused."""
        await self.ask(commands.Confirm.Select, commands.Confirm.SelectOk)
        room = self._frame_max - FRAME_OVERHEAD_BYTES
        try:
            head = header.ContentHeader(0, len(body), properties).marshal()
        except _UNENCODABLE as fault:
            raise Refused(ReplyCode.SYNTAX_ERROR, f"properties cannot be encoded: {fault}") from fault
        parts = [
            _encoded(commands.Basic.Publish, exchange=exchange, routing_key=routing_key, mandatory=True),
            frames.pack(frames.HEADER, _CHANNEL, head),
            *(frames.pack(frames.BODY, _CHANNEL, body[start : start + room]) for start in range(0, len(body), room)),
        ]
        await self._send(b"".join(parts))
        is_routed = True
        while True:
            method, _content = await self.hear()
            if isinstance(method, commands.Basic.Return):
                is_routed = False
            elif isinstance(method, commands.Basic.Nack):
                return False
            elif isinstance(method, commands.Basic.Ack):
                return is_routed

    async def get(self, queue: str) -> Message | None:
        """The next message, to be settled; None when there is none. Raises Refused."""
        await self.say(commands.Basic.Get, queue=queue)
        method, content = await self.hear()
        if content is None:
            return None
        assert isinstance(method, commands.Basic.GetOk)
        properties, body = content
        return Message(
            tag=method.delivery_tag or 0,
            exchange=method.exchange or "",
            routing_key=method.routing_key or "",
            redelivered=bool(method.redelivered),
            ready=method.message_count or 0,
            properties=properties,
            body=body,
        )

    async def check_alive(self, queue: str) -> None:
        """Have a message come through this queue, which is made where there is none. Raises Refused, Unavailable."""
        await self.ask(commands.Queue.Declare, commands.Queue.DeclareOk, queue=queue)
        await self.publish("", queue, commands.Basic.Properties(), b"test_message")
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
async def inner_client(broker: Broker, user: str, vhost: str) -> AsyncIterator[InnerClient]:
    """A client of this user in this vhost; at the end, what it said has taken effect. Raises Refused, Unavailable."""
    try:
        with trio.fail_after(INNER_CLIENT_SECONDS_MAX):
            end, frame_max = await broker.enter(user, vhost, f"{NAME} ({user})")
            async with trio.SocketStream(trio.socket.from_stdlib_socket(end)) as stream:
                client = InnerClient(stream, frame_max)
                await client.hear()  # connection.open-ok
                await client.ask(commands.Channel.Open, commands.Channel.OpenOk)
                yield client
                await client.close()
    except trio.TooSlowError as fault:
        raise Unavailable(f"no answer within {INNER_CLIENT_SECONDS_MAX:g} seconds") from fault


def _encoded(kind: type[methods.Method], **fields: Any) -> bytes:
    method = methods.make(kind, **fields)
    try:
        return methods.frame(_CHANNEL, method)
    except _UNENCODABLE as fault:
        raise Refused(ReplyCode.SYNTAX_ERROR, f"{method.name} cannot be encoded: {fault}") from fault
