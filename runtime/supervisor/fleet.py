"""All shards together: started at once, told things at once, drained at once."""

from collections.abc import Callable, Iterable, Iterator

import trio

from ipc.errors import StartRefused
from ipc.messages.commands import Command
from ipc.settings import MainSettings
from runtime.decisions.restarts import Restarts
from runtime.owner import Owner
from runtime.roster import ShardLink
from runtime.supervisor.shard import Shard, Surroundings


class Fleet(Owner):
    """Shards 0 … N-1; N is fixed for the life of the supervisor."""

    def __init__(self, main: MainSettings, around: Surroundings, beyond_help: Callable[[StartRefused], None]) -> None:
        self._beyond_help = beyond_help
        self._is_running = False
        self._ended = trio.Event()
        self._shards = [Shard(number, around, restarts(main)) for number in range(main.shards)]

    def owned(self) -> Iterable[Owner]:
        return self._shards

    def __iter__(self) -> Iterator[Shard]:
        return iter(self._shards)

    def __len__(self) -> int:
        return len(self._shards)

    def __getitem__(self, number: int) -> Shard:
        return self._shards[number]

    async def run(self) -> None:
        """Until every shard is drained or beyond help; one that is does not take its siblings along."""
        async with trio.open_nursery() as nursery:
            self._is_running = True
            for shard in self._shards:
                nursery.start_soon(self._keep, shard)
        self._ended.set()

    async def _keep(self, shard: Shard) -> None:
        try:
            await shard.run()
        except StartRefused as refusal:
            self._beyond_help(refusal)

    async def started(self) -> None:
        for shard in self._shards:
            await shard.started.wait()

    async def broadcast(self, command: Command) -> None:
        """Tell every shard that lives; one that starts later learns from its `Start`."""
        async with trio.open_nursery() as nursery:
            for shard in self._shards:
                nursery.start_soon(shard.tell, command)

    async def drain(self, seconds: float) -> None:
        """Have all shards end within about `seconds`, and wait for it."""
        async with trio.open_nursery() as nursery:
            for shard in self._shards:
                nursery.start_soon(shard.drain, seconds)
        if self._is_running:
            await self._ended.wait()

    def kill(self) -> None:
        for shard in self._shards:
            shard.kill()

    def pids(self) -> list[int]:
        return [shard.pid for shard in self._shards if shard.pid is not None]

    def links(self) -> list[tuple[int, ShardLink]]:
        """Number and link of each shard that lives."""
        return [(shard.number, shard.link) for shard in self._shards if shard.link is not None]


def restarts(main: MainSettings) -> Restarts:
    return Restarts(
        seconds_min=main.shard_restart_seconds_min,
        seconds_max=main.shard_restart_seconds_max,
        per_minute_max=main.shard_restarts_per_minute_max,
    )
