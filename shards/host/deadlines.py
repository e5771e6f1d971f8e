"""Heartbeats and close time-outs of all connections: buckets of peers, each emptied when its time has come."""

from collections.abc import Callable
from typing import Final

import trio

from shards.compaction.compactable import Compactable
from shards.host.peer import Peer

_BUCKET_MS: Final = 250  # a heartbeat of one second is due every half, and must not be late by as much


class Deadlines(Compactable):
    """Which peer is to be ticked when, to the bucket; a peer has one deadline at most, and takes it along."""

    NESTED = ("_buckets",)

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._buckets: dict[int, dict[Peer, None]] = {}

    def set(self, peer: Peer, due: int) -> None:
        """Tick `peer` at `due`, in broker time, instead of when it was due before; 0: never."""
        self.clear(peer)
        if due:
            peer.due = due // _BUCKET_MS + 1
            self._buckets.setdefault(peer.due, {})[peer] = None

    def clear(self, peer: Peer) -> None:
        bucket = self._buckets.get(peer.due)
        if bucket is not None:
            bucket.pop(peer, None)
            if not bucket:
                del self._buckets[peer.due]
        peer.due = 0

    async def run(self, tick: Callable[[Peer, int], int], nudge: Callable[[], None]) -> None:
        """Tick what is due until cancelled; `tick` answers when the peer is due again."""
        while True:
            await trio.sleep(_BUCKET_MS / 1000)
            if self.tick_due(tick, self._clock()):
                nudge()

    def tick_due(self, tick: Callable[[Peer, int], int], now: int) -> int:
        """Tick everything due at `now`; how many it were."""
        due = [number for number in self._buckets if number <= now // _BUCKET_MS]
        peers = [peer for number in sorted(due) for peer in self._buckets.pop(number)]
        for peer in peers:
            peer.due = 0
            self.set(peer, tick(peer, now))
        return len(peers)
