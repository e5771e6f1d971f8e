"""Keeps the management process while somebody asks, and is its only way to the shards.

Listeners are the supervisor's, and nobody accepts on them until the first connection comes; then the process is started
with them and takes over. It ends by itself when nobody has asked for long, and the memory it took goes with it.
Whatever becomes of it, clients of the broker notice nothing; when it cannot be started, those of the API are told so.
"""

import os
import socket
import sys
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final

import msgspec
import structlog
import trio
from msgspec import Struct
from structlog.typing import FilteringBoundLogger

from ipc.allocator import environment
from ipc.data_directory import DataDirectory
from ipc.errors import ExitCode, Refusal, ReplyCode, StartRefused
from ipc.limits import INNER_CLIENT_CHANNELS_MAX, VHOST_PATIENCE_SECONDS
from ipc.link import Link, LinkClosed, link_pair
from ipc.messages.commands import THE_BROKER, AdoptClient, AskInventory, NegotiatedClient
from ipc.messages.control import ReadLog, Reply
from ipc.messages.fingerprint import fingerprint
from ipc.messages.management import (
    Abandon,
    AskShards,
    AskSupervisor,
    Attempted,
    Barred,
    Begin,
    DirectoryChanged,
    Downward,
    Enter,
    Entered,
    Follow,
    Heard,
    ManagementReport,
    MayTry,
    Over,
    Patience,
    Reconfigured,
    Told,
    Upward,
)
from ipc.messages.reports import ENDED, MANAGEMENT, Hello, Inventory, Reclaimed
from ipc.settings import ManagementSettings, Settings
from runtime.auth.directory import EVERYTHING, Directory
from runtime.auth.login import permissions_to_enter
from runtime.auth.login_record import LoginRecord
from runtime.control import place
from runtime.decisions.restarts import STEADY_SECONDS, Restarts
from runtime.owner import Owner
from runtime.roster import Roster, VHostDown
from runtime.router.listening import Wanted, open_listeners
from runtime.supervisor.apology import apologise
from runtime.supervisor.controls import Controls
from runtime.supervisor.inquiries import Inquiries
from runtime.supervisor.life import Life, ending_text
from runtime.supervisor.log_ring import LogRing
from runtime.supervisor.template import start

COMMAND: Final = (sys.executable, "-P", "-m", "runtime.management")
HELLO_SECONDS_MAX: Final = 30.0
PATIENCE_SECONDS: Final = 5.0  # between the end of a link and SIGKILL: requests under way may be answered
PORT_RETRY_SECONDS: Final = 5.0
FAILURES_TO_APOLOGISE_FOR: Final = 2  # after the first, clients that wait are served by the next process
# What a client that is the broker's own part can do.
CAPABILITIES: Final = frozenset({"publisher_confirms", "basic.nack", "consumer_cancel_notify"})
# The operator at the machine may publish in anybody's name.
IMPERSONATOR: Final[tuple[str, ...]] = ("impersonator",)

_log: Final[FilteringBoundLogger] = structlog.get_logger("supervisor")

ManagementLink = Link[ManagementReport]


class Office(Struct, frozen=True):
    """What the management process reaches through the supervisor."""

    settings: Callable[[], Settings]
    paths: DataDirectory
    started_at: float  # seconds since 1970
    addresses: Callable[[], tuple[str, ...]]
    directory: Directory
    roster: Roster
    inquiries: Inquiries
    log: LogRing
    controls: Callable[[], Controls]
    follow: Callable[[], Awaitable[None]]
    """Read the directory again, and do what follows from it."""
    logins: LoginRecord
    reclaimed: Callable[[Reclaimed], None]
    """What a pass gave back there."""
    lost: Callable[[int], None]
    """It ended, and will not answer."""


