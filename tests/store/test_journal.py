"""A journal and the stores it covers, through sudden ends: what was synced is there, and nothing comes from nowhere."""

from array import array
from pathlib import PurePosixPath
from random import Random

import pytest

from ipc.limits import JOURNAL_FILE_BYTES_MAX, JOURNAL_FILES_MAX, KIB, TAIL_BYTES_KEPT_MAX, WRITE_BACK_MS
from ipc.settings import StoreSettings
from shards.store.journal import Journal
from shards.store.message_store import MessageStore
from shards.store.recovery import RecoveryReport
from shards.store.replay import read_entries, replay
from tests.simulation.simulated_files import SimulatedFiles, Stopped
from tests.store.messages import record, take

SETTINGS = StoreSettings(segment_bytes_max=64 * KIB)
DIRECTORY = "/data/journal"


def directory(number: int) -> str:
    return f"/data/queues/{number}"


class Stores:
    """Some queues' stores behind one journal, with what a turn and its host do about them."""

    def __init__(self, files: SimulatedFiles, count: int = 1, *, fresh: bool = True) -> None:
        self.files = files
        self.now = 1_000_000
        self.report = RecoveryReport()
        if not fresh:
            replay(files, DIRECTORY, lambda number: directory(number) if number < count else None, self.report)
        self.journal = Journal(files, DIRECTORY)
        self.stores: list[MessageStore] = []
        for number in range(count):
            store = None
            if not fresh:
                store = MessageStore.recover(
                    files, directory(number), SETTINGS, self.report, journal=self.journal, store=number
                )
            self.stores.append(
                store
                or MessageStore(files, directory(number), SETTINGS, durable=True, journal=self.journal, store=number)
            )

    def finish_turn(self) -> None:
        for store in self.stores:
            store.note()
        self.journal.write()
        for store in self.stores:
            store.tidy()

    def write_back(self) -> None:
        self.now += WRITE_BACK_MS
        for store in self.stores:
            store.write_back(self.now, whole=False)

    def sync(self) -> None:
        """A round."""
        self.files.take_unsynced().run()

    def checkpoint(self) -> None:
        self.journal.begin_checkpoint().run()
        self.journal.end_checkpoint()

    def again(self, files: SimulatedFiles) -> "Stores":
        return Stores(files, len(self.stores), fresh=False)

    def bodies(self, number: int = 0) -> list[bytes]:
        return [body for _, body in take(self.stores[number])]


@pytest.fixture
def files() -> SimulatedFiles:
    return SimulatedFiles()


@pytest.fixture
def stores(files: SimulatedFiles) -> Stores:
    return Stores(files)


def segments(files: SimulatedFiles) -> list[str]:
    return [PurePosixPath(path).name for path in files.names() if "/queues/" in path]


def test_one_sync_makes_all_queues_durable(files: SimulatedFiles) -> None:
    stores = Stores(files, 5)
    for number, store in enumerate(stores.stores):
        store.append(record(b"%d" % number))
    stores.finish_turn()
    stores.sync()

    after = stores.again(files.power_failure())

    assert segments(files) == []
    assert [after.bodies(number) for number in range(5)] == [[b"%d" % number] for number in range(5)]


def test_a_sudden_end_of_the_process_loses_nothing_that_was_noted(stores: Stores) -> None:
    stores.stores[0].append(record(b"kept"))
    stores.finish_turn()
    stores.stores[0].append(record(b"of a turn that did not end"))

    assert stores.again(stores.files.restart()).bodies() == [b"kept"]


def test_what_is_settled_in_time_is_never_written_to_its_place(stores: Stores) -> None:
    (store,) = stores.stores
    held: list[int] = []
    for number in range(3_000):
        store.append(record(b"%d" % number + b"x" * 1000))
        held += [position for position, _ in take(store)]
        stores.finish_turn()
        if len(held) > 50:
            store.settle_many(array("Q", held[:25]))
            del held[:25]

    assert segments(stores.files) == []
    assert len(store._tail) <= TAIL_BYTES_KEPT_MAX + 2_000


