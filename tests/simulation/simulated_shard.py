"""A whole shard without its host: rounds and checkpoints take as long as somebody says, and it may end anywhere.

Definitions are a real SQLite file: what `commit` returned from is there after every end, and nothing else is, because
changes that were not committed yet are in the process only.
"""

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any

from ipc.settings import ConnectionSettings, StoreSettings
from shards.host.worker import SyncFailed
from shards.model.queues.queue import Queue
from shards.model.turn import Shortage, Turn
from shards.model.vhost import VHost
from shards.model.vhosts import VHosts
from shards.protocols.amqp.connection import Connection
from shards.store.definitions import Change, Definitions
from shards.store.files import SyncBatch
from shards.store.journal import Journal
from shards.store.message_store import MessageStore
from shards.store.recovery import RecoveryReport
from shards.store.unsynced import UnsyncedFiles
from tests.protocols.conversation import Client, World
from tests.simulation.exercised import Exercised
from tests.simulation.simulated_files import SimulatedFiles, Stopped
from tests.simulation.sliced_pass import SlicedPass
from tests.store.messages import take

VHOSTS = ("/", "other")
PREPARED_PER_TURN = 2  # steps before a checkpoint, while it is slow
_COUNTS = ("ready_count", "ready_bytes", "unacknowledged_count")


class SimulatedShard(World):
    """`open_all` may raise what files raise; then it can be called again, on other files or the same."""

    def __init__(self, directory: Path, files: SimulatedFiles, store: StoreSettings, now: int) -> None:
        self.now = now
        self.turn = Turn()
        self.turn.now = now
        self.simulated = self.files = files
        self.settings = ConnectionSettings()
        names = count(1)
        self.vhosts = VHosts(self.turn, files, store, lambda: f"name-{next(names)}")
        self.clients = []
        self.syncs_by_itself = False
        self.is_unreadable = False  # some queue, which is not what it should be until it can be read
        self.is_slow = False  # rounds and checkpoints end only when `proceed` is told to
        self.reports: list[RecoveryReport] = []
        self.compaction: SlicedPass | None = None  # under way
        self._directory = directory
        self._round: tuple[int, Sequence[tuple[Definitions, list[Change]]], SyncBatch] | None = None
        self._preparation: tuple[Journal, Iterator[None]] | None = None  # of the next checkpoint
        self._checkpoint: tuple[Journal, SyncBatch] | None = None

    def open_all(self, names: Sequence[str] = VHOSTS) -> None:
        for name in names:
            self.open(name)
            self.reports.append(self.report)
        self.vhost = self.vhosts.find("/")  # type: ignore[assignment]

    def client(self, **facts: Any) -> Client:
        client = _Guarded(self, **facts)
        self.clients.append(client)
        return client

    def each_vhost(self) -> list[VHost]:
        return [vhost for name in VHOSTS if (vhost := self.vhosts.find(name)) is not None]

    @property
    def is_blocked(self) -> bool:
        return Shortage.WRITES in self.turn.shortages

    # turns ------------------------------------------------------------------------------------------------------------

    def finish_turn(self) -> None:
        """Raises SyncFailed when the shard has to end."""
        while True:
            for connection in self._take_resumable():
                self.guarded(connection, partial(connection.resume, self.now))
            try:
                self.turn.finish(self.now)
            except OSError:
                self.turn.block(Shortage.WRITES)
            self.turn.notices.clear()
            self.is_unreadable = self.is_unreadable or bool(self.turn.unreadable)
            self.turn.unreadable.clear()
            for sender in self._take_unsent():
                sender.is_listed = False
            for client in self.clients:
                client.collect()
            self.proceed(ends=not self.is_slow)
            if self.compaction is not None:
                self.compaction.take_slice()
                if self.compaction.is_over:
                    self.compaction = None
            if not self.turn.has_work:
                return

    def guarded(self, connection: Connection, act: Callable[[], object]) -> None:
        """A client for whom a file cannot be read, or memory had, is closed, and its siblings live."""
        try:
            act()
        except (OSError, MemoryError):
            for client in [client for client in self.clients if client.connection is connection]:
                client.collect()
                self.clients.remove(client)
            connection.vhost.connections.pop(connection, None)
            connection.lost()

    def proceed(self, *, ends: bool) -> None:
        """Begin the round and the checkpoint that are wanted, and end them."""
        while self._round is not None or self.turn.round_wanted:
            if self._round is None:
                self._round = (self.turn.begin_round(), self.vhosts.take_changes(), self.files.take_unsynced())
            if not ends:
                self.simulated.tally[Exercised.SLOW_SYNC] += 1
                break
            self._end_round()
        while self._checkpoint is not None or self.turn.checkpoints:
            if self._checkpoint is None and not self._prepare_checkpoint(at_once=ends):
                break
            if not ends:
                self.simulated.tally[Exercised.SLOW_SYNC] += 1
                break
            self._end_checkpoint()

    def _prepare_checkpoint(self, *, at_once: bool) -> bool:
        """Whether one has begun; else some of what is to be done before was."""
        journal = next(iter(self.turn.checkpoints))
        if self._preparation is None or self._preparation[0] is not journal:
            self._preparation = (journal, journal.prepare_checkpoint())
        if not at_once and len(list(islice(self._preparation[1], PREPARED_PER_TURN))) == PREPARED_PER_TURN:
            return False
        self._preparation = None
        del self.turn.checkpoints[journal]
        self._checkpoint = (journal, journal.begin_checkpoint())
        return True

    def _end_round(self) -> None:
        assert self._round is not None
        number, changes, batch = self._round
        for definitions, some in changes:
            self._pass_moment()
            definitions.commit(some)
            self._pass_moment()
        _run(batch)
        self._round = None
        self.turn.complete_round(number)

    def _pass_moment(self) -> None:
        """The process may end before definitions are on disk, and after."""
        try:
            self.simulated.pass_moment()
        except Stopped:
            self.simulated.tally[Exercised.STOP_IN_COMMIT] += 1
            raise

    def _end_checkpoint(self) -> None:
        assert self._checkpoint is not None
        journal, batch = self._checkpoint
        _run(batch)
        self._checkpoint = None
        self.turn.checkpointed(journal)
        self.simulated.tally[Exercised.CHECKPOINT] += 1

    # ends -------------------------------------------------------------------------------------------------------------

    def end_in_order(self) -> None:
        """As the host does: clients leave, what awaits the disk gets there, vhosts are closed."""
        for client in self.clients:
            client.connection.vhost.connections.pop(client.connection, None)
            client.connection.lost()
        self.clients = []
        self.finish_turn()
        self.proceed(ends=True)
        self.compaction = None
        for name in self.vhosts.names():
            self.vhosts.close(name)
        _run(self.files.take_unsynced())
        self.files.close()

    def abandon(self) -> None:
        """The process has ended: only what is not memory has to be let go of."""
        self.compaction = None
        for definitions in self.vhosts._definitions.values():
            definitions.close()


