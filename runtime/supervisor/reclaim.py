"""Makes every process give memory back: one pass at a time, sent to all shards, logged as each of them answers."""

import gc
import time
from collections.abc import Callable
from typing import Final

import structlog
import trio
from structlog.typing import FilteringBoundLogger

from ipc.allocator import trim_allocator
from ipc.limits import PASS_SECONDS_MAX
from ipc.link import LinkClosed
from ipc.memory_reading import read_memory
from ipc.messages.commands import Compact, Level
from ipc.messages.reports import Reclaimed
from runtime.roster import ShardLink
from runtime.supervisor.passes import Pass, Passes

SUPERVISOR: Final = -1  # the number under which the supervisor reports itself

_log: Final[FilteringBoundLogger] = structlog.get_logger("supervisor")


class Reclaim:
    """Passes over all processes; `passes` tells what they did."""

    def __init__(self, links: Callable[[], list[tuple[int, ShardLink]]]) -> None:
        self._links = links
        self._one_pass = trio.Lock()
        self._number = 0
        self._awaited: set[int] = set()
        self._answered = trio.Event()
        self.passes = Passes()

    async def request(self, level: Level, trigger: str) -> Pass:
        """Run a pass; returns when every process that lives has reported."""
        async with self._one_pass:
            self._number += 1
            _log.warning(
                "memory pressure detected, running compaction",
                trigger=trigger,
                compaction_level=level.name.lower(),
                number=self._number,
            )
            begun = self.passes.begin(self._number, level, trigger, began_at=time.time())
            began = time.perf_counter()
            links = self._links()
            self._awaited = {shard for shard, _link in links}
            self._answered = trio.Event()
            try:
                with trio.move_on_after(PASS_SECONDS_MAX) as patience:
                    async with trio.open_nursery() as nursery:
                        for shard, link in links:
                            nursery.start_soon(self._ask, shard, link, Compact(self._number, level, trigger))
                        self._remember(await _reclaim_own(self._number, level, trigger))
                        while self._awaited:
                            await self._answered.wait()
            finally:
                unanswered = tuple(sorted(self._awaited))
                self.passes.end(begun, seconds=time.perf_counter() - began, unanswered=unanswered)
            if patience.cancelled_caught:
                _log.error("compaction pass unanswered", number=self._number, shards=list(unanswered))
            return begun

    def heard(self, report: Reclaimed) -> None:
        """A shard's answer came."""
        self._remember(report)
        if report.pass_number == self._number:
            self._no_longer_awaited(report.shard)

    def lost(self, shard: int) -> None:
        """A shard died; it will not answer."""
        self._no_longer_awaited(shard)

    async def _ask(self, shard: int, link: ShardLink, compact: Compact) -> None:
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
        "shard": "supervisor" if report.shard == SUPERVISOR else report.shard,
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
        "steps": report.steps,
        "failures": report.failures,
    }


async def _reclaim_own(number: int, level: Level, trigger: str) -> Reclaimed:
    """The supervisor keeps nothing big: what it can give back is garbage, and pages that its allocator holds."""
    began = time.perf_counter()
    before = read_memory()
    collecting = time.perf_counter()
    gc.collect()
    collected = time.perf_counter()
    if level >= Level.RELEASE:
        await trio.to_thread.run_sync(trim_allocator)
    after = read_memory()
    return Reclaimed(
        shard=SUPERVISOR,
        pass_number=number,
        level=level,
        trigger=trigger,
        seconds=time.perf_counter() - began,
        slice_seconds_longest=collected - collecting,
        steps=2 if level >= Level.RELEASE else 1,
        freed_bytes_by_kind={"allocator": max(0, before.rss - after.rss)},
        freed_bytes_by_vhost={},
        failures=0,
        before=before,
        after=after,
    )
