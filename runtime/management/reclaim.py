"""What the process behind the API gives back: when a pass reaches it, and by itself when nobody asks for a while.

A list of thousands of queues is tens of thousands of objects for a moment, and every path asked for is remembered by
the framework. Where memory is critical the whole process goes, if nobody waits for it: it comes back with the next
request, while what it takes would come back at once with its next answer.
"""

from collections.abc import Collection, Iterable
from contextlib import suppress

import trio
from msgspec import structs

from ipc.link import LinkClosed
from ipc.messages.commands import IDLE, Compact, Level
from ipc.messages.reports import ENDED, MANAGEMENT, Reclaimed
from ipc.rests import Rests
from runtime.auth.directory import Directory
from runtime.management.access import Gate
from runtime.management.broker import Broker
from runtime.management.idleness import Idleness
from runtime.own_pass import OwnPass, all_remembering_functions
from runtime.owner import Owner


class Holdings(Owner):
    """Everything that grows here."""

    def __init__(self, broker: Broker, gate: Gate, directory: Directory) -> None:
        self._parts = (broker, gate, directory)

    def owned(self) -> Iterable[Owner]:
        return self._parts


class Reclaim:
    """Passes of this process; they may overlap, and then each does what the other has left."""

    def __init__(self, holdings: Holdings, broker: Broker, idleness: Idleness) -> None:
        self._broker = broker
        self._idleness = idleness
        self._pass = OwnPass(
            holdings, lambda: broker.settings.compaction, MANAGEMENT, remembering=all_remembering_functions
        )

    async def run(self, compact: Compact, resting: Collection[str] = ()) -> None:
        """Run a pass and report it; nobody is told more, because where there is no supervisor all of this ends."""
        report = await self._pass.run(compact, resting)
        if compact.level >= Level.CRITICAL and self._idleness.end():
            report = _of_all(report)
        with suppress(LinkClosed):
            await self._broker.reclaimed(report)

    async def run_when_idle(self) -> None:
        """One pass in each quiet time, until cancelled."""
        rests = Rests()
        while True:
            await self._idleness.begins(lambda: self._broker.settings.compaction.idle_trim_seconds)
            resting = rests.resting(self._broker.settings.compaction, round(trio.current_time() * 1000))
            await self.run(Compact(0, Level.TRIM, IDLE), resting)


def _of_all(report: Reclaimed) -> Reclaimed:
    """The report of a process that ends with it."""
    return structs.replace(report, freed_bytes_by_kind={"process": report.before.private}, after=ENDED)
