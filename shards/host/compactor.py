"""Runs compaction passes beside the pump: slices of about a millisecond, blocking work in threads, then a report.

```
reading ─► cascade: slice │ other tasks │ slice │ thread │ slice … ─► gc, if cheap ─► malloc_trim ─► reading
```
A pass that nobody asked for, because a peak has passed, leaves all time to clients: each slice waits until these are
idle.
"""

import gc
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from enum import Enum, auto
from typing import Final

import structlog
import trio
from msgspec import structs

from ipc.allocator import allocated_bytes
from ipc.free_pages import return_free_pages
from ipc.limits import (
    FAILURES_LOGGED_MAX,
    GARBAGE_BYTES_CRITICAL_MAX,
    GARBAGE_BYTES_MAX,
    GARBAGE_SECONDS_MIN,
    PASS_INTERRUPTIONS_MAX,
    SLICE_SECONDS_MAX,
    STEPS_PER_CLOCK_CHECK,
    VHOSTS_REPORTED_MAX,
)
from ipc.memory_reading import read_memory
from ipc.messages.commands import IDLE, AskReclaimable, Compact, Level
from ipc.messages.reports import MemoryReading, Reclaimable, Reclaimed
from ipc.rests import Rests
from ipc.settings import CompactionSettings
from ipc.slices import Clock, Slices
from shards.compaction.cascade import cascade
from shards.compaction.coldest import Label
from shards.compaction.compactable import Compactable, Failed, Freed, Offload, ShrinkPolicy, Step

_LOG: Final = structlog.get_logger("compactor")

Pause = Callable[[], Awaitable[None]]


class Compactor:
    """The passes of one shard, one at a time."""

    def __init__(self, root: Compactable, *, shard: int, clock: Clock = time.perf_counter) -> None:
        self._root = root
        self._shard = shard
        self._clock = clock
        self._running: _Running | None = None
        self._garbage = _Garbage(clock)
        self._rests = Rests()

    async def run_pass(self, command: Compact, settings: CompactionSettings, *, now: int) -> Reclaimed:
        """What one pass gave back; `now` in milliseconds of broker time.

        While a pass runs, a request of its level or below is answered with what that pass gives; one of a higher level
        follows it.
        """
        while (running := self._running) is not None:
            await running.ended.wait()
            if running.reclaimed is not None and command.level <= running.level:
                return structs.replace(running.reclaimed, pass_number=command.pass_number)
        return await self._run_alone(command, ShrinkPolicy.at(settings, now))

    async def estimate(self, question: AskReclaimable, settings: CompactionSettings, *, now: int) -> Reclaimable:
        """What a pass of this level would free now, by a dry one; what `run_pass` does meanwhile is not waited for."""
        began = self._clock()
        tally = _Tally(Slices(self._clock, time.thread_time))
        policy = structs.replace(ShrinkPolicy.at(settings, now), is_dry=True)
        await self._shrink(question.level, policy, tally, trio.lowlevel.checkpoint)
        return Reclaimable(
            question.number,
            self._shard,
            is_last=True,
            level=question.level,
            by_kind=dict(tally.freed_bytes_by_kind),
            by_vhost=dict(tally.freed_bytes_by_label.most_common(VHOSTS_REPORTED_MAX)),
            failures=tally.failures,
            seconds=self._clock() - began,
            slice_seconds_longest=tally.slices.seconds_longest,
            reading=await _memory(),
        )

    async def run_idle_pass(self, settings: CompactionSettings, pause: Pause, *, now: int) -> Reclaimed | None:
        """Give back what a peak has left, taking a slice only after each `pause`; None while another pass runs."""
        if self._running is not None:
            return None
        policy = ShrinkPolicy.at(settings, now, resting=self._rests.resting(settings, now))
        return await self._run_alone(Compact(0, Level.TRIM, IDLE), policy, pause)

    async def _run_alone(
        self, command: Compact, policy: ShrinkPolicy, pause: Pause = trio.lowlevel.checkpoint
    ) -> Reclaimed:
        """The pass that others wait for or are answered with."""
        running = self._running = _Running(command.level)
        try:
            running.reclaimed = await self._run(command, policy, pause)
            return running.reclaimed
        finally:
            self._running = None
            running.ended.set()

    async def _run(self, command: Compact, policy: ShrinkPolicy, pause: Pause) -> Reclaimed:
        began = self._clock()
        tally = _Tally(Slices(self._clock, time.thread_time))
        before = await _memory()
        await self._shrink(command.level, policy, tally, pause)
        if command.level >= Level.RELEASE or command.trigger == IDLE:
            # First the garbage: the interpreter's free lists, which go with it, are strewn over pages to be given back.
            allocated = await trio.to_thread.run_sync(allocated_bytes)
            await pause()
            with tally.slices:
                self._garbage.collect(allocated, command.level)
            await return_free_pages(trio.to_thread.run_sync, tally.slices)
        after = await _memory()
        if tally.failures:
            _LOG.warning("part of a compaction pass failed", failures=tally.failures, reasons=tally.reasons)
        return Reclaimed(
            shard=self._shard,
            pass_number=command.pass_number,
            level=command.level,
            trigger=command.trigger,
            seconds=self._clock() - began,
            slice_seconds_longest=tally.slices.seconds_longest,
            slice_cpu_seconds_longest=tally.slices.cpu_seconds_longest,
            steps=tally.steps,
            freed_bytes_by_kind=dict(tally.freed_bytes_by_kind),
            freed_bytes_by_vhost=dict(tally.freed_bytes_by_label.most_common(VHOSTS_REPORTED_MAX)),
            failures=tally.failures,
            before=before,
            after=after,
        )

    async def _shrink(self, level: Level, policy: ShrinkPolicy, tally: "_Tally", pause: Pause) -> None:
        with closing(cascade(self._root, level, policy)) as steps:
            try:
                for _ in range(PASS_INTERRUPTIONS_MAX):
                    try:
                        await self._take(steps, tally, pause)
                        break
                    except MemoryError as fault:  # not in a step, of which the walk itself makes a failure: go on
                        tally.failed("pass", str(fault) or type(fault).__name__)
            except Exception:  # noqa: BLE001 - a pass is not worth a shard
                # An owner is broken. What the pass did so far holds, and its clients need not pay for the defect.
                _LOG.exception("compaction pass cut short by a defect")
                tally.failed("defect", "see the log")

    async def _take(self, steps: Iterator[tuple[Label, Step]], tally: "_Tally", pause: Pause) -> None:
        while (ending := self._slice(steps, tally)) is not _Ending.PASS_DONE:
            if isinstance(ending, Offload):
                await _offload(ending, tally)
            else:
                await pause()

    def _slice(self, steps: Iterator[tuple[Label, Step]], tally: "_Tally") -> "Offload | _Ending":
        """Take steps until the slice is over, or the pass, or blocking work is met."""
        unchecked = 0
        with tally.slices as slices:
            for label, step in steps:
                if isinstance(step, Offload):
                    tally.steps += 1
                    return step
                unchecked += 1
                # Looking is quick, so the clock need not be asked each time; copying is not.
                if (tally.count(label, step) or unchecked == STEPS_PER_CLOCK_CHECK) and (
                    slices.seconds() >= SLICE_SECONDS_MAX
                ):
                    return _Ending.TIME_UP
                unchecked %= STEPS_PER_CLOCK_CHECK
        return _Ending.PASS_DONE


