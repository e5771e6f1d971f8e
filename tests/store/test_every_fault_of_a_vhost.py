"""The same of a whole vhost: priorities, delayed messages, dead letters, a register and definitions, at every call.

What can fail is what the store asks a file system for: to change something, to read, to map, to sync. A client has
everything there is in several queues; then something is done, and the N-th call of one kind fails, for every N.
"""

import errno
import itertools
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from pamqp import commands

from ipc.limits import UNREADABLE_RETRY_MS, WRITE_BACK_MS
from ipc.wire.amqp import methods
from shards.host.worker import SyncFailed
from shards.model.turn import APPOINTMENT_MS
from shards.store.half_done import HalfDone
from tests.protocols.conversation import Client, Content
from tests.simulation.simulated_files import SimulatedFiles, Stopped
from tests.simulation.simulated_shard import SimulatedShard, body_of, number_of
from tests.simulation.small_limits import LARGE_BYTES, STORE, small_limits

CALLS_MAX = 400
FREED_AT_ONCE_MAX = 400
QUEUES = ("plain", "ranked", "late", "dying", "graves")
DELAY_MS = 5_000
_MEMORY = Path("/dev/shm")


@pytest.fixture(autouse=True)
def _small() -> Iterator[None]:
    with small_limits():
        yield


@pytest.fixture
def home() -> Iterator[Path]:
    # SQLite syncs what it commits; where there is a file system in memory that costs nothing.
    home = Path(tempfile.mkdtemp(dir=_MEMORY if _MEMORY.is_dir() else None))
    yield home
    shutil.rmtree(home, ignore_errors=True)


