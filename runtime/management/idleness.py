"""Tells when nobody has asked for long: then the process that answers may end, until somebody asks again."""

from collections.abc import Callable
from typing import Final

import trio
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

_LOOK_SECONDS: Final = 60.0  # between two looks whether it is ever to be idle


class Idleness:
    """Counts requests under way, streams of events among them, and the time since the last."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        """`seconds` without a request; 0: never idle."""
        self._seconds = seconds
        self._asking = 0
        self._last = trio.current_time()
        self._asked = trio.Event()
        self._over = trio.Event()

    def watched(self, app: ASGIApp) -> ASGIApp:
        """The same, its requests counted."""

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != ScopeType.HTTP:
                await app(scope, receive, send)
                return
            self._asking += 1
            self._asked.set()
            try:
                await app(scope, receive, send)
            finally:
                self._asking -= 1
                self._last = trio.current_time()

        return serve

    async def passed(self) -> None:
        """Returns when nobody has asked for that long, or all is over anyway."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._await_end, nursery.cancel_scope)
            await self._quiet(self._seconds)
            nursery.cancel_scope.cancel()

    async def begins(self, seconds: Callable[[], float]) -> None:
        """Returns when somebody has asked since this was awaited last, and then nobody for so long."""
        await self._asked.wait()
        await self._quiet(seconds)
        self._asked = trio.Event()

    def end(self) -> bool:
        """Be over at once, unless a request is under way; whether it is."""
        if not self._asking:
            self._over.set()
        return self._over.is_set()

    async def _await_end(self, waiting: trio.CancelScope) -> None:
        await self._over.wait()
        waiting.cancel()

    async def _quiet(self, seconds: Callable[[], float]) -> None:
        while True:
            wanted = seconds()
            left = self._last + wanted - trio.current_time() if wanted else _LOOK_SECONDS
            if left <= 0 and not self._asking:
                return
            await trio.sleep(max(1.0, left))
