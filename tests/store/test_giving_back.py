"""A store gives back what it does not need: rebuilt collections, idle files, pages of segments nobody reads."""

from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from ipc.limits import KIB, MIB
from ipc.messages.commands import Level
from ipc.settings import StoreSettings
from shards.compaction.cascade import cascade
from shards.compaction.compactable import LOOKED, SEGMENT_PAGES, Compactable, Failed, Freed, Offload, ShrinkPolicy, Step
from shards.store.files import DiskFiles
from shards.store.journal import Journal
from shards.store.message_store import MessageStore
from shards.store.recovery import RecoveryReport
from shards.store.register import Register
from shards.store.segment import Segment
from tests.simulation.simulated_files import SimulatedFiles
from tests.store.messages import record, take

SETTINGS = StoreSettings(segment_bytes_max=64 * KIB)
QUEUE = "/data/queues/1"
OTHER = "/data/queues/2"
SEGMENT_RECORDS = 12  # of 5,000 bytes
SEGMENT_BYTES = 64 * KIB  # a little more than such a segment has
COLD_BEFORE = 1000
MINUTES = 600_000  # of broker time


def policy(release_bytes_max: int = 1 << 40, now: int = 2 * COLD_BEFORE) -> ShrinkPolicy:
    return ShrinkPolicy(
        ratio=2.0, floor_bytes=4096, release_bytes_max=release_bytes_max, cold_before=COLD_BEFORE, now=now
    )


def all_cold(time: "Time", release_bytes_max: int = 1 << 40) -> ShrinkPolicy:
    return structs.replace(policy(release_bytes_max, time.now), cold_before=time.now)


class Time:
    """Goes on when told."""

    def __init__(self, now: int = 1) -> None:
        self.now = now


class Stores(Compactable):
    def __init__(self, *stores: MessageStore) -> None:
        self.stores = stores

    def children(self) -> tuple[MessageStore, ...]:
        return self.stores


def steps_of(root: Compactable, level: Level, policy: ShrinkPolicy) -> Iterator[Step]:
    """Of a pass, but for mere looking."""
    return (step for _label, step in cascade(root, level, policy) if step != LOOKED)


def shrunk(root: Compactable, level: Level, release_bytes_max: int = 1 << 40, now: int = 2 * COLD_BEFORE) -> list[Step]:
    return shrunk_by(root, policy(release_bytes_max, now), level)


def shrunk_by(root: Compactable, policy: ShrinkPolicy, level: Level = Level.RELEASE) -> list[Step]:
    steps = []
    for step in steps_of(root, level, policy):
        if isinstance(step, Offload):
            step.work()
        steps.append(step)
    return steps


def released(steps: list[Step]) -> list[int]:
    return [step.size_bytes for step in steps if isinstance(step, Freed) and step.kind == SEGMENT_PAGES]


def backlog(
    files: SimulatedFiles | DiskFiles, directory: str = QUEUE, time: Time | None = None, *, seconds: int = 0
) -> MessageStore:
    """Six segments, none read; so many seconds pass before each."""
    time = time or Time()
    store = MessageStore(files, directory, SETTINGS, durable=True, moment=time)
    for number in range(66):
        if number % 11 == 0:
            time.now += 1000 * seconds
        store.append(record(b"%06d" % number + bytes(5000), timestamp=time.now))
        store.flush()
    assert len(store.segments.by_number) == 6
    return store


def test_a_settled_active_segment_goes_at_the_gentlest_level() -> None:
    files = SimulatedFiles()
    store = MessageStore(files, QUEUE, SETTINGS, durable=True)
    store.append(record(b"x"))
    store.flush()
    store.settle(take(store)[0][0])
    store.flush()
    was_vacant = store.is_vacant

    shrunk(store, Level.TRIM)

    assert files.names() == []
    assert (was_vacant, store.is_vacant) == (False, True)
    store.append(record(b"y"))
    store.flush()
    assert [body for _, body in take(store)] == [b"y"]


