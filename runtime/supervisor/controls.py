"""What the control socket's requests mean, one function each: the table at the end is all that may be asked."""

import heapq
import os
from collections.abc import Awaitable, Callable, Iterable
from math import inf
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeAlias

import trio
from msgspec import Struct

from ipc.limits import BACKUP_PROGRESS_SECONDS, HOLDINGS_PER_PAGE, LOG_KEPT_BYTES_MAX, PASS_SECONDS_MAX
from ipc.memory_reading import read_memory, read_memory_of
from ipc.messages import control, reports
from ipc.messages.commands import AskMemory, AskReclaimable, AskStatus, PauseQueue
from ipc.messages.control import LEVEL_NAMES, LEVELS, LevelName
from ipc.messages.fingerprint import fingerprint_of
from ipc.messages.reports import SORTS, Holding, Holdings, MemoryReading
from ipc.settings import LogLevel, Settings
from runtime.auth.login_record import LoginRecord
from runtime.control.server import Say
from runtime.decisions.alarms import memory_limit
from runtime.own_pass import OwnPass
from runtime.pressure.alarms import AlarmWatch
from runtime.pressure.averages import Stall, read_pressure
from runtime.pressure.gauge import Gauge
from runtime.supervisor.backups import Advance, BackupFailed, Backups, Made
from runtime.supervisor.fleet import Fleet
from runtime.supervisor.inquiries import Gathered, Inquiries
from runtime.supervisor.log_ring import LogRing
from runtime.supervisor.passes import Pass
from runtime.supervisor.reclaim import NAMES, Reclaim
from runtime.supervisor.template import Template

TRIGGER: Final = "control"
STDERR: Final = "stderr"
State: TypeAlias = Literal["starting", "ready", "draining"]


class LetIn(Protocol):
    """Whether clients that come from now on are let in. Raises OSError where that cannot be."""

    def __call__(self, *, everybody: bool) -> None: ...


class Controls(Struct, frozen=True):
    """The parts of a supervisor that can be asked."""

    version: str
    root: Path
    born: float  # by trio's clock
    settings: Callable[[], Settings]
    state: Callable[[], State]
    addresses: Callable[[], tuple[str, ...]]
    fleet: Fleet
    template: Template
    management_pid: Callable[[], int | None]
    own_pass: OwnPass
    reclaim: Reclaim
    inquiries: Inquiries
    backups: Backups
    gauge: Gauge
    alarms: AlarmWatch
    logins: LoginRecord
    limit_alarms: Callable[[dict[str, float]], Awaitable[None]]
    let_in: LetIn
    log: LogRing
    change_log_level: Callable[[LogLevel], Awaitable[None]]
    rotate_log: Callable[[], Awaitable[None]]

    def hello(self) -> control.Hello:
        messages = fingerprint_of(control.ControlRequest, control.ControlReply)
        return control.Hello(control.PROTOCOL, messages, self.version, os.getpid(), control.ASKS)

    async def answer(self, request: control.ControlRequest, say: Say) -> None:
        """Say everything there is to say to a request."""
        await _ANSWERS[type(request)](self, request, say)

    @property
    def pressure_level(self) -> LevelName | None:
        level = self.gauge.level(trio.current_time(), self.settings().compaction)
        return None if level is None else LEVEL_NAMES[level]


async def _status(controls: Controls, _request: control.Status, say: Say) -> None:
    gathered = await controls.inquiries.ask(AskStatus)
    await say(
        control.Broker(
            version=controls.version,
            pid=os.getpid(),
            data_directory=str(controls.root),
            state=controls.state(),
            seconds=trio.current_time() - controls.born,
            shards=len(controls.fleet),
            addresses=controls.addresses(),
            pressure_source=controls.gauge.source,
            pressure_level=controls.pressure_level,
            **_alarms(controls),
        )
    )
    for answer in _in_order(gathered, reports.ShardStatus):
        pid = controls.fleet[answer.shard].pid
        await say(
            control.Shard(answer.shard, pid, answer.vhosts, answer.queues, answer.connections, round(answer.seconds, 3))
        )
    await say(_end(gathered))