class Management(Owner):
    """The management process, whichever that is at the moment."""

    COLLECTIONS = ("_waiting",)

    def __init__(self, office: Office, restarts: Restarts) -> None:
        self._office = office
        self._restarts = restarts
        self._http: list[trio.SocketListener] = []
        self._metrics: list[trio.SocketListener] = []
        self._local: socket.socket | None = None  # for the broker's own user
        self._new_ends = trio.Event()
        self._ends_for_memory = False  # this life was over with a pass
        self._failures = 0  # lives in a row that were over before they could be of use
        self._link: ManagementLink | None = None
        self._pid: int | None = None
        self._waiting: dict[int, trio.CancelScope] = {}  # for lines of the log, by number of the question

    @property
    def pid(self) -> int | None:
        return self._pid

    def links(self) -> list[tuple[int, ManagementLink]]:
        """Under the number by which it reports, while there is a process that listens."""
        return [] if self._link is None else [(MANAGEMENT, self._link)]

    @property
    def listeners(self) -> Sequence[trio.SocketListener]:
        """Where the HTTP API is found; none while its port is somebody else's."""
        return self._http

    async def listen(self) -> None:
        """Open what can be; a port that is taken is tried again later. Raises StartRefused for what is no address."""
        try:
            self._local = place.listen(self._office.paths.http)
        except OSError as fault:
            # Some file systems have no sockets. Clients do not need it.
            _log.error("no socket for ebbmqctl", path=str(self._office.paths.http), reason=str(fault))
        settings = self._office.settings().management
        self._http = await _listen(_api(settings))
        self._metrics = await _listen(_metrics(settings))

    async def run(self) -> None:
        """Until cancelled; then the process ends as well, and nobody listens any more."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._await_ports)
                while True:
                    await self._called()
                    born = trio.current_time()
                    await self._live()
                    if self._ends_for_memory:
                        continue  # nothing went wrong, so whoever asks next need not wait
                    delay = self._restarts.delay(born=born, died=trio.current_time())
                    with trio.move_on_after(PORT_RETRY_SECONDS if delay is None else delay):
                        if self._failures >= FAILURES_TO_APOLOGISE_FOR:
                            await apologise(self._ends())
                        else:
                            await trio.sleep_forever()
        finally:
            for end in self._ends():
                end.close()
            place.remove(self._office.paths.http)

    async def _await_ports(self) -> None:
        """Listen on what was somebody else's once it is free; the process that runs by then goes on without it."""
        settings = self._office.settings().management
        while (settings.port >= 0 and not self._http) or (settings.metrics_port >= 0 and not self._metrics):
            await trio.sleep(PORT_RETRY_SECONDS)
            if settings.port >= 0 and not self._http:
                self._http = await _listen(_api(settings))
            if settings.metrics_port >= 0 and not self._metrics:
                self._metrics = await _listen(_metrics(settings))
            self._new_ends.set()
            self._new_ends = trio.Event()

    def _ends(self) -> list[socket.socket | trio.socket.SocketType]:
        """Everything somebody may come to."""
        local = [] if self._local is None else [self._local]
        return [*local, *(listener.socket for listener in (*self._http, *self._metrics))]

    async def _called(self) -> None:
        """Returns when somebody has come."""
        is_called = False
        while not is_called:
            is_called = await _is_readable(self._ends(), unless=self._new_ends)

    async def reconfigured(self) -> None:
        await self._tell(Reconfigured(self._office.settings()))

    async def directory_changed(self) -> None:
        await self._tell(DirectoryChanged())

    async def _tell(self, word: Downward) -> None:
        link = self._link
        if link is not None:
            try:
                await link.send(word)
            except LinkClosed:
                pass

    # one life ---------------------------------------------------------------------------------------------------------

    async def _live(self) -> None:
        self._ends_for_memory = False
        born = trio.current_time()
        ours, theirs = link_pair()
        with theirs:
            local = [] if self._local is None else [self._local.fileno()]
            http, metrics = ([one.socket.fileno() for one in some] for some in (self._http, self._metrics))
            ends = [",".join(map(str, descriptors)) for descriptors in (local, http, metrics)]
            try:
                allocator = environment(self._office.settings().compaction.allocator)
                process = start([*COMMAND, *ends], theirs, [*local, *http, *metrics], allocator)
            except OSError as fault:  # too many processes, or no memory for one more
                ours.close()
                self._failures += 1
                _log.error("management process cannot be started", reason=str(fault))
                return
        link: ManagementLink = Link(ours, ManagementReport)
        life = Life.of(process.pid)
        self._pid = process.pid
        _log.info("management process started", pid=process.pid)
        try:
            await self._converse(link, process.pid)
        finally:
            self._link = None
            self._office.lost(MANAGEMENT)
            link.close()
            await life.end(patience_seconds=PATIENCE_SECONDS)
            self._pid = None
            life.close()
            status = process.poll()
            is_in_vain = status != ExitCode.OK and trio.current_time() - born < STEADY_SECONDS + HELLO_SECONDS_MAX
            self._failures = self._failures + 1 if is_in_vain else 0
            say = _log.info if status == ExitCode.OK else _log.error
            say("management process ended", pid=process.pid, ending=ending_text(status))

    async def _converse(self, link: ManagementLink, pid: int) -> None:
        """Returns when the process is gone or says something that is none of its words."""
        try:
            with trio.fail_after(HELLO_SECONDS_MAX):
                hello, _none = await link.receive()
            if not isinstance(hello, Hello) or hello.fingerprint != fingerprint():
                raise msgspec.DecodeError("its messages are those of another version: the installation was changed")
            office = self._office
            root = str(office.paths.root)
            begin = Begin(office.settings(), root, office.started_at, office.addresses(), os.getpid())
            await link.send(begin, [office.log.outlet.fileno()])
            self._link = link
            async with trio.open_nursery() as nursery:
                while True:
                    asked, _none = await link.receive()
                    if isinstance(asked, Attempted):  # at once: the next question may be about just that
                        office.logins.note_now(asked.attempt)
                    elif isinstance(asked, Reclaimed):
                        self._ends_for_memory = asked.after == ENDED
                        office.reclaimed(asked)
                    elif isinstance(asked, Upward):
                        nursery.start_soon(self._serve, link, asked)
        except* LinkClosed:
            pass
        except* trio.TooSlowError:
            _log.error("management process is silent", pid=pid, seconds=HELLO_SECONDS_MAX)
        except* (msgspec.DecodeError, OSError) as fault:
            _log.error("management process cannot be understood", pid=pid, reason=str(fault.exceptions[0]))

    # what it asks -----------------------------------------------------------------------------------------------------

    async def _serve(self, link: ManagementLink, asked: Upward) -> None:
        match asked:
            case AskShards():
                await self._ask_shards(link, asked)
            case AskSupervisor():
                await self._ask_supervisor(link, asked)
            case Enter():
                await self._enter(link, asked)
            case MayTry():
                seconds = await self._office.logins.wait_seconds(asked.user, asked.address)
                await link.send(Patience(asked.number, seconds))
            case Abandon(number=number):
                if (scope := self._waiting.get(number)) is not None:
                    scope.cancel()
            case Follow():
                await self._office.follow()
                with trio.move_on_after(VHOST_PATIENCE_SECONDS):
                    await self._office.roster.settled()
                await link.send(Over(asked.number))

    async def _ask_shards(self, link: ManagementLink, asked: AskShards) -> None:
        among: Collection[int] | None = None
        if asked.vhost is not None:
            place = self._office.roster.place_of(asked.vhost)
            among = () if place is None else (place,)
        gathered = await self._office.inquiries.ask(lambda number: AskInventory(number, asked.request), among=among)
        for answer in gathered.answers:
            if isinstance(answer, Inventory):
                await link.send(Heard(asked.number, answer.shard, answer.piece))
        await link.send(Over(asked.number, gathered.silent))

    async def _ask_supervisor(self, link: ManagementLink, asked: AskSupervisor) -> None:
        async def say(reply: Reply) -> None:
            await link.send(Told(asked.number, reply))  # type: ignore[arg-type]

        controls = self._office.controls()
        if isinstance(asked.request, ReadLog):
            with trio.CancelScope() as self._waiting[asked.number]:
                await controls.answer(asked.request, say)
            del self._waiting[asked.number]
        else:
            await controls.answer(asked.request, say)
        await link.send(Over(asked.number))

    async def _enter(self, link: ManagementLink, asked: Enter) -> None:
        office = self._office
        ours, theirs = socket.socketpair()
        with ours, theirs:
            try:
                shard = await office.roster.owner_of(asked.vhost, VHOST_PATIENCE_SECONDS)
                if asked.user == THE_BROKER:
                    permissions, tags = EVERYTHING, IMPERSONATOR
                else:
                    permissions = permissions_to_enter(office.directory, asked.user, asked.vhost)
                    user = office.directory.find_user(asked.user)
                    tags = () if user is None else user.tags
                frame_max = office.settings().amqp.frame_max
                client = NegotiatedClient(
                    name=asked.name,
                    user=asked.user,
                    tags=tags,
                    vhost=asked.vhost,
                    permissions=permissions,
                    frame_max=frame_max,
                    channel_max=INNER_CLIENT_CHANNELS_MAX,
                    heartbeat_seconds=0,
                    mechanism="",
                    client_properties=b"",
                    capabilities=CAPABILITIES,
                    unread=b"",
                    is_literal=asked.is_literal,
                )
                await shard.send(AdoptClient(client), [theirs.fileno()])
            except Refusal as refusal:
                await link.send(Barred(asked.number, refusal.code, refusal.text))
            except (VHostDown, LinkClosed):
                await link.send(Barred(asked.number, ReplyCode.INTERNAL_ERROR, f"vhost '{asked.vhost}' is down"))
            else:
                await link.send(Entered(asked.number, frame_max), [ours.fileno()])


