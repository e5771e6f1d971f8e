"""A journal and the stores it covers, through sudden ends: what was synced is there, and nothing comes from nowhere."""

import errno
from array import array
from pathlib import PurePosixPath
from random import Random

import pytest

from ipc.limits import JOURNAL_FILE_BYTES_MAX, JOURNAL_FILES_MAX, KIB, TAIL_BYTES_KEPT_MAX, WRITE_BACK_MS
from ipc.messages.commands import Level
from ipc.settings import StoreSettings
from shards.compaction.compactable import ShrinkPolicy
from shards.store.blocks import JOURNAL_KINDS, PAGE_BYTES, BlockWalk, EntryKind, next_page
from shards.store.journal import Journal
from shards.store.message_store import MessageStore
from shards.store.priority_store import PriorityStore
from shards.store.recovery import RecoveryReport
from shards.store.replay import read_entries, replay
from tests.simulation.simulated_files import SimulatedFiles, Stopped
from tests.simulation.small_limits import JOURNAL_SPARE_FILES_MAX, small_limits
from tests.store.messages import record, take

SETTINGS = StoreSettings(segment_bytes_max=64 * KIB)
DIRECTORY = "/data/journal"
POLICY = ShrinkPolicy(ratio=1.0, floor_bytes=0, release_bytes_max=0, cold_before=0)


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
    assert len(store.tail.records) <= TAIL_BYTES_KEPT_MAX + 2_000


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


def blocks_of(files: SimulatedFiles, number: int = 1) -> list[tuple[int, int]]:
    """Of a file of the journal: where each begins, and where the next may."""
    content = files.content(f"{DIRECTORY}/{number:010d}.journal")
    return [(block.begin, block.next_offset) for block in BlockWalk(content, len(content), None, JOURNAL_KINDS)]


def test_a_page_that_a_sync_has_covered_is_not_written_again(stores: Stores) -> None:
    bodies = [b"%d" % number + b"x" * 2_000 for number in range(9)]
    for number, body in enumerate(bodies):
        stores.stores[0].append(record(body))
        stores.finish_turn()
        if number % 3 == 2:
            stores.sync()

    begun = blocks_of(stores.files)
    assert [begin for begin, _ in begun[3::3]] == [next_page(end) for _, end in begun[2:-1:3]]
    assert [begin for begin, _ in begun[1::3] + begun[2::3]] == [end for _, end in begun[::3] + begun[1::3]]
    after = stores.again(stores.files.restart())
    assert after.bodies() == bodies
    assert after.report.is_clean


def test_what_is_small_does_not_take_a_page_of_its_own(stores: Stores) -> None:
    for number in range(50):
        stores.stores[0].append(record(b"%d" % number))
        stores.finish_turn()
        stores.sync()

    assert blocks_of(stores.files)[-1][1] < 2 * PAGE_BYTES


def test_damage_before_a_page_is_told_all_the_same(stores: Stores) -> None:
    for number in range(3):
        stores.stores[0].append(record(b"%d" % number + b"x" * 1_500))
        stores.finish_turn()
        if number == 1:
            stores.sync()
    content = stores.files.content(f"{DIRECTORY}/0000000001.journal")
    stores.files.overwrite(f"{DIRECTORY}/0000000001.journal", content.index(b"1xxx"), b"rot")

    after = stores.again(stores.files.restart())

    assert [body[:1] for body in after.bodies()] == [b"0", b"2"]
    assert after.report.segments_damaged == 1


def test_a_page_that_could_not_be_written_is_written_at_the_same_place(stores: Stores) -> None:
    def refuse() -> None:
        stores.files.refuse(0)
        with pytest.raises(OSError, match="No space"):
            stores.finish_turn()

    bodies = [b"%d" % number + b"x" * 1_500 for number in range(4)]
    for number, body in enumerate(bodies):
        stores.stores[0].append(record(body))
        if number == 1:
            refuse()  # and the journal goes on in another file, which it cannot do as long as that waits
        if number == 3:
            stores.sync()
            refuse()
            stores.sync()
            refuse()
        stores.finish_turn()

    assert list(stores.journal.numbers()) == [1, 2]
    assert [begin for begin, _ in blocks_of(stores.files, 2)][2:] == [PAGE_BYTES]
    after = stores.again(stores.files.restart())
    assert after.bodies() == bodies
    assert after.report.is_clean


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


