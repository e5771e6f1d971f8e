"""Who has which vhost open right now: the router asks it where a client belongs."""

import trio

from ipc.link import Link
from ipc.messages.reports import ShardReport
from runtime.owner import Owner

ShardLink = Link[ShardReport]


class VHostDown(Exception):
    """No shard has the vhost open, and waiting longer will not help this client."""


class Roster(Owner):
    """Every vhost of the directory, the shard it is placed on, and the link to that shard while it is open there."""

    COLLECTIONS = ("_failures", "_moving", "_owners", "_places")

    def __init__(self) -> None:
        self._places: dict[str, int] = {}
        self._owners: dict[str, ShardLink] = {}
        self._failures: dict[str, str] = {}
        self._moving: set[str] = set()
        self._changed = trio.Event()

    def known(self, vhost: str) -> bool:
        return vhost in self._places

    async def owner_of(self, vhost: str, patience_seconds: float) -> ShardLink:
        """The link to the shard that has the vhost open; waits while that shard starts or restarts.

        Raises VHostDown when it cannot be opened, is not known (any more), or patience ran out.
        """
        with trio.move_on_after(patience_seconds):
            while vhost not in self._owners:
                if vhost in self._failures or not (vhost in self._places or vhost in self._moving):
                    break
                await self._changed.wait()
        owner = self._owners.get(vhost)
        if owner is None:
            raise VHostDown(vhost)
        return owner

    def owner_now(self, vhost: str) -> ShardLink | None:
        """The same without waiting; None while nobody has it open."""
        return self._owners.get(vhost)

    # what the supervisor tells it -------------------------------------------------------------------------------------

    def place(self, vhost: str, shard: int) -> None:
        self._places[vhost] = shard
        self._moving.discard(vhost)
        self._wake()

    def forget(self, vhost: str, *, is_moving: bool = False) -> None:
        """Nobody is sent there any more: it is deleted, or about to have another place, which clients wait for."""
        self._places.pop(vhost, None)
        if is_moving:
            self._moving.add(vhost)
        else:
            self._moving.discard(vhost)
        self.closed(vhost)

    def opened(self, vhost: str, link: ShardLink) -> None:
        self._owners[vhost] = link
        self._failures.pop(vhost, None)
        self._wake()

    def failed(self, vhost: str, reason: str) -> None:
        self.closed(vhost)
        self._failures[vhost] = reason

    def closed(self, vhost: str) -> None:
        self._owners.pop(vhost, None)
        self._failures.pop(vhost, None)
        self._wake()

    def lost(self, link: ShardLink) -> None:
        """A shard died, and everything it had open with it."""
        for vhost in [vhost for vhost, owner in self._owners.items() if owner is link]:
            self.closed(vhost)

    # what others may ask ----------------------------------------------------------------------------------------------

    def place_of(self, vhost: str) -> int | None:
        return self._places.get(vhost)

    def is_open(self, vhost: str) -> bool:
        return vhost in self._owners

    def placed_on(self, shard: int) -> list[str]:
        return [vhost for vhost, place in self._places.items() if place == shard]

    async def settled(self) -> None:
        """Wait until every vhost is open, or known not to open."""
        # Nobody owns, or fails, what is not placed; so counting is enough, and cheap for thousands of vhosts.
        while len(self._owners) + len(self._failures) < len(self._places):
            await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
