"""One shard's lives: forked, greeted, given its vhosts, listened to, buried, and after a pause all over again."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

import msgspec
import structlog
import trio
from msgspec import Struct
from structlog.typing import FilteringBoundLogger

from ipc.data_directory import DataDirectory
from ipc.errors import ExitCode, StartRefused
from ipc.link import Link, LinkClosed, link_pair
from ipc.messages.commands import Alarms, AlarmsChanged, CloseVHost, Command, Drain, OpenVHost, Probe, Start
from ipc.messages.fingerprint import fingerprint
from ipc.messages.reports import (
    Answer,
    Drained,
    Hello,
    Listening,
    Reclaimed,
    ShardReport,
    StorageBlocked,
    VHostClosed,
    VHostFailed,
    VHostOpened,
)
from ipc.settings import Settings
from runtime.auth.directory import Directory
from runtime.decisions.restarts import Restarts
from runtime.decisions.silence import Finding, Silence, pause
from runtime.owner import Owner
from runtime.pressure.alarms import AlarmWatch
from runtime.roster import Roster, ShardLink
from runtime.supervisor.life import Life, ending_text
from runtime.supervisor.log_ring import LogRing
from runtime.supervisor.template import Template

HELLO_SECONDS_MAX: Final = 30.0
PATIENCE_SECONDS: Final = 1.0  # between the end of a link and SIGKILL
FAREWELL_SECONDS: Final = 1.0  # for the last reports of a process that ended already
CLOSE_SECONDS_MAX: Final = 30.0
REOPEN_SECONDS: Final = 5.0  # until a vhost whose files could not be opened is tried again


class Surroundings(Struct, frozen=True):
    """What every shard shares with its siblings."""

    settings: Callable[[], Settings]
    paths: DataDirectory
    directory: Directory
    roster: Roster
    template: Template
    alarms: AlarmWatch
    log: LogRing
    reclaimed: Callable[[Reclaimed], None]
    answered: Callable[[Answer], None]
    unopened: Callable[[VHostFailed], None]
    lost: Callable[[int], None]


class _Alive(NamedTuple):
    link: ShardLink
    life: Life
    silence: Silence


class Shard(Owner):
    """Shard `number`, whichever process that is at the moment."""

    COLLECTIONS = ("_closings", "_openings")

    def __init__(self, number: int, around: Surroundings, restarts: Restarts) -> None:
        self.number = number
        self.started = trio.Event()  # it has been told its vhosts at least once
        self._around = around
        self._restarts = restarts
        self._log: FilteringBoundLogger = structlog.get_logger("supervisor", shard=number)
        self._alive: _Alive | None = None
        self._drain_seconds: float | None = None  # set: this life is the last one
        self._waiting: trio.CancelScope | None = None  # whatever precedes a life: the pause, the fork, the greeting
        self._closings: dict[str, trio.Event] = {}
        self._openings: set[str] = set()  # vhosts it was told to open and has not answered for
        self._gone = trio.Event()
        self._gone.set()

    @property
    def pid(self) -> int | None:
        return self._alive.life.pid if self._alive else None

    @property
    def link(self) -> ShardLink | None:
        return self._alive.link if self._alive else None

    async def run(self) -> None:
        """Until drained. Raises StartRefused (SHARD_UNRECOVERABLE) when it dies too often."""
        while True:
            born = trio.current_time()
            await self._live()
            if self._is_draining:
                return
            delay = self._restarts.delay(born=born, died=trio.current_time())
            if delay is None:
                raise StartRefused(
                    ExitCode.SHARD_UNRECOVERABLE, f"shard {self.number} keeps ending soon after it starts"
                )
            self._log.warning("shard restarts", delay_seconds=delay)
            with self._until_drain():
                await trio.sleep(delay)

    async def tell(self, command: Command) -> bool:
        """Send a command; False if there is no process to hear it."""
        if self._alive is None:
            return False
        try:
            await self._alive.link.send(command)
        except LinkClosed:
            return False
        return True

    async def drain(self, seconds: float) -> None:
        """End in order within about `seconds`; `run` returns when that is done."""
        self._drain_seconds = seconds
        if not await self.tell(Drain(seconds)) and self._waiting is not None:
            self._waiting.cancel()

    def kill(self) -> None:
        if self._alive is not None:
            self._alive.life.kill()

    async def open_vhost(self, name: str) -> None:
        """Have a vhost opened that is placed here; without a process, the next one is told all of them anyway."""
        directory = self._around.directory
        vhost = directory.find_vhost(name)
        if vhost is not None and self._around.roster.place_of(name) == self.number:
            place = self._around.paths.vhost(vhost.number)
            self._openings.add(name)
            await self.tell(OpenVHost(name, str(place), directory.rules(name)))

    async def close_vhost(self, name: str) -> bool:
        """Return when no process of this shard has the vhost's files open any more; False if that cannot be said.

        The roster has forgotten the vhost already.
        """
        with trio.move_on_after(CLOSE_SECONDS_MAX):
            closed = self._closings.setdefault(name, trio.Event())
            if await self.tell(CloseVHost(name)):
                await closed.wait()
            else:
                self._closings.pop(name, None)
                await self._gone.wait()
            return True
        return False

    @property
    def _is_draining(self) -> bool:
        return self._drain_seconds is not None

    @contextmanager
    def _until_drain(self) -> Iterator[None]:
        """What is awaited here ends when draining begins."""
        with trio.CancelScope() as self._waiting:
            if self._is_draining:
                self._waiting.cancel()
            try:
                yield
            finally:
                self._waiting = None

    # one life ---------------------------------------------------------------------------------------------------------

    async def _live(self) -> None:
        alive: _Alive | None = None
        with self._until_drain():
            alive = await self._born()
        if alive is None:
            return
        self._alive, self._gone = alive, trio.Event()
        self._openings.clear()
        try:
            if self._drain_seconds is not None:  # asked for while it was born
                await self.tell(Drain(self._drain_seconds))
            await self._serve(alive)
        finally:
            await self._bury(alive)

    async def _born(self) -> _Alive | None:
        """Fork, greet and start; None when that failed.

        A shard without a vhost touches no file, so the end of one that failed here is not waited for.
        """
        ours, theirs = link_pair()
        link: ShardLink = Link(ours, ShardReport)
        alive: _Alive | None = None
        try:
            await self._around.template.spawn(self.number, theirs)
            with trio.fail_after(HELLO_SECONDS_MAX):
                pid = await _greeted(link)
            start = Start(self.number, self._around.settings(), str(self._around.paths.root))
            await link.send(start, [self._around.log.outlet.fileno()])
            alive = _Alive(link, Life.of(pid), Silence(trio.current_time()))
        except (LinkClosed, ProcessLookupError):
            self._log.error("shard ended before its first word")
        except trio.TooSlowError:
            self._log.error("shard is silent", seconds=HELLO_SECONDS_MAX)
        except (msgspec.DecodeError, OSError) as fault:
            self._log.error("shard cannot be understood", reason=str(fault))
        finally:
            if alive is None:
                link.close()
        return alive

    async def _serve(self, alive: _Alive) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._introduce)
            nursery.start_soon(self._tell_alarms)
            nursery.start_soon(_cancel_after_end, alive.life, nursery.cancel_scope)
            nursery.start_soon(self._look_after, alive)
            try:
                while True:
                    report, _none = await alive.link.receive()
                    self._hear(report, alive, nursery)
            except LinkClosed:
                pass
            except (msgspec.DecodeError, OSError) as fault:
                self._log.error("shard cannot be understood", reason=str(fault))
            nursery.cancel_scope.cancel()

    async def _introduce(self) -> None:
        for name in self._around.roster.placed_on(self.number):
            await self.open_vhost(name)
        self.started.set()

    async def _tell_alarms(self) -> None:
        """From its first moment on; one that is slow to listen hears only the latest, and keeps no sibling waiting."""
        alarms = self._around.alarms
        told = Alarms()
        while True:
            if told != alarms.raised:
                told = alarms.raised
                await self.tell(AlarmsChanged(told))
            else:
                await alarms.changed()

    async def _look_after(self, alive: _Alive) -> None:
        """Ask again and again whether it listens; `silence.py` says what follows when it does not."""
        silence = alive.silence
        finding = Finding.WAIT
        while finding is not Finding.LOST:
            main = self._around.settings().main
            await trio.sleep(pause(main))
            # To close a vhost is to wait for its clients: their time, like that of recovery, is not its own.
            is_busy = bool(self._openings or self._closings or self._is_draining)
            finding = silence.look(trio.current_time(), main, is_recovering=is_busy)
            if finding is Finding.ASK:
                if _ask(alive.link):
                    silence.asked()
            elif finding is Finding.SILENT:
                self._log.warning(
                    "shard does not answer",
                    pid=alive.life.pid,
                    seconds=round(silence.seconds, 1),
                    opening=sorted(self._openings),
                )
        self._log.error("shard does not answer and is killed", pid=alive.life.pid, seconds=round(silence.seconds, 1))
        alive.life.kill()

    async def _bury(self, alive: _Alive) -> None:
        """Only once the process is gone may another one open the same files."""
        self._alive = None
        self._around.roster.lost(alive.link)
        self._around.lost(self.number)
        alive.link.close()
        is_gone = await alive.life.end(patience_seconds=PATIENCE_SECONDS)
        with trio.CancelScope(shield=True):
            status = alive.life.reap()
            if status is None:
                status = await self._around.template.ending_of(alive.life.pid)
        alive.life.close()
        for closed in self._closings.values():
            closed.set()
        self._closings.clear()
        self._gone.set()
        say = self._log.info if self._is_draining else self._log.error
        say("shard ended", pid=alive.life.pid, ending=ending_text(status) if is_gone else "does not end")

    # what it says -----------------------------------------------------------------------------------------------------

    def _hear(self, report: ShardReport, alive: _Alive, nursery: trio.Nursery) -> None:
        roster = self._around.roster
        if alive.silence.heard():
            self._log.info("shard answers again")
        match report:
            case VHostOpened(name=name):
                self._openings.discard(name)
                if roster.place_of(name) == self.number:
                    roster.opened(name, alive.link)
                self._log_opened(report)
            case VHostFailed(name=name, reason=reason, damaged=damaged):
                self._openings.discard(name)
                if roster.place_of(name) == self.number:
                    roster.failed(name, reason)
                self._log.error("vhost cannot be opened", vhost=name, reason=reason, damaged=damaged)
                self._around.unopened(report)
                if not damaged:
                    nursery.start_soon(self._reopen, name)
            case VHostClosed(name=name):
                self._closings.pop(name, trio.Event()).set()
                self._log.info("vhost closed", vhost=name)
            case Reclaimed():
                self._around.reclaimed(report)
            case Answer():
                self._around.answered(report)
            case StorageBlocked():
                pass  # the shard has logged it
            case Drained(clients=clients):
                self._log.info("shard drained", clients=clients)
            case Hello() | Listening():
                pass

    async def _reopen(self, name: str) -> None:
        await trio.sleep(REOPEN_SECONDS)
        await self.open_vhost(name)

    def _log_opened(self, report: VHostOpened) -> None:
        found = {
            "queues": report.queues,
            "messages": report.messages,
            "bytes_cut": report.bytes_cut,
            "acks_pruned": report.acks_pruned,
            "segments_damaged": report.segments_damaged,
        }
        say = self._log.warning if report.segments_damaged else self._log.info
        say("vhost opened", vhost=report.name, **found, seconds=round(report.seconds, 3))


def _ask(link: ShardLink) -> bool:
    """Whether the question is on its way."""
    try:
        return link.send_now(Probe())
    except LinkClosed:
        return True  # who receives is told


async def _greeted(link: ShardLink) -> int:
    """The pid from a shard's `Hello`."""
    report, _none = await link.receive()
    if not isinstance(report, Hello) or report.fingerprint != fingerprint():
        raise msgspec.DecodeError("its messages are those of another version: the installation was changed")
    return report.pid


async def _cancel_after_end(life: Life, scope: trio.CancelScope) -> None:
    """A descriptor leaked to a third process could keep the link open after the end of the shard."""
    await life.ended()
    await trio.sleep(FAREWELL_SECONDS)
    scope.cancel()