def test_what_is_settled_while_writes_are_refused_is_kept_in_memory_only(stores: Stores) -> None:
    (store,) = stores.stores
    for number in range(3):
        store.append(record(b"%d" % number))
    stores.finish_turn()
    positions = [position for position, _ in take(store)]
    stores.files.refuse(0)
    store.settle_many(array("Q", positions[:2]))
    with pytest.raises(OSError, match="No space"):
        stores.finish_turn()

    assert stores.again(stores.files.restart()).bodies() == [b"0", b"1", b"2"]

    stores.files.accept_everything()
    stores.finish_turn()
    assert stores.again(stores.files.restart()).bodies() == [b"2"]


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


# what may be used again -----------------------------------------------------------------------------------------------


class Behind:
    """A queue as the journal sees it."""

    def __init__(self, store: MessageStore) -> None:
        self._store = store

    @property
    def is_leaving(self) -> bool:
        return self._store.is_leaving

    def write_back(self, now: int, *, whole: bool) -> bool:
        return self._store.write_back(now, whole=whole)


def last_block_lost(files: SimulatedFiles, count: int = 1) -> SimulatedFiles:
    """After a power failure that took the journal's last blocks and nothing else."""
    path = f"{DIRECTORY}/0000000001.journal"
    for _ in range(count):
        files.overwrite(path, files.content(path).rindex(b"EBK"), b"\0\0\0")
    return files.restart()


def test_the_oldest_files_go_first_so_that_nothing_outlives_the_news_that_it_is_settled(stores: Stores) -> None:
    (store,) = stores.stores
    with small_limits():
        for _ in range(4):  # each in a file of its own, with what became of the one before, which is never written
            store.append(record(b"x" * 5000))
            store.note()
            stores.journal.write()
            store.settle_many(array("Q", [position for position, _ in take(store)]))
        assert list(stores.journal.numbers()) == [1, 2, 3, 4]
        stores.finish_turn()
        stores.checkpoint()

        assert stores.again(stores.files.restart()).bodies() == []


def test_what_is_young_is_written_when_its_file_is_full(files: SimulatedFiles) -> None:
    stores = Stores(files, 2)
    slow, fast = stores.stores
    with small_limits():
        slow.append(record(b"young", stores.now))
        stores.finish_turn()
        stores.journal.cover(Behind(slow), stores.now)
        for _ in range(60):
            fast.append(record(b"x" * 500))
            stores.finish_turn()
            fast.flush()
            stores.journal.write_back(stores.now)
            if stores.journal.wants_checkpoint:
                stores.checkpoint()

        assert stores.again(files.restart()).bodies(0) == [b"young"]


def test_a_file_stays_while_what_it_covers_cannot_be_written(files: SimulatedFiles) -> None:
    stores = Stores(files, 2)
    stuck, fast = stores.stores
    with small_limits():
        stuck.append(record(b"stuck", 0))
        stores.finish_turn()
        stores.journal.cover(Behind(stuck), stores.now)
        for _ in range(2):
            stores.now += WRITE_BACK_MS
            files.refuse(0, errno.EIO)
            with pytest.raises(OSError, match="Input/output"):
                stores.journal.write_back(stores.now)
        for _ in range(16):
            fast.append(record(b"x" * 500))
            stores.finish_turn()
            fast.flush()

        assert next(stores.journal.numbers()) == 1
        assert not stores.journal.wants_checkpoint


