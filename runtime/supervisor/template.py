"""The preloaded process that shards are forked from: started here, and started again whenever it dies.

Shards outlive it. Requests that come while there is none wait for the next one.
"""

import os
import signal
import socket
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

import msgspec
import structlog
import trio
from structlog.typing import FilteringBoundLogger

from ipc.errors import ExitCode, StartRefused
from ipc.link import Link, LinkClosed, link_pair
from ipc.messages.commands import SpawnShard
from ipc.messages.fingerprint import fingerprint
from ipc.messages.reports import ChildEnded, Hello, ShardSpawned, TemplateReport
from runtime.decisions.restarts import Restarts
from runtime.owner import Owner
from runtime.supervisor.life import Life, ending_text

_log: Final[FilteringBoundLogger] = structlog.get_logger("supervisor")

COMMAND: Final = (sys.executable, "-P", "-m", "shards.host.template")
HELLO_SECONDS_MAX: Final = (
    30.0  # importing everything takes a fraction of a second, on a machine that is not in trouble
)
PATIENCE_SECONDS: Final = 1.0  # between the end of a link and SIGKILL
UNBORN_MAX: Final = 5  # in a row that gave up before their first word: the installation is broken
ENDINGS_REMEMBERED_MAX: Final = 256
# Only the supervisor acts on these; blocked, they reach neither the template nor any shard, be it by the terminal's
# Ctrl-C or by a service manager that signals the whole group.
SUPERVISORS_SIGNALS: Final = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1})
# Addressed to the supervisor by whoever started it.
NOT_INHERITED: Final = frozenset({"NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_PID"})
NOTHING_ADDED: Final[Mapping[str, str]] = MappingProxyType({})


class Template(Owner):
    """Keeps one template process alive while `run` runs, and asks it for shards."""

    COLLECTIONS = ("_endings",)

    def __init__(
        self,
        restarts: Restarts,
        *,
        inherited: Sequence[int] = (),
        environment: Mapping[str, str] = NOTHING_ADDED,
        command: Sequence[str] = COMMAND,
    ) -> None:
        """`inherited` descriptors are open in the template and in every shard; both get `environment` added to ours."""
        self._restarts = restarts
        self._inherited = tuple(inherited)
        self._environment = environment
        self._command = tuple(command)
        self._link: Link[TemplateReport] | None = None
        self._pid: int | None = None
        self._changed = trio.Event()
        self._unborn = 0
        self._endings: OrderedDict[int, int] = OrderedDict()

    @property
    def pid(self) -> int | None:
        return self._pid

    async def run(self) -> None:
        """Until cancelled. Raises StartRefused when templates keep dying."""
        while True:
            born = trio.current_time()
            await self._live()
            delay = self._restarts.delay(born=born, died=trio.current_time())
            if delay is None or self._unborn >= UNBORN_MAX:
                raise StartRefused(ExitCode.SHARD_UNRECOVERABLE, "the process that shards are forked from keeps ending")
            await trio.sleep(delay)

    async def spawn(self, shard: int, end: socket.socket) -> None:
        """Have a shard forked that has `end` of its link; `end` is closed here. Waits for a template if there is none.

        Nothing is promised about the fork: the shard's `Hello`, or the end of its link, tells.
        """
        with end:
            while True:
                link = await self._ready()
                try:
                    await link.send(SpawnShard(shard), [end.fileno()])
                    return
                except LinkClosed:
                    self._forget(link)

    async def ending_of(self, pid: int) -> int | None:
        """How a child of the template ended; None if that was not heard within a moment."""
        with trio.move_on_after(PATIENCE_SECONDS / 4):
            while pid not in self._endings and self._link is not None:
                await self._changed.wait()
        return self._endings.pop(pid, None)

    async def _live(self) -> None:
        ours, theirs = link_pair()
        with theirs:
            process = start(self._command, theirs, self._inherited, self._environment)
        link: Link[TemplateReport] = Link(ours, TemplateReport)
        life = Life.of(process.pid)
        self._pid = process.pid
        status: int | None = None
        try:
            await self._converse(link, process.pid)
        finally:
            self._forget(link)
            link.close()
            await life.end(patience_seconds=PATIENCE_SECONDS)
            self._pid = None
            life.close()
            status = process.poll()
        # One that somebody killed says nothing about the installation.
        self._unborn += status is not None and status >= 0
        _log.warning("template ended", pid=process.pid, ending=ending_text(status))

    async def _converse(self, link: Link[TemplateReport], pid: int) -> None:
        """Returns when the template is gone or says something that is none of its words."""
        try:
            with trio.fail_after(HELLO_SECONDS_MAX):
                await _greet(link)
            self._announce(link)
            while True:
                report, _none = await link.receive()
                self._note(report)
        except LinkClosed:
            pass
        except trio.TooSlowError:
            _log.error("template is silent", pid=pid, seconds=HELLO_SECONDS_MAX)
        except (msgspec.DecodeError, OSError) as fault:
            _log.error("template cannot be understood", pid=pid, reason=str(fault))

    def _note(self, report: TemplateReport) -> None:
        match report:
            case ChildEnded(pid=pid, status=status):
                self._endings[pid] = status
                while len(self._endings) > ENDINGS_REMEMBERED_MAX:
                    self._endings.popitem(last=False)
                self._wake()
            case ShardSpawned(shard=shard, pid=pid):
                _log.debug("shard forked", shard=shard, pid=pid)
            case Hello():
                pass

    async def _ready(self) -> Link[TemplateReport]:
        while self._link is None:
            await self._changed.wait()
        return self._link

    def _announce(self, link: Link[TemplateReport]) -> None:
        self._link = link
        self._unborn = 0
        self._wake()

    def _forget(self, link: Link[TemplateReport]) -> None:
        if self._link is link:
            self._link = None
            self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


async def _greet(link: Link[TemplateReport]) -> None:
    report, _none = await link.receive()
    if not isinstance(report, Hello) or report.fingerprint != fingerprint():
        raise msgspec.DecodeError("its messages are those of another version: the installation was changed")


def start(
    command: Sequence[str], end: socket.socket, inherited: Sequence[int], added: Mapping[str, str] = NOTHING_ADDED
) -> "subprocess.Popen[bytes]":
    """Start `command FD` with no descriptors but `end`, `inherited` and standard error, deaf to our signals."""
    environment = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
    # The child finds every module exactly where we found it, whatever directory it is started in.
    environment |= added
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, SUPERVISORS_SIGNALS)
    try:
        return subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [*command, str(end.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=sys.__stderr__,  # our standard output carries nothing but the line that says "ready"
            pass_fds=(end.fileno(), *inherited),
            env=environment,
            start_new_session=True,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
