"""Makes every process give memory back: one pass at a time, sent to all shards, logged as each of them answers."""

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final, TypeAlias

import structlog
import trio
from structlog.typing import FilteringBoundLogger

from ipc.limits import PASS_SECONDS_MAX
from ipc.link import Link, LinkClosed
from ipc.messages.commands import IDLE, Compact, Level
from ipc.messages.control import Role
from ipc.messages.reports import MANAGEMENT, SUPERVISOR, Reclaimed
from runtime.own_pass import OwnPass
from runtime.owner import Owner
from runtime.supervisor.passes import UNASKED, Pass, Passes

NAMES: Final[dict[int, Role]] = {SUPERVISOR: "supervisor", MANAGEMENT: "management"}
"""Of those that report and are no shards."""
Links: TypeAlias = Callable[[], Sequence[tuple[int, Link[Any]]]]
"""Number and link of each process that is to be asked."""

_log: Final[FilteringBoundLogger] = structlog.get_logger("supervisor")


class Reclaim(Owner):
    """Passes over all processes; `passes` tells what they did. Below 0 are processes that are no shards."""

    COLLECTIONS = ("_awaited",)

    def __init__(self, links: Links, own: OwnPass) -> None:
        """`own`: of what the supervisor itself holds."""
        self._links = links
        self._own = own
        self._one_pass = trio.Lock()
        self._number = 0
        self._awaited: set[int] = set()
        self._answered = trio.Event()
        self.passes = Passes()

    def owned(self) -> Iterable[Owner]:
        return (self.passes,)

    async def request(self, level: Level, trigger: str) -> Pass:
        """Run a pass; returns when every process that lives has reported, or there is no hope that it will."""
        async with self._one_pass:
            self._number += 1
            _log.warning(
                "memory pressure detected, running compaction",
                trigger=trigger,
                compaction_level=level.name.lower(),
                number=self._number,
            )
            compact = Compact(self._number, level, trigger)
            begun = self.passes.begin(self._number, level, trigger, began_at=time.time())
            began = time.perf_counter()
            links = self._links()
            self._awaited = {shard for shard, _link in links}
            self._answered = trio.Event()
            try:
                with trio.move_on_after(PASS_SECONDS_MAX) as patience:
                    async with trio.open_nursery() as nursery:
                        for shard, link in links:
                            nursery.start_soon(self._ask, shard, link, compact)
                        self._remember(await self._own.run(compact))
                        while self._awaited:
                            await self._answered.wait()
            finally:
                unanswered = tuple(sorted(self._awaited))
                self.passes.end(begun, seconds=time.perf_counter() - began, unanswered=unanswered)
            if patience.cancelled_caught:
                _log.error("compaction pass unanswered", number=self._number, shards=list(unanswered))
            return begun

    async def trim_own(self, resting: Collection[str]) -> None:
        """A pass that nobody asked for, over what the supervisor itself holds, without kinds that are `resting`."""
        async with self._one_pass:
            self._remember(await self._own.run(Compact(UNASKED, Level.TRIM, IDLE), resting))

    def heard(self, report: Reclaimed) -> None:
        """The answer of another process came."""
        self._remember(report)
        if report.pass_number == self._number:
            self._no_longer_awaited(report.shard)

    def lost(self, shard: int) -> None:
        """A process ended; it will not answer."""
        self._no_longer_awaited(shard)

    async def _ask(self, shard: int, link: Link[Any], compact: Compact) -> None:
        try:
            await link.send(compact)
        except LinkClosed:
            self._no_longer_awaited(shard)

    def _no_longer_awaited(self, shard: int) -> None:
        self._awaited.discard(shard)
        if not self._awaited:
            self._answered.set()

    def _remember(self, report: Reclaimed) -> None:
        self.passes.note(report, now=time.time())
        _log.info("memory reclaimed", **fields(report))


def fields(report: Reclaimed) -> dict[str, object]:
    """A report as it stands in the log; sizes are bytes."""
    return {
        "shard": NAMES.get(report.shard, report.shard),
        "number": report.pass_number,
        "compaction_level": report.level.name.lower(),
        "trigger": report.trigger,
        "freed_bytes": sum(report.freed_bytes_by_kind.values()),
        "by_kind": report.freed_bytes_by_kind,
        "by_vhost": report.freed_bytes_by_vhost,
        "rss_before": report.before.rss,
        "rss_after": report.after.rss,
        "pss_before": report.before.pss,
        "pss_after": report.after.pss,
        "seconds": round(report.seconds, 6),
        "slice_seconds_longest": round(report.slice_seconds_longest, 6),
        "slice_cpu_seconds_longest": round(report.slice_cpu_seconds_longest, 6),
        "steps": report.steps,
        "failures": report.failures,
    }