def test_a_file_that_cannot_be_unlinked_is_kept_for_another_time(stores: Stores) -> None:
    (store,) = stores.stores
    with small_limits():
        for _ in range(50):
            store.append(record(b"x" * 500))
            stores.finish_turn()
            if len(list(stores.journal.numbers())) > JOURNAL_SPARE_FILES_MAX + 2:
                break
        store.flush()
        stores.journal.begin_checkpoint().run()
        stores.files.refuse(0, errno.EIO)
        stores.journal.end_checkpoint()
        stores.files.accept_everything()
        for _ in range(50):
            store.append(record(b"x" * 500))
            stores.finish_turn()
            store.flush()
            if stores.journal.wants_checkpoint:
                stores.checkpoint()

        assert len([name for name in stores.files.names() if name.startswith(DIRECTORY)]) <= 4


def test_positions_a_journal_knows_are_not_given_again(stores: Stores) -> None:
    """Not even those of messages it has never had, when all it had are gone."""
    (store,) = stores.stores
    transient = bytearray(record(b"transient"))
    transient[10] = 0
    store.append(record(b"persistent"))
    stores.finish_turn()
    store.append(bytes(transient))
    store.append(bytes(transient))
    positions = [position for position, _ in take(store)]
    store.settle(positions[2])
    store.settle(positions[0])
    stores.finish_turn()
    store._drop_settled_front()
    store.settle(positions[1])
    stores.finish_turn()
    for _ in range(3):
        store.append(record(b"as large!"))
    stores.finish_turn()

    assert stores.again(stores.files.restart()).bodies() == [b"as large!"] * 3


def test_a_priority_level_that_a_journal_knows_outlives_a_pass(files: SimulatedFiles) -> None:
    journal = Journal(files, DIRECTORY)
    store = PriorityStore(files, directory(0), SETTINGS, durable=True, priority_max=3, journal=journal, store=0)
    for body in (b"gone", b"kept"):
        store.level(2).append(record(body))
        store.note()
        journal.write()
        if body == b"gone":
            store.settle_many(array("Q", [position for position, _ in take(store.level(2))]))
            store.note()
            journal.write()
            store.tidy()
            list(store.shrink(Level.CRITICAL, POLICY))

    after = Stores(files.restart(), fresh=False)

    assert after.bodies() == [b"kept"]


# what is only half there ----------------------------------------------------------------------------------------------


def test_what_stands_before_a_written_message_and_is_not_there_was_settled(stores: Stores) -> None:
    """Put behind it, it would come out of order; and positions in a file must ascend."""
    (store,) = stores.stores
    for number in range(4):
        store.append(record(b"%d" % number))
    stores.finish_turn()
    positions = [position for position, _ in take(store, 2)]
    store.settle_many(array("Q", positions))
    stores.finish_turn()
    stores.write_back()

    after = stores.again(last_block_lost(stores.files))

    assert after.bodies() == [b"2", b"3"]


def test_settled_neighbours_of_two_blocks_stay_settled(stores: Stores) -> None:
    (store,) = stores.stores
    for number in range(6):
        store.append(record(b"%d" % number))
        if number % 3 == 2:
            stores.finish_turn()
    after = stores.again(stores.files.restart())  # two blocks, and no gap between their positions
    taken = [position for position, _ in take(after.stores[0], 4)]
    after.stores[0].settle_many(array("Q", taken[2:]))
    after.stores[0].note_return(taken[0])
    after.finish_turn()

    last = after.again(after.files.restart())

    assert last.stores[0].ready_count == 4
    assert last.bodies() == [b"0", b"1", b"4", b"5"]


def test_what_has_come_back_is_remembered_behind_a_block_that_is_settled(stores: Stores) -> None:
    (store,) = stores.stores
    for number in range(6):
        store.append(record(b"%d" % number))
        if number % 3 == 2:
            stores.finish_turn()
    after = stores.again(stores.files.restart())
    taken = [position for position, _ in take(after.stores[0], 4)]
    after.stores[0].settle_many(array("Q", taken[:3]))
    after.stores[0].note_return(taken[3])
    after.finish_turn()

    assert after.again(after.files.restart()).stores[0].returned_count == 1