@pytest.mark.parametrize("goes", ["acknowledged", "deleted"])
def test_segments_that_have_gone_before_they_were_made_known_are_forgotten(goes: str) -> None:
    """What they remembered, offsets for example, goes with them; what is left of them at the gentlest level."""
    files = SimulatedFiles()
    register = Register(files, "/data/segments", lambda: ())
    journal = Journal(files, "/data/journal", register)
    stores = [
        MessageStore(files, f"/data/queues/{number}", SETTINGS, durable=True, journal=journal, store=number)
        for number in (1, 2)
    ]
    for _ in range(5 * SEGMENT_RECORDS):
        for store in stores:
            store.append(record(b"x" * 5_000))
    for store in stores:
        store.flush()
    sealed = [segment for _, segment in register._sealed if isinstance(segment, Segment)]
    going = [segment for segment in sealed if segment.path.startswith(QUEUE)]
    assert len(going) > 3
    before = dict(register.holdings())["register"]

    for position, _ in take(stores[0])[:-1]:
        stores[0].settle(position)
    assert any(segment.remembers for segment in going)
    if goes == "acknowledged":
        stores[0].tidy()
    else:
        stores[0].delete()

    assert not any(segment.remembers for segment in going)
    freed = [steps_of(register, Level.TRIM, some) for some in (structs.replace(policy(), is_dry=True), policy())]
    kinds = [[step.kind for step in steps if isinstance(step, Freed) and step.size_bytes > 0] for steps in freed]
    assert kinds == [["register"], ["register"]]
    assert [segment for _, segment in register._sealed] == [segment for segment in sealed if segment not in going]
    assert dict(register.holdings())["register"] < before


def test_an_active_segment_in_use_stays() -> None:
    files = SimulatedFiles()
    store = MessageStore(files, QUEUE, SETTINGS, durable=True)
    store.append(record(b"x"))
    store.flush()
    take(store)

    assert shrunk(store, Level.TRIM) == []
    assert len(files.names()) == 1


def test_many_requeued_positions_leave_no_empty_room() -> None:
    files = SimulatedFiles()
    store = MessageStore(files, QUEUE, StoreSettings(), durable=True)
    for number in range(20_000):
        store.append(record(number))
    store.flush()
    taken = take(store)
    for position, _ in taken:
        store.requeue(position)

    assert [body for _, body in take(store, 19_999)] == [body for _, body in taken[:-1]]
    shrunk(store, Level.TRIM)

    assert [body for _, body in take(store)] == [taken[-1][1]]


def test_cold_segments_are_released_but_never_the_ones_in_use() -> None:
    files = SimulatedFiles()
    store = backlog(files)
    take(store, 1)

    steps = shrunk(store, Level.RELEASE)

    assert len(released(steps)) == 4  # of six: one is read, one is written
    assert [type(step) for step in steps] == [Offload, Freed] * 4


def test_pages_are_dropped_by_a_thread_before_they_count_as_given_back() -> None:
    files = SimulatedFiles()
    store = backlog(files)

    steps = steps_of(store, Level.RELEASE, policy())

    assert isinstance(next(steps), Offload)


def test_nothing_is_released_below_that_level() -> None:
    assert shrunk(backlog(SimulatedFiles()), Level.TRIM) == []


def test_what_was_released_is_not_released_again_until_it_is_read() -> None:
    store = backlog(SimulatedFiles())
    assert len(released(shrunk(store, Level.RELEASE))) == 4
    assert released(shrunk(store, Level.RELEASE)) == []

    taken = take(store)

    assert len(released(shrunk(store, Level.RELEASE, now=MINUTES))) == 5
    assert len(taken) == 66


def test_what_was_read_back_within_a_minute_is_kept_for_a_while() -> None:
    time = Time()
    store = backlog(SimulatedFiles(), time=time)
    assert len(released(shrunk(store, Level.RELEASE, now=MINUTES))) == 4
    time.now = MINUTES + 1_000
    take(store)

    assert len(released(shrunk_by(store, all_cold(time)))) == 1  # read for the first time only now
    time.now += 59_000
    assert released(shrunk_by(store, all_cold(time))) == []
    time.now += 1_000
    assert len(released(shrunk_by(store, all_cold(time)))) == 4