class Prepared:
    """Messages in their place, in the journal, waiting, held by a client, and settled ones; all of it confirmed."""

    shard: SimulatedShard
    client: Client

    def __init__(self, home: Path) -> None:
        self._home = home
        self.number = 0
        self.has_refused = False  # the disk, before the end
        self.promised: dict[str, set[int]] = {queue: set() for queue in QUEUES}
        self.maybe: dict[str, set[int]] = {queue: set() for queue in QUEUES}
        self.settled: dict[str, set[int]] = {queue: set() for queue in QUEUES}
        self.held: dict[str, list[tuple[int, int]]] = {queue: [] for queue in QUEUES}  # tags and numbers
        self.deleted: set[str] = set()
        self.together: list[tuple[str, int]] = []  # queues and numbers that are there, all of them, or none
        self.files = SimulatedFiles(1)
        self._begin(self.files)
        self._declare()
        for _ in range(2):
            for _ in range(9):
                self.publish("plain", 400)
                self.publish("ranked", 150, priority=self.number % 3)
                self.publish("dying", 20)
            self.publish("late", 100, delay=DELAY_MS)
            self.publish("late", 3000, delay=DELAY_MS)
            self.shard.advance(WRITE_BACK_MS)
        for queue in ("plain", "ranked", "dying"):
            for _ in range(4):
                self.take(queue)
            for tag, number in self.held[queue][:2]:
                self.client.ack(tag)
                self.promised[queue].discard(number)
                self.settled[queue].add(number)
            del self.held[queue][:2]
        self.publish("plain", 100)
        self.hear()
        for queue in QUEUES:
            self.promised[queue] |= self.maybe[queue]
            self.maybe[queue] = set()

    def _begin(self, files: SimulatedFiles) -> None:
        if files is not self.files:
            self.files.let_go()
            self.files = files
        self.shard = SimulatedShard(self._home, files, STORE, 1_000_000 if not self.number else self.shard.now)
        self.shard.open_all(("/",))

    def _declare(self) -> None:
        self.client = self.shard.client().open()
        for queue, asked in {
            "plain": {},
            "ranked": {"x-max-priority": 2},
            "late": {},
            "graves": {},
            "dying": {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "graves"},
        }.items():
            self.client.declare(queue, durable=True, arguments=asked)
        arguments: Any = {"x-delayed-type": "fanout"}
        self.client.ask(
            commands.Exchange.Declare(
                exchange="later", exchange_type="x-delayed-message", durable=True, arguments=arguments
            )
        )
        self.client.bind("later", "late")
        for queue in ("plain", "late"):
            self.client.bind("amq.fanout", queue)
        self.client.ask(commands.Confirm.Select())
        self._unconfirmed: dict[int, tuple[str, int]] = {}
        self._published = 0

    # what a client does -----------------------------------------------------------------------------------------------

    def publish(self, queue: str, size_bytes: int, *, priority: int = 0, delay: int = 0) -> None:
        self.number += 1
        self._published += 1
        self.maybe[queue].add(self.number)
        self._unconfirmed[self._published] = (queue, self.number)
        properties = commands.Basic.Properties(
            delivery_mode=2, priority=priority, headers={"x-delay": delay} if delay else None
        )
        body = body_of(self.number, size_bytes)
        if not self.may_speak:
            return
        self.client.publish("later" if delay else "", "" if delay else queue, body, properties=properties)

    def publish_to_all(self, size_bytes: int) -> None:
        """To two queues."""
        self.number += 1
        self._published += 1
        for queue in ("plain", "late"):
            self.maybe[queue].add(self.number)
        if self.may_speak:
            self.client.publish("amq.fanout", "", body_of(self.number, size_bytes), persistent=True)

    def take(self, queue: str) -> None:
        method = commands.Basic.Get(no_ack=False)
        method.queue = queue  # the constructor knows fewer names than there are
        self.say(method)
        for message in self.hear():
            self.held[queue].append((message.method.delivery_tag, number_of(message.body)))

    def say(self, method: methods.Method, channel: int = 1) -> None:
        """If there is still somebody to hear it."""
        if self.may_speak:
            self.client.say(method, channel)

    @property
    def may_speak(self) -> bool:
        return self.client in self.shard.clients and self.client.connection.wants_input

    def hear(self) -> list[Content]:
        """What is confirmed is promised; what was delivered."""
        heard = self.client.replies()
        for thing in heard:
            if isinstance(thing, commands.Basic.Ack):
                tag = thing.delivery_tag or 0
                for each in [each for each in self._unconfirmed if each == tag or (thing.multiple and each < tag)]:
                    queue, number = self._unconfirmed.pop(each)
                    if queue not in self.deleted and number in self.maybe[queue]:
                        self.maybe[queue].discard(number)
                        self.promised[queue].add(number)
        return [thing for thing in heard if isinstance(thing, Content)]

    def may_go(self, queue: str, numbers: set[int]) -> None:
        self.promised[queue] -= numbers
        self.maybe[queue] |= numbers

    def hang_up(self) -> None:
        """What it holds goes back."""
        if self.client in self.shard.clients:
            self.shard.clients.remove(self.client)
            self.client.disconnect()
        self.shard.finish_turn()

    # afterwards -------------------------------------------------------------------------------------------------------

    def end_suddenly(self, *, power: bool = False) -> None:
        self.has_refused = self.files.refusals > 0
        self.shard.abandon()
        self.files.accept_everything()
        files = self.files.power_failure() if power else self.files.restart()
        self._begin(files)

    def recover_with(self, arm: "Callable[[SimulatedFiles, int], None]", call: int) -> bool:
        """A start with a fault, and another one after it; whether it met the fault."""
        self.shard.abandon()
        files = self.files.restart()
        arm(files, call)
        try:
            self._begin(files)
        except (OSError, Stopped):
            self.shard.abandon()
            files.accept_everything()
            self._begin(files.restart())
            return True
        files.accept_everything()
        return False

    def check(self) -> None:
        """What is there, after all that waits was due."""
        for _ in range(4):
            self.shard.advance(2 * DELAY_MS)
        client = self.shard.client().open()
        found = {queue: self._content(client, queue) for queue in QUEUES}
        buried = set(found["graves"])
        for queue, numbers in found.items():
            there = set(numbers)
            elsewhere = buried if queue == "dying" else set()
            known = self.promised[queue] | self.maybe[queue]
            assert self.promised[queue] - elsewhere <= there, f"{queue}: lost"
            assert there <= known | (self._ever("dying") if queue == "graves" else set()), f"{queue}: from nowhere"
            if queue not in ("late", "graves"):
                assert len(there) == len(numbers), f"{queue}: twice"
            if queue in ("plain", "dying"):
                assert numbers == sorted(numbers), f"{queue}: out of order"
        if not self.has_refused:  # else what makes room could not wait for the rest
            assert len({number in found[queue] for queue, number in self.together}) <= 1, "half of a transaction"

    def _ever(self, queue: str) -> set[int]:
        return self.promised[queue] | self.maybe[queue] | self.settled[queue]

    def _content(self, client: Client, queue: str) -> list[int]:
        if self.shard.vhost.find_queue(queue) is None:
            assert queue in self.deleted, f"{queue}: lost"
            return []
        numbers: list[int] = []
        while (message := client.get(queue)) is not None:
            numbers.append(number_of(message.body))
        return numbers

    def close(self) -> None:
        self.files.let_go()
        try:
            self.shard.abandon()
        except sqlite3.ProgrammingError:
            pass


