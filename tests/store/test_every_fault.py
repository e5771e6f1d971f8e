"""The N-th call to the file system fails, or is the process's last, for every N: what was promised is there afterwards.

Every operation begins from the same prepared queues, and is done again after a refusal: it must get through then.
"""

import errno
from array import array
from collections.abc import Callable
from typing import NamedTuple

import pytest

from shards.store.message_store import MessageStore
from tests.simulation.simulated_files import SimulatedFiles, Stopped
from tests.simulation.small_limits import LARGE_BYTES, small_limits
from tests.store.messages import record, take
from tests.store.test_journal import Stores

CALLS_MAX = 400
QUEUES = 2
HELD = 4


@pytest.fixture(autouse=True)
def _small() -> object:
    with small_limits():
        yield


class Prepared:
    """Two queues: some messages written to their place, some in the journal only, some held, one given back."""

    def __init__(self) -> None:
        self.files = SimulatedFiles(1)
        self.stores = Stores(self.files, QUEUES)
        self.held: list[list[int]] = [[] for _ in range(QUEUES)]
        self.promised: list[set[bytes]] = [set() for _ in range(QUEUES)]
        self.maybe: list[set[bytes]] = [set() for _ in range(QUEUES)]
        self.settled: list[set[bytes]] = [set() for _ in range(QUEUES)]
        for start in (0, 30):
            for number, store in enumerate(self.stores.stores):
                for each in range(start, start + 30):
                    store.append(record(b"%d" % each + b"x" * 150))
                    self.promised[number].add(b"%d" % each)
            self.finish()
            if not start:
                self.stores.write_back()
                self.finish()
        for number, store in enumerate(self.stores.stores):
            taken = take(store, 40)
            done = taken[HELD:30:2]
            store.settle_many(array("Q", [position for position, _ in done]))
            gone = {name_of(body) for _, body in done}
            self.promised[number] -= gone
            self.settled[number] |= gone
            self.held[number] = [position for position, _ in taken[:HELD]]
        self.finish()
        self.stores.sync()

    def finish(self) -> None:
        self.stores.finish_turn()

    @property
    def store(self) -> MessageStore:
        return self.stores.stores[0]

    def check(self, files: SimulatedFiles) -> None:
        after = self.stores.again(files)
        for number in range(QUEUES):
            bodies = [name_of(body) for body in after.bodies(number)]
            found = set(bodies)
            assert len(bodies) == len(found), "twice"
            assert self.promised[number] <= found, "lost"
            assert not found & self.settled[number], "settled and back"
            assert found <= self.promised[number] | self.maybe[number], "from nowhere"
            assert bodies == sorted(bodies, key=int), "out of order"


def name_of(body: bytes) -> bytes:
    return body.rstrip(b"x")


def append(prepared: Prepared) -> None:
    for number in range(60, 75):
        prepared.store.append(record(b"%d" % number + b"x" * 150))
        prepared.maybe[0].add(b"%d" % number)


def append_large(prepared: Prepared) -> None:
    for number in range(60, 64):
        encoded = record(b"%d" % number + b"x" * LARGE_BYTES)
        prepared.store.append_large([encoded[:30], encoded[30:]], len(encoded))
        prepared.maybe[0].add(b"%d" % number)


def settle(prepared: Prepared) -> None:
    held = prepared.held[0]
    _may_go(prepared, held)
    prepared.store.settle_many(array("Q", held))
    prepared.held[0] = []


def requeue(prepared: Prepared) -> None:
    for position in prepared.held[0]:
        prepared.store.note_return(position)
        prepared.store.requeue(position)
    prepared.held[0] = []


def purge(prepared: Prepared) -> None:
    prepared.maybe[0] |= prepared.promised[0]
    prepared.promised[0] = set()
    prepared.store.purge()


def rotate(prepared: Prepared) -> None:
    """Fill journal files, and have them covered and used again."""
    for number in range(60, 120):
        prepared.stores.stores[1].append(record(b"%d" % number + b"x" * 600))
        prepared.maybe[1].add(b"%d" % number)
        _turn(prepared)


def nothing(prepared: Prepared) -> None:
    """Whatever the end of the turn does by itself."""


def _may_go(prepared: Prepared, positions: list[int]) -> None:
    names = {b"%d" % number for number in range(HELD)}
    prepared.promised[0] -= names
    prepared.maybe[0] |= names


