"""Gives every answer the headers that browsers are to see, errors and what Litestar answers by itself included."""

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from runtime.decisions.security_headers import SECURITY_HEADERS, STRICT_TRANSPORT


def secured(app: ASGIApp, policies: dict[str, str] | None = None) -> ASGIApp:
    """`policies`: content security policies of pages, by the path that they and what is below them have.

    What an answer says itself counts more.
    """

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await app(scope, receive, send)
            return
        headers = dict(SECURITY_HEADERS)
        for page, policy in (policies or {}).items():
            if scope["path"] == page or scope["path"].startswith(f"{page}/"):
                headers["Content-Security-Policy"] = policy
        if scope["scheme"] == "https":
            headers.update([STRICT_TRANSPORT])

        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                said = {name.lower() for name, _value in message["headers"]}
                added = [
                    (name.lower().encode(), value.encode())
                    for name, value in headers.items()
                    if name.lower().encode() not in said
                ]
                message["headers"] = [*message["headers"], *added]
            await send(message)

        await app(scope, receive, send_secured)

    return serve