# what is done ---------------------------------------------------------------------------------------------------------


def publish(prepared: Prepared) -> None:
    for size_bytes in (100, 1500, 100):
        prepared.publish("plain", size_bytes)
        prepared.publish("ranked", size_bytes, priority=2)


def publish_large(prepared: Prepared) -> None:
    prepared.publish("plain", LARGE_BYTES + 10)
    prepared.publish("ranked", LARGE_BYTES + 10, priority=1)


def publish_runs(prepared: Prepared) -> None:
    """Alike but for their bodies: they are taken in together."""
    for _ in range(5):
        prepared.publish("plain", 100)
    for _ in range(5):
        prepared.publish_to_all(100)


def publish_to_wait(prepared: Prepared) -> None:
    prepared.publish("late", 100, delay=DELAY_MS)
    prepared.publish("late", LARGE_BYTES + 10, delay=DELAY_MS)


def let_be_due(prepared: Prepared) -> None:
    """What waits at the exchange goes on to the queue."""
    prepared.shard.advance(DELAY_MS)


def settle(prepared: Prepared) -> None:
    for queue in ("plain", "ranked"):
        prepared.may_go(queue, {number for _, number in prepared.held[queue]})
        for tag, _ in prepared.held[queue]:
            prepared.say(commands.Basic.Ack(tag))


def give_back(prepared: Prepared) -> None:
    for queue in ("plain", "ranked"):
        for tag, _ in prepared.held[queue]:
            prepared.say(commands.Basic.Nack(tag))


def bury(prepared: Prepared) -> None:
    for tag, _ in prepared.held["dying"]:
        prepared.say(commands.Basic.Nack(tag, requeue=False))


def drain(prepared: Prepared) -> None:
    for queue in ("plain", "ranked"):
        for _ in range(14):
            prepared.take(queue)


def purge(prepared: Prepared) -> None:
    for queue in ("plain", "ranked"):
        prepared.may_go(queue, set(prepared.promised[queue]))
        prepared.say(commands.Queue.Purge(queue=queue))


def delete(prepared: Prepared) -> None:
    for queue in ("plain", "ranked"):
        prepared.may_go(queue, set(prepared.promised[queue]))
        prepared.deleted.add(queue)
        prepared.say(commands.Queue.Delete(queue=queue))


def consume(prepared: Prepared) -> None:
    """Messages as they are, one that is large and one that has come back."""
    prepared.publish("late", LARGE_BYTES + 10)
    prepared.publish("late", 100)
    for queue, acks in (("plain", True), ("ranked", False), ("late", True)):
        if not acks:
            prepared.may_go(queue, set(prepared.promised[queue]))
        prepared.say(commands.Basic.Consume(queue=queue, no_ack=not acks))