def test_a_pass_keeps_to_its_budget() -> None:
    store = backlog(SimulatedFiles())

    assert sum(released(shrunk(store, Level.RELEASE, release_bytes_max=130 * KIB))) <= 130 * KIB
    assert released(shrunk(store, Level.RELEASE, release_bytes_max=0)) == []


def test_segments_written_lately_stay() -> None:
    store = backlog(SimulatedFiles(), time=Time(COLD_BEFORE + 1))

    assert released(shrunk(store, Level.RELEASE)) == []


def test_segments_read_lately_stay() -> None:
    time = Time()
    store = backlog(SimulatedFiles(), time=time)
    first, *_ = take(store)
    time.now = COLD_BEFORE + 1
    store.read(first[0])

    assert len(released(shrunk(store, Level.RELEASE))) == 4  # of five that nobody writes to


def segments(directory: str, *numbers: int) -> list[str]:
    return [f"{directory}/{number:010d}.messages" for number in numbers]


def in_turn(files: SimulatedFiles, time: Time) -> tuple[MessageStore, MessageStore]:
    """Two stores of three sealed segments each, written in turn; and what is written last."""
    stores = (
        MessageStore(files, QUEUE, SETTINGS, durable=True, moment=time),
        MessageStore(files, OTHER, SETTINGS, durable=True, moment=time),
    )
    for _ in range(4):
        for store in stores:
            time.now += 1000
            for _ in range(SEGMENT_RECORDS):
                store.append(record(bytes(5000), timestamp=time.now))
            store.flush()
    return stores


@pytest.mark.parametrize("is_reversed", [False, True])
def test_the_coldest_segments_of_all_stores_go_first_whichever_store_comes_first(is_reversed: bool) -> None:
    files, time = SimulatedFiles(), Time()
    stores = in_turn(files, time)
    take(stores[0], 1)
    take(stores[1], 1)
    owner = Stores(*(reversed(stores) if is_reversed else stores))
    policy = all_cold(time, release_bytes_max=3 * SEGMENT_BYTES)
    foretold = released([*steps_of(owner, Level.RELEASE, structs.replace(policy, is_dry=True))])
    assert files.released == []

    steps = shrunk_by(owner, policy)

    assert files.released == [*segments(QUEUE, 2), *segments(OTHER, 2), *segments(QUEUE, 3)]
    assert released(steps) == foretold


def test_what_was_read_is_warmer_than_what_was_written_before() -> None:
    files, time = SimulatedFiles(), Time()
    stores = in_turn(files, time)
    time.now += 1000
    (first, _), *_rest = take(stores[0])
    time.now += 1000
    stores[0].read(first)

    shrunk_by(Stores(*stores), all_cold(time))

    assert files.released == [*segments(OTHER, 2, 3), *segments(QUEUE, 2, 3), *segments(QUEUE, 1)]


def test_what_is_read_while_the_pass_is_under_way_stays_and_all_others_go() -> None:
    files, time = SimulatedFiles(), Time()
    store, other = in_turn(files, time)
    taken = take(store)
    take(other)
    steps = steps_of(Stores(store, other), Level.RELEASE, all_cold(time))
    next(steps)

    time.now += 1000
    store.read(taken[SEGMENT_RECORDS][0])
    assert list(steps)

    assert files.released == [*segments(QUEUE, 1, 3), *segments(OTHER, 1, 2, 3)]


def test_what_is_read_while_a_thread_drops_its_pages_was_not_given_back() -> None:
    files, time = SimulatedFiles(), Time()
    store, _other = in_turn(files, time)
    (first, _), *_rest = take(store)
    steps = steps_of(store, Level.RELEASE, all_cold(time))
    offload = next(steps)
    assert isinstance(offload, Offload)

    store.read(first)
    offload.work()

    assert len(released(list(steps))) == 2  # of three


