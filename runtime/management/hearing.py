"""Hears requests out: who answers before it has read all of a body must let the client finish, or part with it.

Hypercorn keeps a few pieces of a body for the application. When that is full, its end of a request waits for room that
nobody makes any more, and the connection stays for ever; most clients do not read either before they have sent
everything. So what is left of a body is read and dropped before the last word of an answer, for a moment at most, and
while that is said.
"""

import trio
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPReceiveMessage, Message, Receive, Scope, Send

from ipc.limits import HTTP_LINGER_SECONDS


def heard_out(app: ASGIApp) -> ASGIApp:
    """The same, whose clients are not left hanging."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP:
            hearing = _Hearing(receive, send)
            await app(scope, hearing.receive, hearing.send)
        else:
            await app(scope, receive, send)

    return serve


class _Hearing:
    """One request."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._is_over = False

    async def receive(self) -> HTTPReceiveMessage:
        message: HTTPReceiveMessage = await self._receive()  # type: ignore[assignment]
        self._is_over = self._is_over or not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if self._is_over or message["type"] != "http.response.body" or message["more_body"]:
            await self._send(message)
            return
        await self._send({**message, "more_body": True})
        with trio.move_on_after(HTTP_LINGER_SECONDS):
            while not self._is_over:
                await self.receive()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._drop)
            await self._send({**message, "body": b""})
            nursery.cancel_scope.cancel()

    async def _drop(self) -> None:
        while not self._is_over:
            await self.receive()