def test_a_settlement_is_noted_before_its_segment_goes_whoever_lets_it_go(stores: Stores) -> None:
    (store,) = stores.stores
    store.append(record(b"settled"))
    stores.finish_turn()
    stores.write_back()
    store.settle_many(array("Q", [position for position, _ in take(store)]))
    list(store.shrink(Level.TRIM, POLICY))
    stores.finish_turn()

    assert stores.again(stores.files.restart()).bodies() == []


def test_what_a_killed_process_had_written_is_synced_before_the_journal_goes(stores: Stores) -> None:
    stores.stores[0].append(record(b"confirmed"))
    stores.finish_turn()
    stores.sync()
    stores.write_back()
    after = stores.again(stores.files.restart())

    for _ in range(20):
        assert after.again(after.files.power_failure()).bodies() == [b"confirmed"]


def test_a_segment_that_was_settled_does_not_come_back_after_a_checkpoint(files: SimulatedFiles) -> None:
    stores = Stores(files, 2)
    store, other = stores.stores
    with small_limits():
        store.append(record(b"settled"))
        stores.finish_turn()
        stores.write_back()
        stores.checkpoint()
        store.settle_many(array("Q", [position for position, _ in take(store)]))
        stores.finish_turn()
        stores.sync()
        list(store.shrink(Level.TRIM, POLICY))
        for _ in range(6):  # so that the journal writes over what it had of it
            other.append(record(b"x" * 5000))
            stores.finish_turn()
            other.flush()
            if stores.journal.wants_checkpoint:
                stores.checkpoint()

        for _ in range(20):
            assert stores.again(files.power_failure()).bodies() == []


def test_what_became_of_transient_messages_is_noted_once_they_are(stores: Stores) -> None:
    (store,) = stores.stores
    transient = bytearray(record(b"transient", 0))
    transient[10] = 0
    for _ in range(4):
        store.append(bytes(transient))
    positions = [position for position, _ in take(store)]
    store.settle(positions[0])
    store.settle(positions[2])
    store._drop_settled_front()
    store.append(record(b"persistent"))
    stores.finish_turn()

    assert stores.again(stores.files.restart()).bodies() == [b"transient"] * 2 + [b"persistent"]


def test_transient_messages_that_were_written_and_settled_do_not_come_back(stores: Stores) -> None:
    (store,) = stores.stores
    transient = bytearray(record(b"transient", 0))
    transient[10] = 0
    for _ in range(3):
        store.append(bytes(transient))
    stores.finish_turn()
    positions = [position for position, _ in take(store)]
    store.settle(positions[1])
    stores.write_back()
    store.settle(positions[2])
    stores.finish_turn()

    assert stores.again(stores.files.restart()).bodies() == [b"transient"]


def test_no_settlement_stands_in_front_of_what_it_settles(stores: Stores) -> None:
    """Files are used again in their order: the one with the settlement would go first, and the message come back."""
    (store,) = stores.stores
    transient = bytearray(record(b"transient"))
    transient[10] = 0
    store.append(record(b"persistent"))
    stores.finish_turn()
    store.append(bytes(transient))
    settled = [position for position, _ in take(store)][1]
    store.settle(settled)
    stores.finish_turn()
    store.append(record(b"takes the transient one along"))
    stores.finish_turn()

    kinds = [entry.kind for entry in read_entries(stores.files, DIRECTORY, RecoveryReport())]

    assert kinds[-2:] == [EntryKind.APPENDED, EntryKind.SETTLED_OFFSETS]


def test_acks_that_find_no_room_wait_while_something_younger_does(stores: Stores, files: SimulatedFiles) -> None:
    (store,) = stores.stores
    store.append(record(b"old"))
    stores.finish_turn()
    stores.write_back()
    store.settle(take(store)[0][0])
    stores.now += WRITE_BACK_MS
    store.append(record(b"young", timestamp=stores.now))
    stores.finish_turn()
    files.fill_up()

    with pytest.raises(OSError):
        store.write_back(stores.now, whole=False)

    assert stores.again(files.restart()).bodies() == [b"young"]