def _alarms(controls: Controls) -> dict[str, Any]:
    """Which are raised, and what the last look at memory and disk has found."""
    settings, readings = controls.settings().alarms, controls.alarms.readings
    raised = tuple(name for name in ("memory", "disk") if getattr(controls.alarms.raised, name))
    if readings is None:
        return {"alarms": raised}
    limit = memory_limit(readings.memory_total_bytes, settings)
    return {
        "alarms": raised,
        "memory_bytes": readings.memory_bytes,
        "memory_bytes_max": None if limit == inf else int(limit),
        "disk_free_bytes": readings.disk_free_bytes,
        "disk_free_bytes_min": settings.disk_free_bytes_min,
    }


async def _memory(controls: Controls, request: control.Memory, say: Say) -> None:
    gathered = await controls.inquiries.ask(lambda number: AskMemory(number, request.vhost, request.top))
    for page in _largest(gathered, request.top):
        await say(page)
    for account in _in_order(gathered, reports.MemoryAccount):
        await say(_shard_memory(account, controls.fleet[account.shard].pid))
    own = _reading(await trio.to_thread.run_sync(read_memory))
    await say(control.ProcessMemory("supervisor", os.getpid(), own, {"log": controls.log.size_bytes}))
    others: tuple[tuple[Literal["template", "management"], int | None], ...] = (
        ("template", controls.template.pid),
        ("management", controls.management_pid()),
    )
    for role, pid in others:
        reading = None if pid is None else await trio.to_thread.run_sync(read_memory_of, pid)
        if pid is not None and reading is not None:
            await say(control.ProcessMemory(role, pid, _reading(reading)))
    await say(_end(gathered))


async def _dry_run(controls: Controls, request: control.DryRun, say: Say) -> None:
    level = LEVELS[request.level]
    gathered = await controls.inquiries.ask(lambda number: AskReclaimable(number, level), seconds=PASS_SECONDS_MAX)
    for answer in (*_in_order(gathered, reports.Reclaimable), await controls.own_pass.estimate(level)):
        await say(_reclaimable(answer))
    await say(_end(gathered))


async def _compact(controls: Controls, request: control.Compact, say: Say) -> None:
    done = await controls.reclaim.request(LEVELS[request.level], TRIGGER)
    await _say_pass(done, say)
    reported = {report.shard for report in done.reports}
    missing = [shard for shard in range(len(controls.fleet)) if shard not in reported]
    await say(control.End(tuple(control.Silent(shard, "it did not report in time, or ended") for shard in missing)))


async def _passes(controls: Controls, request: control.Passes, say: Say) -> None:
    for done in list(controls.reclaim.passes)[-request.last :]:
        await _say_pass(done, say)
    await say(control.End())


async def _metrics(controls: Controls, _request: control.Metrics, say: Say) -> None:
    passes = controls.reclaim.passes
    pressure = read_pressure(controls.gauge.source)
    await say(
        control.Counters(
            passes=tuple(
                control.PassCount(trigger, LEVEL_NAMES[level], count)
                for (trigger, level), count in sorted(passes.counts.items())
            ),
            freed_bytes_by_kind=dict(passes.freed_bytes_by_kind),
            slice_seconds_longest=passes.slice_seconds_longest,
            failures=passes.failures,
            unanswered=passes.unanswered,
            pressure_source=controls.gauge.source,
            pressure_level=controls.pressure_level,
            pressure_file=None if pressure is None else pressure.path,
            some=_averages(None if pressure is None else pressure.some),
            full=_averages(None if pressure is None else pressure.full),
        )
    )
    await say(control.End())


async def _pause(controls: Controls, request: control.PauseQueue | control.ResumeQueue, say: Say) -> None:
    is_paused = isinstance(request, control.PauseQueue)
    gathered = await controls.inquiries.ask(
        lambda number: PauseQueue(number, request.vhost, request.queue, is_paused=is_paused)
    )
    is_found = any(answer.is_found for answer in _in_order(gathered, reports.QueuePaused))
    await say(control.QueueState(request.vhost, request.queue, found=is_found, paused=is_found and is_paused))
    await say(_end(gathered))


