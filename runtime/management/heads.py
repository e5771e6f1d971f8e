"""HEAD wherever there is GET, as in RabbitMQ: the same answer without its body."""

import trio
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send


def with_heads(app: ASGIApp) -> ASGIApp:
    """Whoever would have made the body is stopped once the head is said: some bodies are long, and some have no end."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP or scope["method"] != "HEAD":
            await app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                said.cancel()

        scope["method"] = "GET"
        with trio.CancelScope() as said:
            await app(scope, receive, send_head)

    return serve