class _Guarded(Client):
    """What it says is received as by the pump."""

    def send(self, data: bytes) -> None:
        if not self.connection.wants_input:
            raise AssertionError("the pump would not have read this")
        shard = self.world
        assert isinstance(shard, SimulatedShard)
        with memoryview(self.connection.partial + data) as view:
            shard.guarded(self.connection, lambda: self.connection.receive(view, shard.now))
        shard.finish_turn()


def _run(batch: SyncBatch) -> None:
    try:
        batch.run()
    except OSError as fault:
        raise SyncFailed(str(fault)) from fault


def read_all(queue: Queue) -> None:
    """What a register knows and the disk has lost is announced until somebody reads it."""
    for level in queue.store.levels() if queue.store is not None else ():
        with simulated_files(level).unnoticed():
            level.read_all()


def contents(queue: Queue) -> list[list[int]]:
    """The numbers of all ready messages, by levels and in order, read as a consumer would, and left where they are."""
    levels = () if queue.store is None else queue.store.levels()
    if not levels:
        return []
    with simulated_files(levels[0]).unnoticed():
        return [_contents(level) for level in levels]


def simulated_files(store: MessageStore) -> SimulatedFiles:
    """What it is on, whether that is synced or not."""
    files = store.segments.files
    if isinstance(files, UnsyncedFiles):
        files = files._files
    assert isinstance(files, SimulatedFiles)
    return files


def _contents(store: MessageStore) -> list[int]:
    kept: dict[str, int] = {name: getattr(store, name) for name in _COUNTS}
    marks = [(segment, segment.deleted_at, segment.returned_at) for segment in store.segments.by_number.values()]
    reader = store._reader
    store._reader = copy(reader)
    store._reader._requeued = reader._requeued[:]
    found = [number_of(body) for _, body in take(store)]
    if len(found) != kept["ready_count"]:
        raise AssertionError(f"{len(found)} messages where there are {kept['ready_count']}")
    store._reader = reader
    for name, value in kept.items():
        setattr(store, name, value)
    for segment, deleted_at, returned_at in marks:
        segment.deleted_at, segment.returned_at = deleted_at, returned_at
    return found


def body_of(number: int, size_bytes: int) -> bytes:
    return b"%d." % number + b"." * max(0, size_bytes - len(str(number)) - 1)


def number_of(body: bytes) -> int:
    return int(body.partition(b".")[0])