async def _login_attempts(controls: Controls, request: control.LoginAttempts, say: Say) -> None:
    if request.by_source:
        for (protocol, address, user), tally in controls.logins.by_source():
            await say(control.LoginAttempt(protocol, tally.succeeded, tally.failed, address, user))
    else:
        for protocol, tally in controls.logins.by_protocol():
            await say(control.LoginAttempt(protocol, tally.succeeded, tally.failed))
    await say(control.End())


async def _forget_login_attempts(controls: Controls, _request: control.ForgetLoginAttempts, say: Say) -> None:
    controls.logins.forget()
    await say(control.End())


async def _limit_alarms(controls: Controls, request: control.LimitAlarms, say: Say) -> None:
    wanted = {name: getattr(request, name) for name in request.__struct_fields__}
    await controls.limit_alarms({name: limit for name, limit in wanted.items() if limit is not None})
    await say(control.End())


async def _let_in(controls: Controls, request: control.SuspendListeners | control.ResumeListeners, say: Say) -> None:
    try:
        controls.let_in(everybody=isinstance(request, control.ResumeListeners))
    except OSError as fault:
        await say(control.Refused("failed", f"cannot listen again: {fault.strerror}"))
    else:
        await say(control.End())


async def _back_up(controls: Controls, request: control.BackUp, say: Say) -> None:
    advance = Advance()
    began = trio.current_time()
    gone: list[Exception] = []

    async def tell_progress() -> None:
        """Whoever does not listen any more does not want it any more."""
        try:
            while True:
                await say(control.Progress(advance.vhosts_done, advance.vhosts, trio.current_time() - began))
                await trio.sleep(BACKUP_PROGRESS_SECONDS)
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError) as fault:
            gone.append(fault)
            nursery.cancel_scope.cancel()

    outcome: Made | BackupFailed | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tell_progress)
        try:
            outcome = await controls.backups.make(Path(request.target), advance)
        except BackupFailed as failed:
            outcome = failed
        nursery.cancel_scope.cancel()
    if gone:
        raise gone[0]
    if isinstance(outcome, Made):
        await say(_backup(request.target, outcome))
        await say(control.End())
    else:
        await say(control.Refused("failed", str(outcome)))


async def _read_log(controls: Controls, request: control.ReadLog, say: Say) -> None:
    found = await controls.log.after(request.after, seconds=request.wait_seconds)
    lines = tuple(control.LoggedLine(line.at, line.level, line.source, line.text, line.lost) for line in found.lines)
    await say(control.LogLines(found.first, lines, found.lost))
    await say(control.End())


async def _describe_log(controls: Controls, _request: control.DescribeLog, say: Say) -> None:
    main, log = controls.settings().main, controls.log
    location = main.log_file or STDERR
    await say(control.Log(main.log_level, main.log_format, location, len(log), log.size_bytes, LOG_KEPT_BYTES_MAX))
    await say(control.End())


async def _set_log_level(controls: Controls, request: control.SetLogLevel, say: Say) -> None:
    await controls.change_log_level(request.level)
    await _describe_log(controls, control.DescribeLog(), say)


async def _rotate_log(controls: Controls, _request: control.RotateLog, say: Say) -> None:
    if controls.settings().main.log_file:
        await controls.rotate_log()
        await _describe_log(controls, control.DescribeLog(), say)
    else:
        await say(control.Refused("failed", "there is no log file (main.log_file): the log goes to standard error"))


_ANSWERS: Final[dict[type[control.Request], Callable[[Controls, Any, Say], Awaitable[None]]]] = {
    control.Status: _status,
    control.Memory: _memory,
    control.DryRun: _dry_run,
    control.Compact: _compact,
    control.Passes: _passes,
    control.Metrics: _metrics,
    control.PauseQueue: _pause,
    control.ResumeQueue: _pause,
    control.LoginAttempts: _login_attempts,
    control.ForgetLoginAttempts: _forget_login_attempts,
    control.LimitAlarms: _limit_alarms,
    control.SuspendListeners: _let_in,
    control.ResumeListeners: _let_in,
    control.BackUp: _back_up,
    control.ReadLog: _read_log,
    control.DescribeLog: _describe_log,
    control.SetLogLevel: _set_log_level,
    control.RotateLog: _rotate_log,
}