def test_what_is_not_settled_in_time_is_written_to_its_place(stores: Stores) -> None:
    stores.stores[0].append(record(b"old"))
    stores.finish_turn()
    stores.write_back()

    assert segments(stores.files) == ["0000000001.messages"]
    assert stores.again(stores.files.restart()).bodies() == [b"old"]


def test_settlements_survive_before_they_are_in_an_ack_log(stores: Stores) -> None:
    (store,) = stores.stores
    for number in range(6):
        store.append(record(b"%d" % number))
    stores.finish_turn()
    stores.write_back()
    positions = [position for position, _ in take(store)]
    store.settle_many(array("Q", [positions[4], positions[1]]))
    store.note_return(positions[2])
    store.requeue(positions[2])
    stores.finish_turn()

    after = stores.again(stores.files.restart())

    assert not any(name.endswith(".acks") for name in segments(stores.files))
    assert after.stores[0].returned_count == 1
    assert after.bodies() == [b"0", b"2", b"3", b"5"]


def test_a_replay_that_is_cut_off_is_repeated(stores: Stores) -> None:
    (store,) = stores.stores
    for number in range(20):
        store.append(record(b"%d" % number + b"x" * 500))
        stores.finish_turn()
    positions = [position for position, _ in take(store)]
    store.settle_many(array("Q", positions[::3]))
    stores.finish_turn()
    expected = [b"%d" % number for number in range(20) if number % 3]
    for calls in range(40):
        files = stores.files.restart()
        files.stop(calls)
        try:
            after = stores.again(files)
        except Stopped:
            after = stores.again(files.restart())
        assert [body.rstrip(b"x") for body in after.bodies()] == expected, calls


def test_a_torn_block_takes_its_turn_with_it_and_nothing_else(stores: Stores) -> None:
    (store,) = stores.stores
    store.append(record(b"whole"))
    stores.finish_turn()
    stores.files.stop(0)
    store.append(record(b"torn" + b"x" * 1000))
    with pytest.raises(Stopped):
        stores.finish_turn()

    after = stores.again(stores.files.restart())

    assert [body.rstrip(b"x") for body in after.bodies()] in ([b"whole"], [b"whole", b"torn"])
    assert after.report.is_clean


def test_damage_in_the_middle_costs_its_turn_and_is_told(stores: Stores) -> None:
    for number in range(3):
        stores.stores[0].append(record(b"%d" % number))
        stores.finish_turn()
    content = stores.files.content(f"{DIRECTORY}/0000000001.journal")
    stores.files.overwrite(f"{DIRECTORY}/0000000001.journal", content.index(record(b"1")), b"rot")

    after = stores.again(stores.files.restart())

    assert after.bodies() == [b"0", b"2"]
    assert after.report.segments_damaged == 1


def test_entries_of_a_store_that_has_gone_are_passed_over(files: SimulatedFiles) -> None:
    stores = Stores(files, 2)
    for store in stores.stores:
        store.append(record(b"x"))
    stores.finish_turn()
    stores.stores[1].delete()
    del stores.stores[1]

    after = stores.again(files.restart())

    assert after.bodies() == [b"x"]
    assert not any(name.startswith(directory(1)) for name in after.files.names())


def test_transient_messages_alone_are_not_noted(stores: Stores) -> None:
    (store,) = stores.stores
    transient = bytearray(record(b"transient"))
    transient[10] = 0
    store.append(bytes(transient))
    stores.finish_turn()
    assert not list(read_entries(stores.files, DIRECTORY, RecoveryReport()))

    store.append(record(b"persistent"))
    stores.finish_turn()
    assert stores.again(stores.files.restart()).bodies() == [b"transient", b"persistent"]