def commit(prepared: Prepared) -> None:
    """On a channel of its own; what is taken there is not acknowledged anywhere else."""
    taken = min(prepared.promised["plain"] - {number for _, number in prepared.held["plain"]})
    prepared.may_go("plain", {taken})
    for method in (commands.Channel.Open(), commands.Tx.Select(), commands.Basic.Get(queue="plain")):
        prepared.say(method, 2)
    for queue in ("plain", "ranked", "late"):
        prepared.number += 1
        prepared.maybe[queue].add(prepared.number)
        prepared.together.append((queue, prepared.number))
        if prepared.may_speak:
            body = body_of(prepared.number, 100)
            prepared.client.publish("", queue, body, persistent=True, channel=2)
    prepared.say(commands.Basic.Ack(1), 2)
    prepared.say(commands.Tx.Commit(), 2)


def leave(prepared: Prepared) -> None:
    """What the channel holds goes back."""
    prepared.say(commands.Channel.Close(200, "", 0, 0))


def declare(prepared: Prepared) -> None:
    prepared.say(commands.Queue.Declare(queue="another", durable=True))
    prepared.say(commands.Queue.Bind(queue="another", exchange="amq.fanout"))


def nothing(prepared: Prepared) -> None:
    """Whatever the end does by itself."""


# and how it ends ------------------------------------------------------------------------------------------------------


def finish(prepared: Prepared) -> None:
    prepared.shard.finish_turn()


def write_back(prepared: Prepared) -> None:
    """And have a checkpoint cover what is full."""
    for _ in range(2):
        prepared.shard.advance(WRITE_BACK_MS)
    for journal in list(prepared.shard.turn.journals):
        prepared.shard.turn.checkpoints[journal] = None
    prepared.shard.proceed(ends=True)


def end_in_order(prepared: Prepared) -> None:
    prepared.hear()
    prepared.shard.end_in_order()


class Operation(NamedTuple):
    change: Callable[[Prepared], None]
    end: Callable[[Prepared], None]


CHANGES = (
    publish,
    publish_large,
    publish_runs,
    publish_to_wait,
    let_be_due,
    settle,
    give_back,
    bury,
    drain,
    consume,
    commit,
    leave,
    purge,
    delete,
    declare,
)
OPERATIONS = {f"{change.__name__} and write_back": Operation(change, write_back) for change in CHANGES} | {
    "nothing and end_in_order": Operation(nothing, end_in_order),
    "settle and end_in_order": Operation(settle, end_in_order),
    "let_be_due and finish": Operation(let_be_due, finish),
}


def _darken(files: SimulatedFiles, looks: int) -> None:
    files.close()  # what was mapped as well
    files.darken(looks)


