"""Tells when nobody has asked for long: then the process that answers may end, until somebody asks again."""

from collections.abc import Callable

import trio
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send


class Idleness:
    """Counts requests under way, and the time since the last."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        """`seconds` without a request; 0: never idle."""
        self._seconds = seconds
        self._asking = 0
        self._last = trio.current_time()

    def watched(self, app: ASGIApp) -> ASGIApp:
        """The same, its requests counted."""

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != ScopeType.HTTP:
                await app(scope, receive, send)
                return
            self._asking += 1
            try:
                await app(scope, receive, send)
            finally:
                self._asking -= 1
                self._last = trio.current_time()

        return serve

    async def passed(self) -> None:
        """Returns when nobody has asked for that long."""
        while True:
            seconds = self._seconds()
            left = self._last + seconds - trio.current_time() if seconds else 60.0
            if left <= 0 and not self._asking:
                return
            await trio.sleep(max(1.0, left))
