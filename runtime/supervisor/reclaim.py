"""Makes every process give memory back: one pass at a time, sent to all shards, logged as each of them answers."""

import gc
import time
from collections import Counter
from collections.abc import Callable, Iterable
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
from ipc.settings import CompactionSettings
from runtime.owner import Owner, rebuild
from runtime.roster import ShardLink
from runtime.supervisor.passes import Pass, Passes

SUPERVISOR: Final = -1  # the number under which the supervisor reports itself

_log: Final[FilteringBoundLogger] = structlog.get_logger("supervisor")


class Reclaim(Owner):
    """Passes over all processes; `passes` tells what they did."""

    COLLECTIONS = ("_awaited",)

    def __init__(
        self,
        links: Callable[[], list[tuple[int, ShardLink]]],
        root: Owner,
        settings: Callable[[], CompactionSettings],
    ) -> None:
        """`root`: of everything the supervisor itself holds."""
        self._links = links
        self._root = root
        self._settings = settings
        self._one_pass = trio.Lock()
        self._number = 0
        self._awaited: set[int] = set()
        self._answered = trio.Event()
        self.passes = Passes()

    def owned(self) -> Iterable[Owner]:
        return (self.passes,)

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
                        self._remember(await reclaim_own(self._root, self._settings(), self._number, level, trigger))
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


async def reclaim_own(root: Owner, settings: CompactionSettings, number: int, level: Level, trigger: str) -> Reclaimed:
    """The supervisor's own part: its collections, one a slice; then garbage, and pages that its allocator holds."""
    began = time.perf_counter()
    before = read_memory()
    freed: Counter[str] = Counter()
    failures = steps = 0
    longest = 0.0
    slice_began = time.perf_counter()
    for step in rebuild(root, ratio=settings.ratio, floor_bytes=settings.floor_bytes, level=level):
        freed[step.kind] += step.size_bytes
        failures += step.failed
        steps += 1
        longest = max(longest, time.perf_counter() - slice_began)
        await trio.lowlevel.checkpoint()
        slice_began = time.perf_counter()
    collecting = time.perf_counter()
    gc.collect()
    longest = max(longest, time.perf_counter() - collecting)
    if level >= Level.RELEASE:
        await trio.to_thread.run_sync(trim_allocator)
    after = read_memory()
    return Reclaimed(
        shard=SUPERVISOR,
        pass_number=number,
        level=level,
        trigger=trigger,
        seconds=time.perf_counter() - began,
        slice_seconds_longest=longest,
        steps=steps,
        freed_bytes_by_kind=+freed | {"allocator": max(0, before.rss - after.rss)},
        freed_bytes_by_vhost={},
        failures=failures,
        before=before,
        after=after,
    )