class _Ending(Enum):
    """Why a slice ended, when not for blocking work."""

    TIME_UP = auto()
    PASS_DONE = auto()


class _Running:
    """The pass that is under way; `reclaimed` stays None when it was cancelled."""

    def __init__(self, level: Level) -> None:
        self.level = level
        self.ended = trio.Event()
        self.reclaimed: Reclaimed | None = None


class _Tally:
    """What a pass adds up."""

    def __init__(self, slices: Slices) -> None:
        self.slices = slices
        self.steps = 0
        self.freed_bytes_by_kind: Counter[str] = Counter()
        self.freed_bytes_by_label: Counter[Label] = Counter()
        self.failures = 0
        self.reasons: list[str] = []

    def count(self, label: Label, step: Step) -> bool:
        """Take a step in; whether it did more than look."""
        self.steps += 1
        if isinstance(step, Failed):
            self.failed(step.kind, step.reason)
        elif isinstance(step, Freed):
            if not step.size_bytes:
                return bool(step.kind)
            self.freed_bytes_by_kind[step.kind] += step.size_bytes
            if label:
                self.freed_bytes_by_label[label] += step.size_bytes
        return True

    def failed(self, kind: str, reason: str) -> None:
        self.failures += 1
        if len(self.reasons) < FAILURES_LOGGED_MAX:
            self.reasons.append(f"{kind}: {reason}")


class _Garbage:
    """Cycles are collected last, seldom, and only while few objects live: a collection holds the loop and the GIL.

    Reference counts free what a broker holds; in every measurement a collection returned nothing, at 125 ms a million
    objects. But a full one also empties the interpreter's free lists, whose few hundred kilobytes are strewn over many
    pages (measured: 6 MB after a spike of 36). What is allocated bounds how many objects there are to look at.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._allocated_first = allocated_bytes()
        self._collected_at: float | None = None

    def collect(self, allocated: int, level: Level) -> None:
        """Unless it would take long, or the last one is not long ago; `allocated` in bytes."""
        began = self._clock()
        if self._collected_at is not None and began - self._collected_at < GARBAGE_SECONDS_MIN:
            return
        most = GARBAGE_BYTES_CRITICAL_MAX if level >= Level.CRITICAL else GARBAGE_BYTES_MAX
        if allocated - self._allocated_first > most:
            return
        gc.collect()
        self._collected_at = self._clock()


async def _memory() -> MemoryReading:
    return await trio.to_thread.run_sync(read_memory)


async def _offload(step: Offload, tally: _Tally) -> None:
    try:
        await trio.to_thread.run_sync(step.work)
    except (OSError, MemoryError) as fault:
        tally.failed("offload", str(fault) or type(fault).__name__)
