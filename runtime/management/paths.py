"""Paths whose parts may hold any character: `%2F` is a slash within a name and not a border between two.

ASGI servers decode a path before anybody can tell. So routes are found by the path as it was sent, and its parts are
decoded once they have been told apart.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send


def undecoded(app: ASGIApp) -> ASGIApp:
    """Before routing: the path as it was sent."""

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP:
            scope["path"] = scope["raw_path"].partition(b"?")[0].decode("ascii", "replace")
        await app(scope, receive, send)

    return route


def decoded(app: ASGIApp) -> ASGIApp:
    """After routing: the names that stand in it."""

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        parameters: Mapping[str, Any] = scope.get("path_params", {})
        scope["path_params"] = {
            name: unquote(value, errors="replace") if isinstance(value, str) else value
            for name, value in parameters.items()
        }
        await app(scope, receive, send)

    return handle