def test_files_are_used_again_once_a_checkpoint_has_covered_them(stores: Stores) -> None:
    (store,) = stores.stores
    used: set[str] = set()
    for _ in range(12 * JOURNAL_FILE_BYTES_MAX // (200 * KIB)):
        store.append(record(b"x" * 200 * KIB))
        stores.finish_turn()
        stores.write_back()
        take(store)
        used.update(name for name in stores.files.names() if name.startswith(DIRECTORY))
        if stores.journal.wants_checkpoint:
            stores.checkpoint()

    assert len(used) > 10
    assert len([name for name in stores.files.names() if name.startswith(DIRECTORY)]) <= 4


def test_without_checkpoints_a_journal_is_bounded_and_says_so(stores: Stores) -> None:
    (store,) = stores.stores
    turns = 0
    refusal = ""
    while not refusal and turns < 1000:
        store.append(record(b"x" * 512 * KIB))
        try:
            stores.finish_turn()
        except OSError as fault:
            refusal = str(fault)
        else:
            turns += 1
    assert "full until a checkpoint" in refusal

    assert turns >= JOURNAL_FILES_MAX * JOURNAL_FILE_BYTES_MAX // (513 * KIB)
    stores.write_back()
    stores.checkpoint()
    stores.journal.write()
    assert len(stores.again(stores.files.restart()).bodies()) == turns + 1


def test_a_refused_write_keeps_everything_for_the_next_one(stores: Stores) -> None:
    for number in range(30):
        stores.stores[0].append(record(b"%d" % number))
        if number % 3 == 0:
            stores.files.refuse(0)
            with pytest.raises(OSError, match="No space"):
                stores.finish_turn()
            stores.files.accept_everything()
        stores.finish_turn()

    assert stores.again(stores.files.restart()).bodies() == [b"%d" % number for number in range(30)]


class Ledger:
    """What must be true after a sudden end of each queue: numbers of messages, in order of publishing."""

    def __init__(self, count: int) -> None:
        self.published: list[list[int]] = [[] for _ in range(count)]
        self.durable: list[set[int]] = [set() for _ in range(count)]  # synced by a round
        self.noted: list[set[int]] = [set() for _ in range(count)]  # the kernel has them
        self.settled: list[set[int]] = [set() for _ in range(count)]
        self.settled_noted: list[set[int]] = [set() for _ in range(count)]

    def turn_ended(self) -> None:
        for number, published in enumerate(self.published):
            self.noted[number].update(published)
            self.settled_noted[number] |= self.settled[number]

    def synced(self) -> None:
        for durable, noted in zip(self.durable, self.noted, strict=True):
            durable |= noted


@pytest.mark.parametrize("power", [False, True], ids=["kill", "power"])
@pytest.mark.parametrize("seed", range(60))
def test_any_sudden_end_loses_nothing_that_was_promised(seed: int, power: bool) -> None:
    chance = Random(seed)
    count = chance.choice((1, 3))
    stores = Stores(SimulatedFiles(seed), count)
    ledger = Ledger(count)
    held: list[list[tuple[int, int]]] = [[] for _ in range(count)]
    sequence = 0
    for _ in range(chance.randrange(5, 120)):
        number = chance.randrange(count)
        store = stores.stores[number]
        action = chance.random()
        if action < 0.45:
            for _ in range(chance.randrange(1, 8)):
                store.append(record(b"%d" % sequence + b"." * chance.choice((0, 40, 3000))))
                ledger.published[number].append(sequence)
                sequence += 1
        elif action < 0.65:
            held[number] += [(int(body.rstrip(b".")), at) for at, body in take(store, chance.randrange(1, 12))]
        elif action < 0.85 and held[number]:
            chance.shuffle(held[number])
            done = [held[number].pop() for _ in range(chance.randrange(1, len(held[number]) + 1))]
            store.settle_many(array("Q", [at for _, at in done]))
            ledger.settled[number].update(found for found, _ in done)
        elif held[number] and chance.random() < 0.3:
            store.requeue(held[number].pop()[1])
        if chance.random() < 0.7:
            stores.finish_turn()
            ledger.turn_ended()
        if chance.random() < 0.3:
            stores.finish_turn()
            ledger.turn_ended()
            stores.sync()
            ledger.synced()
        if chance.random() < 0.15:
            stores.write_back()
            ledger.settled_noted = [set(settled) for settled in ledger.settled]

    after = stores.again(stores.files.power_failure() if power else stores.files.restart())

    for number in range(count):
        found = [int(body.rstrip(b".")) for body in after.bodies(number)]
        promised = (ledger.durable if power else ledger.noted)[number] - ledger.settled[number]
        assert promised <= set(found), "lost"
        assert set(found) <= set(ledger.published[number]), "from nowhere"
        assert found == sorted(found), "out of order"
        if not power:
            assert not set(found) & ledger.settled_noted[number], "settled and back"
