"""The supervisor's life: everything else is started in order, signals are obeyed, and all of it is ended in order."""

import os
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Final, Protocol

import msgspec
import structlog
import trio
from structlog.typing import FilteringBoundLogger

from ipc.allocator import environment
from ipc.errors import ExitCode, StartRefused
from ipc.log import configure_logging
from ipc.messages.commands import AskInventory, Level, SettingsChanged
from ipc.messages.inventory import CountConnections, Counted, items
from ipc.messages.reports import SUPERVISOR, Answer, Inventory, Reclaimed, VHostFailed
from ipc.settings import LogLevel, Settings
from ipc.version import VERSION
from runtime.auth.directory import Directory
from runtime.auth.login_record import LoginRecord
from runtime.control import place
from runtime.control.server import ControlServer
from runtime.decisions.reload import reload
from runtime.own_pass import OwnPass, remembering_functions
from runtime.owner import Owner
from runtime.pressure.alarms import AlarmWatch
from runtime.pressure.gauge import Gauge
from runtime.pressure.watcher import watch
from runtime.roster import Roster
from runtime.router.lobby import Lobby
from runtime.router.router import amqp, open_listeners, serve
from runtime.supervisor.backups import Backups
from runtime.supervisor.controls import Controls, State
from runtime.supervisor.data_lock import DataLock
from runtime.supervisor.descriptors import DESCRIPTORS_LOW, raise_limit
from runtime.supervisor.fleet import Fleet, restarts
from runtime.supervisor.idle_trim import IdleTrim
from runtime.supervisor.inquiries import Inquiries
from runtime.supervisor.log_ring import LogRing
from runtime.supervisor.management import Management, Office
from runtime.supervisor.orphans import bury_orphans
from runtime.supervisor.readiness import Readiness
from runtime.supervisor.ready_line import addresses, ready_line
from runtime.supervisor.reclaim import Reclaim
from runtime.supervisor.shard import Surroundings
from runtime.supervisor.template import SUPERVISORS_SIGNALS, Template
from runtime.supervisor.vhosts import VHosts

DRAIN_MARGIN_SECONDS: Final = 2.0  # a shard keeps the deadline itself; this much later it is killed

_log: Final[FilteringBoundLogger] = structlog.get_logger("supervisor")


class SettingsSource(Protocol):
    """Where the settings came from, and come from again on SIGHUP."""

    def read(self) -> Settings: ...