FAULTS: dict[str, Callable[[SimulatedFiles, int], None]] = {
    "ENOSPC": lambda files, call: files.refuse(call, errno.ENOSPC),
    "EIO": lambda files, call: files.refuse(call, errno.EIO),
    "look": lambda files, call: files.refuse_look(call),
    "map": lambda files, call: files.refuse_map(call),
    "dark": _darken,
    "sync": lambda files, call: files.refuse_sync(call),
    "kill": lambda files, call: files.stop(call),
    "power": lambda files, call: files.stop(call),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_any_call_of_an_operation_may_fail(home: Path, name: str, fault: str) -> None:
    operation = OPERATIONS[name]
    for call in range(CALLS_MAX):
        prepared = Prepared(home / str(call))
        before = prepared.files.faults_met
        FAULTS[fault](prepared.files, call)
        is_over = _carry_out(prepared, operation)
        was_met = prepared.files.faults_met > before
        prepared.end_suddenly(power=fault in ("power", "sync"))
        prepared.check()
        prepared.close()
        shutil.rmtree(home / str(call))
        if is_over and not was_met:
            return
    raise AssertionError("the operation does not end")


def _carry_out(prepared: Prepared, operation: Operation) -> bool:
    """Whether the shard has not ended by that; then everything works again that did not."""
    try:
        operation.change(prepared)
        operation.end(prepared)
        if operation.end is not end_in_order:
            _go_on(prepared)
    except (Stopped, SyncFailed):
        return False
    except OSError:
        assert operation.end is end_in_order, "only an end may be refused"
    return True


def _go_on(prepared: Prepared) -> None:
    """The disk takes everything again, and so do queues."""
    if prepared.may_speak:
        prepared.hear()
    prepared.files.accept_everything()
    prepared.shard.retry_storage()
    prepared.shard.advance(WRITE_BACK_MS)
    assert not prepared.shard.is_blocked
    client = prepared.shard.client().open()
    client.ask(commands.Confirm.Select())
    for queue in ("late", "graves"):
        client.publish("", queue, body_of(0, 20), persistent=True)
        assert isinstance(client.replies()[0], commands.Basic.Ack)
        prepared.promised[queue].add(0)
    prepared.shard.advance(UNREADABLE_RETRY_MS + APPOINTMENT_MS)
    ready = {queue.name: queue.ready_count for queue in prepared.shard.vhost.queues() if queue.consumer_count}
    assert not any(ready.values()), f"not handed out: {ready}"
    prepared.hang_up()
    held = {queue.name: queue.unacknowledged_count for queue in prepared.shard.vhost.queues()}
    assert not any(held.values()), f"held by nobody: {held}"


ALLOCATION_STEP = int(os.environ.get("EBBMQ_ALLOCATION_STEP", "61"))
"""How many allocations are passed over after one that fails: with 1, each fails once, which takes minutes."""


# A generator that is dropped half done is told so by an exception, for which there may be no memory: nobody minds.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <generator:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_any_allocation_of_an_operation_may_fail(home: Path, change: Callable[[Prepared], None]) -> None:
    """The client is closed for it, or the shard ends; what was promised is there, also when the others have gone on."""
    testing = pytest.importorskip("_testcapi", reason="this Python cannot make allocations fail")
    nobody_failed = 0
    for allocation in itertools.count(ALLOCATION_STEP // 2, ALLOCATION_STEP):
        prepared = Prepared(home / str(allocation))
        said = _said(prepared, change)
        has_failed = _without_memory(prepared, said, testing, allocation)
        prepared.end_suddenly()
        prepared.check()
        prepared.close()
        shutil.rmtree(home / str(allocation))
        nobody_failed = 0 if has_failed else nobody_failed + ALLOCATION_STEP
        if nobody_failed > FREED_AT_ONCE_MAX:  # some are made only where others are taken again that were freed
            return


def _said(prepared: Prepared, change: Callable[[Prepared], None]) -> bytes:
    """What the client says for that, and nothing is done with yet."""
    said: list[bytes] = []
    prepared.client.send = said.append  # type: ignore[method-assign, assignment]
    if change is let_be_due:
        prepared.shard.now += DELAY_MS
    else:
        change(prepared)
    del prepared.client.send
    return b"".join(said)


def _without_memory(prepared: Prepared, said: bytes, testing: Any, allocation: int) -> bool:
    """Whether an allocation failed, and somebody noticed."""
    shard, connection = prepared.shard, prepared.client.connection
    clients = len(shard.clients)
    with memoryview(connection.partial + said) as view:
        testing.set_nomemory(allocation, allocation + 1)
        try:
            shard.guarded(connection, lambda: connection.receive(view, shard.now))
            shard.finish_turn()
            write_back(prepared)
        except (MemoryError, HalfDone):
            return True
        finally:
            testing.remove_mem_hooks()
    has_failed = len(shard.clients) < clients
    _go_on(prepared)
    return has_failed


@pytest.mark.parametrize("fault", FAULTS)
def test_a_start_with_any_call_failing_is_repeated(home: Path, fault: str) -> None:
    for call in range(CALLS_MAX):
        prepared = Prepared(home / str(call))
        was_met = prepared.recover_with(FAULTS[fault], call)
        prepared.check()
        prepared.close()
        shutil.rmtree(home / str(call))
        if not was_met:
            return
    raise AssertionError("the start does not end")