def _turn(prepared: Prepared) -> None:
    stores = prepared.stores
    stores.finish_turn()
    stores.journal.write_back(stores.now)
    for store in stores.stores:
        stores.journal.cover(_Behind(store), stores.now)
    if stores.journal.wants_checkpoint:
        stores.checkpoint()


class _Behind(NamedTuple):
    """A store as the journal sees it, where there is no queue around it."""

    store: MessageStore

    @property
    def is_leaving(self) -> bool:
        return self.store.is_leaving

    def write_back(self, now: int, *, whole: bool) -> bool:
        return self.store.write_back(now, whole=whole)


def finish(prepared: Prepared) -> None:
    _turn(prepared)


def write_back(prepared: Prepared) -> None:
    prepared.stores.write_back()
    prepared.stores.finish_turn()


def checkpoint(prepared: Prepared) -> None:
    prepared.stores.write_back()
    prepared.stores.finish_turn()
    prepared.stores.checkpoint()


def close(prepared: Prepared) -> None:
    for store in prepared.stores.stores:
        store.close()
    prepared.stores.journal.write()
    prepared.stores.journal.begin_checkpoint().run()
    prepared.stores.journal.close()


class Operation(NamedTuple):
    """Something done once, and then an end of it that may be done again."""

    change: Callable[[Prepared], None]
    end: Callable[[Prepared], None]


OPERATIONS = {
    f"{change.__name__} and {end.__name__}": Operation(change, end)
    for change in (nothing, append, append_large, settle, requeue, purge)
    for end in (finish, write_back, checkpoint, close)
} | {"rotate and finish": Operation(rotate, finish)}


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO], ids=["ENOSPC", "EIO"])
@pytest.mark.parametrize("is_repeated", [True, False], ids=["repeated", "killed"])
def test_a_refused_call_costs_nothing_and_the_operation_can_be_repeated(
    name: str, error: int, is_repeated: bool
) -> None:
    operation = OPERATIONS[name]
    for call in range(CALLS_MAX):
        prepared = Prepared()
        prepared.files.refuse(call, error)
        before = prepared.files.calls
        _carry_out(prepared, operation, is_repeated=is_repeated)
        if prepared.files.calls <= before + call:
            return
        prepared.check(prepared.files.restart())
    raise AssertionError("the operation does not end")


def _carry_out(prepared: Prepared, operation: Operation, *, is_repeated: bool) -> None:
    """Until it succeeds, or until it fails."""
    try:
        operation.change(prepared)
        operation.end(prepared)
    except OSError:
        if is_repeated:
            operation.end(prepared)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("power", [False, True], ids=["kill", "power"])
def test_an_end_at_any_call_loses_nothing_that_was_promised(name: str, power: bool) -> None:
    operation = OPERATIONS[name]
    for call in range(CALLS_MAX):
        prepared = Prepared()
        prepared.files.stop(call)
        try:
            operation.change(prepared)
            operation.end(prepared)
        except Stopped:
            prepared.check(prepared.files.power_failure() if power else prepared.files.restart())
            continue
        return
    raise AssertionError("the operation does not end")


@pytest.mark.parametrize("fault", ["ENOSPC", "EIO", "map", "kill", "power"])
def test_a_recovery_with_any_call_failing_is_repeated(fault: str) -> None:
    for call in range(CALLS_MAX):
        prepared = Prepared()
        files = prepared.files.restart()
        before = files.calls
        if fault == "map":
            files.refuse_map(call)
        elif fault in ("kill", "power"):
            files.stop(call)
        else:
            files.refuse(call, getattr(errno, fault))
        try:
            prepared.stores.again(files)
        except OSError:
            files.accept_everything()
        except Stopped:
            files = files.power_failure() if fault == "power" else files.restart()
        else:
            if fault == "map" or files.calls <= before + call:
                return
        prepared.check(files)
    raise AssertionError("the recovery does not end")


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO], ids=["ENOSPC", "EIO"])
def test_a_queue_deleted_on_a_disk_that_refuses_touches_no_other(error: int) -> None:
    for call in range(CALLS_MAX):
        prepared = Prepared()
        prepared.files.refuse(call, error)
        before = prepared.files.calls
        try:
            prepared.store.delete()
        except OSError:
            prepared.store.delete()
        if prepared.files.calls <= before + call:
            return
        prepared.maybe[0] |= prepared.promised[0] | prepared.settled[0]
        prepared.promised[0], prepared.settled[0] = set(), set()
        prepared.check(prepared.files.restart())
    raise AssertionError("the deletion does not end")