# from what shards report to what is said ------------------------------------------------------------------------------


def _in_order(gathered: Gathered, kind: type[Any]) -> list[Any]:
    """Answers of one kind, by shard."""
    found = [answer for answer in gathered.answers if isinstance(answer, kind)]
    return sorted(found, key=lambda answer: answer.shard)


def _end(gathered: Gathered) -> control.End:
    return control.End(tuple(control.Silent(shard, reason) for shard, reason in sorted(gathered.silent.items())))


def _largest(gathered: Gathered, top: int) -> Iterable[control.Largest]:
    """Pages of the largest of all shards; without those that did not finish, of which nothing else is said either."""
    pages = [answer for answer in gathered.answers if isinstance(answer, Holdings)]
    for sort in SORTS:
        all_held = (
            holding
            for page in pages
            if page.sort == sort and page.shard not in gathered.silent
            for holding in page.holdings
        )
        largest = heapq.nlargest(top, all_held, key=lambda holding: holding.size_bytes)
        for start in range(0, len(largest), HOLDINGS_PER_PAGE):
            yield control.Largest(sort, tuple(map(_held, largest[start : start + HOLDINGS_PER_PAGE])))


def _held(holding: Holding) -> control.Held:
    return control.Held(holding.vhost, holding.name, holding.size_bytes, holding.by_kind)


def _shard_memory(account: reports.MemoryAccount, pid: int | None) -> control.ShardMemory:
    return control.ShardMemory(
        shard=account.shard,
        pid=pid,
        reading=_reading(account.reading),
        by_kind=account.by_kind,
        counts=account.counts,
        owners=account.owners,
        seconds=account.seconds,
        seconds_cpu=account.seconds_cpu,
        slice_seconds_longest=account.slice_seconds_longest,
        age_seconds=account.age_seconds,
    )


async def _say_pass(done: Pass, say: Say) -> None:
    await say(
        control.Pass(
            number=done.number,
            level=LEVEL_NAMES[done.level],
            trigger=done.trigger,
            began_at=done.began_at,
            seconds=done.seconds,
            unanswered=done.unanswered,
        )
    )
    for report in sorted(done.reports, key=lambda report: report.shard):
        await say(_reclaimed(report))


def _reclaimable(answer: reports.Reclaimable) -> control.Reclaimable:
    return control.Reclaimable(
        shard=None if answer.shard in NAMES else answer.shard,
        role=NAMES.get(answer.shard, "shard"),
        level=LEVEL_NAMES[answer.level],
        by_kind=answer.by_kind,
        by_vhost=answer.by_vhost,
        failures=answer.failures,
        seconds=answer.seconds,
        slice_seconds_longest=answer.slice_seconds_longest,
        reading=_reading(answer.reading),
    )


def _reclaimed(report: reports.Reclaimed) -> control.Reclaimed:
    return control.Reclaimed(
        number=report.pass_number,
        shard=None if report.shard in NAMES else report.shard,
        role=NAMES.get(report.shard, "shard"),
        seconds=report.seconds,
        slice_seconds_longest=report.slice_seconds_longest,
        steps=report.steps,
        by_kind=report.freed_bytes_by_kind,
        by_vhost=report.freed_bytes_by_vhost,
        failures=report.failures,
        before=_reading(report.before),
        after=_reading(report.after),
    )


def _backup(target: str, made: Made) -> control.Backup:
    return control.Backup(
        target=target,
        vhosts=len(made.manifest.vhosts),
        files=len(made.manifest.files),
        files_linked=made.files_linked,
        bytes=made.manifest.bytes,
        seconds=made.seconds,
        cut_seconds_longest=made.cut_seconds_longest,
    )


def _reading(reading: MemoryReading) -> control.Reading:
    return control.Reading(reading.rss, reading.pss, reading.private)


def _averages(stall: Stall | None) -> control.Averages | None:
    return None if stall is None else control.Averages(stall.avg10, stall.avg60, stall.avg300, stall.total)