class Supervisor(Owner):
    """Owns everything that lives as long as the broker does; `run` is its whole life."""

    def __init__(
        self,
        source: SettingsSource,
        settings: Settings,
        lock: DataLock,
        directory: Directory,
        say: Callable[[str], None],
    ) -> None:
        """`say` is given the line that tells whoever started us that clients may come."""
        self._source = source
        self._settings = settings
        self._paths = lock.paths
        self._directory = directory
        self._say = say
        self._readiness = Readiness(os.environ)
        self._roster = Roster()
        self._vhosts = VHosts(lock.paths, directory, self._roster, settings.main.shards)
        self._template = Template(
            restarts(settings.main),
            inherited=[lock.descriptor],
            environment=environment(settings.compaction.allocator),
        )
        self._log_ring = LogRing()
        self._alarms = AlarmWatch(lambda: self._settings, self._processes, lock.paths.root)
        around = Surroundings(
            settings=lambda: self._settings,
            paths=lock.paths,
            directory=directory,
            roster=self._roster,
            template=self._template,
            alarms=self._alarms,
            log=self._log_ring,
            reclaimed=self._note_reclaimed,
            answered=self._note_answered,
            unopened=self._note_unopened,
            lost=self._note_lost,
        )
        self._fleet = Fleet(settings.main, around, self._refuse)
        self._lobby: Lobby | None = None
        self._own_pass = OwnPass(self, lambda: self._settings.compaction, SUPERVISOR, remembering_functions)
        self._reclaim = Reclaim(lambda: [*self._fleet.links(), *self._management.links()], self._own_pass)
        self._inquiries = Inquiries(self._fleet.links, settings.main.shards)
        self._gauge = Gauge()
        self._logins = LoginRecord(lambda: self._settings.users)
        self._management = Management(
            Office(
                settings=lambda: self._settings,
                paths=lock.paths,
                started_at=time.time(),
                addresses=self._addresses,
                directory=directory,
                roster=self._roster,
                inquiries=self._inquiries,
                log=self._log_ring,
                controls=self._controls,
                follow=self._reload_directory,
                logins=self._logins,
                reclaimed=self._note_reclaimed,
                lost=self._reclaim.lost,
            ),
            restarts(settings.main),
        )
        self._listeners: Sequence[trio.SocketListener] = ()
        self._born = 0.0
        self._alarm_limits: dict[str, float] = {}  # that hold until the next start, whatever the settings say
        self._following = trio.Lock()
        self._refusal: StartRefused | None = None
        self._is_ready = False
        self._starting = trio.CancelScope()
        self._accepting = trio.CancelScope()
        self._stop = trio.Event()
        self._hung_up = trio.Event()
        self._compaction_wanted = trio.Event()

    def owned(self) -> Iterable[Owner]:
        owners = (
            self._directory,
            self._roster,
            self._vhosts,
            self._template,
            self._fleet,
            self._reclaim,
            self._inquiries,
            self._management,
            self._logins,
            self._log_ring,
        )
        return owners if self._lobby is None else (*owners, self._lobby)

    async def run(self) -> None:
        """Until a signal or a refusal ends it. Raises StartRefused."""
        with trio.open_signal_receiver(*sorted(SUPERVISORS_SIGNALS)) as signals:
            # Blocked until now: a SIGHUP that comes early must be obeyed late, not be the end.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SUPERVISORS_SIGNALS)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._obey, signals, nursery.cancel_scope)
                await self._live()
                nursery.cancel_scope.cancel()
        if self._refusal is not None:
            raise self._refusal

    async def _live(self) -> None:
        self._born = trio.current_time()
        self._configure_logging()
        try:
            self._listeners = await open_listeners(amqp(self._settings.amqp))
            await self._management.listen()
            self._vhosts.place_all()
        except StartRefused as refusal:
            self._refuse(refusal)
        except OSError as fault:
            root = self._paths.root
            self._refuse(StartRefused(ExitCode.DATA_DIRECTORY_UNUSABLE, f"data directory {root}: {fault}"))
        async with trio.open_nursery() as services:
            services.start_soon(self._log_ring.run)
            services.start_soon(self._answer_controls)
            with self._starting:
                await self._start(services)
                services.start_soon(self._management.run)
            await self._stop.wait()
            await self._end()
            services.cancel_scope.cancel()
        for listener in self._listeners:
            await listener.aclose()

    async def _start(self, services: trio.Nursery) -> None:
        await trio.lowlevel.checkpoint()  # nothing is started that a refusal has cancelled already
        _raise_descriptor_limit()
        services.start_soon(self._keep_template)
        services.start_soon(bury_orphans, lambda: (self._template.pid, self._management.pid))
        services.start_soon(self._fleet.run)
        services.start_soon(self._compact_on_signal)
        services.start_soon(IdleTrim(lambda: self._settings.compaction, self._reclaim.trim_own).run)
        await self._fleet.started()
        await self._roster.settled()
        await self._alarms.look()  # whatever is short already, no client may add to
        await services.start(self._accept)
        services.start_soon(watch, lambda: self._settings, self._reclaim.request, self._gauge, self._alarms.run)
        services.start_soon(self._reload_on_signal)
        self._is_ready = True
        line = ready_line(
            self._listeners, self._management.listeners, self._fleet, self._paths.root, supervisor=os.getpid()
        )
        self._say(line)
        self._readiness.ready(line)

    async def _end(self) -> None:
        self._accepting.cancel()
        seconds = self._settings.main.drain_seconds
        self._readiness.stopping("draining")
        _log.info("draining", seconds_max=seconds)
        with trio.move_on_after(seconds + DRAIN_MARGIN_SECONDS) as patience:
            await self._fleet.drain(seconds)
        if patience.cancelled_caught:
            _log.warning("shards did not drain in time and are killed", seconds=seconds)
            self._fleet.kill()
        _log.info("stopped")

    # services ---------------------------------------------------------------------------------------------------------

    async def _keep_template(self) -> None:
        try:
            await self._template.run()
        except StartRefused as refusal:
            self._refuse(refusal)

    async def _accept(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with self._accepting:
            await serve(
                self._listeners,
                self._roster,
                self._directory,
                lambda: self._settings,
                self._logins,
                count_connections=self._count_connections,
                own=self._keep_lobby,
                task_status=task_status,
            )

    async def _count_connections(self, user: str) -> int:
        """Those of shards that answer."""
        request = msgspec.msgpack.encode(CountConnections(user))
        gathered = await self._inquiries.ask(lambda number: AskInventory(number, request))
        pieces = [answer.piece for answer in gathered.answers if isinstance(answer, Inventory)]
        return sum(item.found for piece in pieces for item in items([piece]) if isinstance(item, Counted))

    def _keep_lobby(self, lobby: Lobby) -> None:
        self._lobby = lobby

    def _addresses(self) -> tuple[str, ...]:
        """Where clients may come; nowhere while listeners are suspended, and once the end has begun."""
        is_shut = self._lobby is not None and self._lobby.is_shut
        return () if is_shut or self._stop.is_set() else addresses(self._listeners)

    def _let_in(self, *, everybody: bool) -> None:
        """Whether new clients may come."""
        if self._lobby is None or self._stop.is_set():
            return
        if everybody:
            self._lobby.reopen()
        else:
            self._lobby.shut()
        _log.info("listeners resumed" if everybody else "listeners suspended, new clients are refused")

    def _controls(self) -> Controls:
        return Controls(
            version=VERSION,
            root=self._paths.root,
            born=self._born,
            settings=lambda: self._settings,
            state=self._state,
            addresses=self._addresses,
            fleet=self._fleet,
            template=self._template,
            management_pid=lambda: self._management.pid,
            own_pass=self._own_pass,
            reclaim=self._reclaim,
            inquiries=self._inquiries,
            backups=Backups(self._paths, self._directory, self._roster, self._fleet, self._inquiries),
            gauge=self._gauge,
            alarms=self._alarms,
            logins=self._logins,
            limit_alarms=self._limit_alarms,
            let_in=self._let_in,
            log=self._log_ring,
            change_log_level=self._change_log_level,
            rotate_log=self._rotate_log,
        )

    async def _answer_controls(self) -> None:
        """From before the first shard is there until the last one has drained, so that one can look how it goes."""
        controls = self._controls()
        try:
            end = place.listen(self._paths.control)
        except OSError as fault:
            # Some file systems have no sockets. Clients do not need it.
            _log.error("no control socket", path=str(self._paths.control), reason=str(fault))
            return
        try:
            await ControlServer(controls.hello(), controls.answer).serve(end)
        finally:
            place.remove(self._paths.control)

    def _state(self) -> State:
        if self._stop.is_set():
            return "draining"
        return "ready" if self._is_ready else "starting"

    async def _compact_on_signal(self) -> None:
        """One pass answers all signals that came before it."""
        while True:
            await self._compaction_wanted.wait()
            self._compaction_wanted = trio.Event()
            await self._reclaim.request(Level.RELEASE, "SIGUSR1")

    async def _reload_on_signal(self) -> None:
        while True:
            await self._hung_up.wait()
            self._hung_up = trio.Event()
            self._readiness.reloading()
            await self._reload_settings()
            await self._reload_directory()
            self._readiness.ready("reloaded")

    # signals ----------------------------------------------------------------------------------------------------------

    async def _obey(self, signals: AsyncIterator[int], everything: trio.CancelScope) -> None:
        async for number in signals:
            match number:
                case signal.SIGHUP:
                    self._hung_up.set()
                case signal.SIGUSR1:
                    self._compaction_wanted.set()
                case _ if not self._stop.is_set():
                    _log.info("asked to stop", signal=signal.Signals(number).name)
                    self._begin_end()
                case _:
                    self._refuse(StartRefused(ExitCode.FAILED, "ended by a second signal, before shards were drained"))
                    self._fleet.kill()
                    everything.cancel()

    def _begin_end(self) -> None:
        self._stop.set()
        self._starting.cancel()

    # reload -----------------------------------------------------------------------------------------------------------

    async def _reload_settings(self) -> None:
        try:
            wanted = self._source.read()
        except StartRefused as refusal:
            _log.error("settings stay as they were", reason=str(refusal))
            return
        settings, changed, needs_restart = reload(self._settings, self._with_limits(wanted))
        await self._adopt(settings)
        _log.info("settings reloaded", changed=changed, needs_restart=needs_restart)

    async def _change_log_level(self, level: LogLevel) -> None:
        """In all processes, and until settings are read again."""
        main = msgspec.structs.replace(self._settings.main, log_level=level)
        await self._adopt(msgspec.structs.replace(self._settings, main=main))
        _log.info("log level changed", log_level=level)

    async def _rotate_log(self) -> None:
        """Whoever is told the settings opens the file anew."""
        await self._adopt(self._settings)
        _log.info("log file opened anew", path=self._settings.main.log_file)

    async def _limit_alarms(self, limits: dict[str, float]) -> None:
        self._alarm_limits |= limits
        await self._adopt(self._with_limits(self._settings))
        _log.info("alarms limited until the next start", **limits)

    def _with_limits(self, settings: Settings) -> Settings:
        alarms = msgspec.structs.replace(settings.alarms, **self._alarm_limits)
        return msgspec.structs.replace(settings, alarms=alarms)

    async def _adopt(self, settings: Settings) -> None:
        """Everybody acts by these from now on."""
        self._settings = settings
        self._configure_logging()
        self._alarms.look_again()
        await self._fleet.broadcast(SettingsChanged(settings))
        await self._management.reconfigured()

    def _configure_logging(self) -> None:
        main = self._settings.main
        configure_logging(main.log_level, main.log_format, path=main.log_file, copies=self._log_ring.outlet)

    async def _reload_directory(self) -> None:
        async with self._following:
            try:
                await trio.to_thread.run_sync(self._directory.reload)
            except sqlite3.Error as fault:
                _log.error("directory cannot be read again", reason=str(fault))
                return
            await self._vhosts.follow(self._fleet)
        await self._management.directory_changed()

    def _processes(self) -> Iterable[int]:
        """Whatever runs for this broker now."""
        return filter(None, (os.getpid(), self._template.pid, self._management.pid, *self._fleet.pids()))

    # what shards have to say ------------------------------------------------------------------------------------------

    def _note_reclaimed(self, report: Reclaimed) -> None:
        self._reclaim.heard(report)

    def _note_answered(self, answer: Answer) -> None:
        self._inquiries.heard(answer)

    def _note_lost(self, shard: int) -> None:
        self._reclaim.lost(shard)
        self._inquiries.lost(shard)

    def _note_unopened(self, report: VHostFailed) -> None:
        """At the start somebody is there to be told; later the other vhosts' clients matter more."""
        if not self._is_ready:
            code = ExitCode.STORE_DAMAGED if report.damaged else ExitCode.DATA_DIRECTORY_UNUSABLE
            self._refuse(StartRefused(code, f"vhost '{report.name}' cannot be opened: {report.reason}"))

    def _refuse(self, refusal: StartRefused) -> None:
        """End in order, and with this exit code; the first reason is the one to be told."""
        if self._refusal is None:
            self._refusal = refusal
        self._begin_end()


def _raise_descriptor_limit() -> None:
    limit = raise_limit()
    if limit < DESCRIPTORS_LOW:
        _log.warning("few descriptors: every connection takes one", limit=limit, wanted=DESCRIPTORS_LOW)
