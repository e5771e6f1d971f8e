"""Heartbeats and close time-outs of all connections: an agenda of peers, looked at several times a second."""

from collections.abc import Callable, Iterable
from typing import Final

import trio

from shards.compaction.compactable import Compactable
from shards.host.peer import Peer
from shards.model.agenda import Agenda

_LOOK_SECONDS: Final = 0.25  # a heartbeat of one second is due every half, and must not be late by as much


class Deadlines(Compactable):
    """Which peer is to be ticked when; a peer has one deadline at most, and takes it along."""

    KIND = "timers"

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._agenda: Agenda[Peer] = Agenda()

    def children(self) -> Iterable[Compactable]:
        return (self._agenda,)

    def set(self, peer: Peer, due: int) -> None:
        """Tick `peer` at `due`, in broker time, instead of when it was due before; 0: never."""
        self._agenda.set(peer, due)

    def clear(self, peer: Peer) -> None:
        self._agenda.clear(peer)

    async def run(self, tick: Callable[[Peer, int], int], nudge: Callable[[], None]) -> None:
        """Tick what is due until cancelled; `tick` answers when the peer is due again."""
        while True:
            await trio.sleep(_LOOK_SECONDS)
            if self.tick_due(tick, self._clock()):
                nudge()

    def tick_due(self, tick: Callable[[Peer, int], int], now: int) -> int:
        """Tick everything due at `now`; how many it were."""
        peers = self._agenda.take_due(now)
        for peer in peers:
            self.set(peer, tick(peer, now))
        return len(peers)
