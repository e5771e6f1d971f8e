"""Lets in no more connections of a user than its limit allows, whichever shards they are at.

Nobody counts the connections of everybody: shards are asked when a user comes who has a limit. Until it has been handed
over no other such user is let through, and a shard answers the next question after it has taken it in.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

from ipc.errors import NotAllowed
from runtime.auth.directory import Directory

CountConnections = Callable[[str], Awaitable[int]]
"""How many connections a user has now."""


class Turnstile:
    def __init__(self, directory: Directory, count: CountConnections) -> None:
        self._directory = directory
        self._count = count
        self._passing = trio.Lock()

    def limit(self, user: str) -> int | None:
        """None: as many as it likes."""
        found = self._directory.find_user(user)
        limit = -1 if found is None else found.limits.get("max-connections", -1)
        return None if limit < 0 else limit

    @asynccontextmanager
    async def passing(self, user: str) -> AsyncIterator[None]:
        """Hand it over in here. Raises NotAllowed (530) with RabbitMQ's words."""
        limit = self.limit(user)
        if limit is None:
            yield
            return
        async with self._passing:
            if limit == 0 or await self._count(user) >= limit:
                raise NotAllowed(f"connection refused for user '{user}': user connection limit ({limit}) is reached")
            yield