def test_a_restart_leaves_the_order_in_which_segments_were_written() -> None:
    files, time = SimulatedFiles(), Time()
    for store in in_turn(files, time):
        store.close()
    recovered = [
        MessageStore.recover(files, directory, SETTINGS, RecoveryReport(), moment=time) for directory in (OTHER, QUEUE)
    ]

    shrunk_by(Stores(*(store for store in recovered if store is not None)), all_cold(time))

    assert files.released == [
        f"{directory}/{number:010d}.messages" for number in (2, 3, 4) for directory in (QUEUE, OTHER)
    ]


def test_a_time_ahead_that_a_file_tells_does_not_keep_its_pages() -> None:
    files, time = SimulatedFiles(), Time()
    for store in in_turn(files, Time(1 << 40)):
        store.close()
    recovered = MessageStore.recover(files, QUEUE, SETTINGS, RecoveryReport(), moment=time)
    assert recovered is not None

    shrunk_by(recovered, all_cold(time))

    assert files.released == segments(QUEUE, 2, 3, 4)


def test_segments_that_go_while_the_pass_is_under_way_are_passed_by() -> None:
    files = SimulatedFiles()
    store = backlog(files)
    steps = steps_of(store, Level.RELEASE, policy())
    offload = next(steps)
    assert isinstance(offload, Offload)

    store.settle_many(array("Q", [position for position, _ in take(store)]))
    store.flush()
    offload.work()

    assert released(list(steps)) == []
    assert len(files.released) == 1


def test_a_store_deleted_in_the_middle_of_a_pass_is_no_error() -> None:
    store = backlog(SimulatedFiles())
    steps = steps_of(store, Level.RELEASE, policy())
    next(steps)

    store.delete()

    assert list(steps) == []


def test_a_disk_that_refuses_fails_the_step_and_not_the_pass() -> None:
    files = SimulatedFiles()
    store = MessageStore(files, QUEUE, SETTINGS, durable=True)
    store.append(record(b"x"))
    store.flush()
    store.settle(take(store)[0][0])
    store.flush()
    files.refuse_everything()

    (step,) = shrunk(store, Level.TRIM)

    assert isinstance(step, Failed)
    files.accept_everything()
    store.close()
    assert files.names() == []


def resident_file_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssFile:"):
            return int(line.split()[1]) * KIB
    raise AssertionError("no RssFile in /proc/self/status")


def test_released_pages_leave_the_process_and_come_back_unharmed(tmp_path: Path) -> None:
    files = DiskFiles(descriptors_open_max=64)
    store = MessageStore(files, str(tmp_path / "1"), StoreSettings(segment_bytes_max=4 * MIB), durable=True)
    for number in range(600):
        store.append(record(b"%06d" % number + bytes(50_000)))
    store.flush()
    taken = take(store)
    for position, _ in taken:
        store.requeue(position)
    resident = resident_file_bytes()

    steps = shrunk(store, Level.RELEASE)

    if resident_file_bytes() > resident - 16 * MIB:
        pytest.fail(f"only {resident - resident_file_bytes()} bytes left the process")
    assert sum(released(steps)) > 16 * MIB
    assert take(store) == taken


# a dry run ------------------------------------------------------------------------------------------------------------


def test_a_dry_run_foretells_what_a_store_gives_back_and_touches_no_file(tmp_path: Path) -> None:
    files = DiskFiles(64)
    store = backlog(files, str(tmp_path / "q"))
    dry = structs.replace(policy(), is_dry=True)

    foretold = released([*steps_of(store, Level.RELEASE, dry)])
    again = released([*steps_of(store, Level.RELEASE, dry)])

    assert foretold
    assert again == foretold
    assert released(shrunk(store, Level.RELEASE)) == foretold


def test_a_dry_run_leaves_a_settled_segment_where_it_is() -> None:
    files = SimulatedFiles()
    store = MessageStore(files, QUEUE, SETTINGS, durable=True)
    store.append(record(b"x"))
    store.flush()
    store.settle(take(store)[0][0])
    store.flush()
    names = files.names()

    steps = list(steps_of(store, Level.TRIM, structs.replace(policy(), is_dry=True)))

    assert files.names() == names
    assert steps == shrunk(store, Level.TRIM)
    assert files.names() == []
