"""Paths whose parts may hold any character: `%2F` is a slash within a name and not a border between two.

ASGI servers decode a path before anybody can tell. So routes are found by the path as it was sent, and its parts are
decoded once they have been told apart.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from runtime.management.errors import BadRequest


def undecoded(app: ASGIApp) -> ASGIApp:
    """Before routing: the path as it was sent."""

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP:
            path = scope["raw_path"].partition(b"?")[0].decode("ascii", "replace")
            scope["path"] = path.replace("/e//", "/e/amq.default/")  # in /api/bindings: the exchange without a name
        await app(scope, receive, send)

    return route


def decoded(app: ASGIApp) -> ASGIApp:
    """After routing: the names that stand in it."""

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        parameters: Mapping[str, Any] = scope.get("path_params", {})
        try:
            scope["path_params"] = {
                name: unquote(value, errors="strict") if isinstance(value, str) else value
                for name, value in parameters.items()
            }
        except UnicodeDecodeError as fault:
            raise BadRequest("a name in the path is not UTF-8") from fault
        await app(scope, receive, send)

    return handle
