"""A store gives back what it does not need: rebuilt collections, idle files, pages of segments nobody reads."""

from array import array
from pathlib import Path

import pytest
from msgspec import structs

from ipc.limits import KIB, MIB
from ipc.messages.commands import Level
from ipc.settings import StoreSettings
from shards.compaction.compactable import SEGMENT_PAGES, Failed, Freed, Offload, ShrinkPolicy, Step
from shards.store.files import DiskFiles
from shards.store.message_store import MessageStore
from tests.simulation.simulated_files import SimulatedFiles
from tests.store.messages import record, take

SETTINGS = StoreSettings(segment_bytes_max=64 * KIB)
QUEUE = "/data/queues/1"
COLD_BEFORE = 1000
MINUTES = 600_000  # of broker time


def policy(release_bytes_max: int = 1 << 40, now: int = 2 * COLD_BEFORE) -> ShrinkPolicy:
    return ShrinkPolicy(
        ratio=2.0, floor_bytes=4096, release_bytes_max=release_bytes_max, cold_before=COLD_BEFORE, now=now
    )


def shrunk(
    store: MessageStore, level: Level, release_bytes_max: int = 1 << 40, now: int = 2 * COLD_BEFORE
) -> list[Step]:
    steps = []
    for step in store.shrink(level, policy(release_bytes_max, now)):
        if isinstance(step, Offload):
            step.work()
        steps.append(step)
    return steps


def released(steps: list[Step]) -> list[int]:
    return [step.size_bytes for step in steps if isinstance(step, Freed) and step.kind == SEGMENT_PAGES]


def backlog(files: SimulatedFiles | DiskFiles, directory: str = QUEUE, timestamp: int = 1) -> MessageStore:
    """Six segments, none read."""
    store = MessageStore(files, directory, SETTINGS, durable=True)
    for number in range(66):
        store.append(record(b"%06d" % number + bytes(5000), timestamp=timestamp))
    store.flush()
    assert store.segment_count == 6
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


def test_cold_segments_are_released_oldest_first_but_never_the_ones_in_use() -> None:
    files = SimulatedFiles()
    store = backlog(files)
    take(store, 1)

    steps = shrunk(store, Level.RELEASE)

    assert len(released(steps)) == 4  # of six: one is read, one is written
    assert [type(step) for step in steps] == [Offload, Freed] * 4


def test_pages_are_clean_before_they_are_released() -> None:
    files = SimulatedFiles()
    store = backlog(files)

    steps = store.shrink(Level.RELEASE, policy())

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
    store = backlog(SimulatedFiles())
    assert len(released(shrunk(store, Level.RELEASE, now=MINUTES))) == 4
    take(store)

    assert len(released(shrunk(store, Level.RELEASE, now=MINUTES + 2_000))) == 1  # read for the first time only now
    assert len(released(shrunk(store, Level.RELEASE, now=MINUTES + 63_000))) == 4


def test_a_pass_keeps_to_its_budget() -> None:
    store = backlog(SimulatedFiles())

    assert sum(released(shrunk(store, Level.RELEASE, release_bytes_max=130 * KIB))) <= 130 * KIB
    assert released(shrunk(store, Level.RELEASE, release_bytes_max=0)) == []


def test_segments_written_lately_stay() -> None:
    store = backlog(SimulatedFiles(), timestamp=COLD_BEFORE + 1)

    assert released(shrunk(store, Level.RELEASE)) == []


def test_a_segment_that_goes_while_it_is_synced_is_passed_by() -> None:
    files = SimulatedFiles()
    store = backlog(files)
    steps = store.shrink(Level.RELEASE, policy())
    offload = next(steps)
    assert isinstance(offload, Offload)

    store.settle_many(array("Q", [position for position, _ in take(store)]))
    store.flush()
    offload.work()

    assert released(list(steps)) == []


def test_a_store_deleted_in_the_middle_of_a_pass_is_no_error() -> None:
    store = backlog(SimulatedFiles())
    steps = store.shrink(Level.RELEASE, policy())
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

    foretold = released([step for step in store.shrink(Level.RELEASE, dry) if not isinstance(step, Offload)])
    again = released([step for step in store.shrink(Level.RELEASE, dry) if not isinstance(step, Offload)])

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

    steps = list(store.shrink(Level.TRIM, structs.replace(policy(), is_dry=True)))

    assert files.names() == names
    assert steps == shrunk(store, Level.TRIM)
    assert files.names() == []