async def _listen(wanted: Wanted) -> list[trio.SocketListener]:
    """None where nobody wants to, or while somebody else does: the broker is more than its HTTP API."""
    if wanted.port < 0:
        return []
    try:
        return await open_listeners(wanted)
    except StartRefused as refusal:
        if refusal.exit_code is not ExitCode.PORT_IN_USE:
            raise
        _log.error("no management API yet", reason=str(refusal))
        return []


async def _is_readable(ends: Sequence[socket.socket | trio.socket.SocketType], *, unless: trio.Event) -> bool:
    """True once one of them is; False when something else has happened first."""
    found = False

    async def wait(end: socket.socket | trio.socket.SocketType, scope: trio.CancelScope) -> None:
        nonlocal found
        await trio.lowlevel.wait_readable(end.fileno())
        found = True
        scope.cancel()

    async with trio.open_nursery() as nursery:
        for end in ends:
            nursery.start_soon(wait, end, nursery.cancel_scope)
        await unless.wait()
        nursery.cancel_scope.cancel()
    return found


def _api(settings: ManagementSettings) -> Wanted:
    return Wanted("management", settings.bind, settings.port, settings.backlog)


def _metrics(settings: ManagementSettings) -> Wanted:
    return Wanted("management", settings.metrics_bind, settings.metrics_port, settings.backlog)
