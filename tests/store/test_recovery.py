"""What is on disk after the worst moment comes back: all of it, in order, and nothing that was never there."""

import errno
from array import array
from struct import Struct
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.errors import ExitCode, StartRefused
from ipc.limits import KIB
from ipc.settings import StoreSettings
from shards.store import blocks
from shards.store.message_store import MessageStore
from shards.store.recovery import RecoveryReport
from shards.store.segment import Segment
from tests.simulation.simulated_files import SimulatedFiles, Stopped
from tests.store.messages import record, take

SETTINGS = StoreSettings(segment_bytes_max=64 * KIB)
QUEUE = "/data/queues/1"
MESSAGES_1 = f"{QUEUE}/0000000001.messages"
ACKS_1 = f"{QUEUE}/0000000001.acks"


def opened(files: SimulatedFiles) -> MessageStore:
    return MessageStore(files, QUEUE, SETTINGS, durable=True)


def recover(files: SimulatedFiles, report: RecoveryReport | None = None) -> MessageStore | None:
    return MessageStore.recover(files, QUEUE, SETTINGS, report or RecoveryReport())


def bodies_of(store: MessageStore | None) -> list[bytes]:
    return [body for _, body in take(store)] if store is not None else []


def three_blocks(files: SimulatedFiles) -> list[bytes]:
    """Three flushed turns of two messages."""
    store = opened(files)
    written = []
    for turn in range(3):
        for number in range(2):
            written.append(b"turn %d message %d" % (turn, number))
            store.append(record(written[-1]))
        store.flush()
    return written


def used_bytes(files: SimulatedFiles, path: str) -> int:
    return len(files.content(path).rstrip(b"\0"))


# ends of processes ----------------------------------------------------------------------------------------------------


def test_a_directory_without_messages_is_no_store_and_goes() -> None:
    files = SimulatedFiles()
    files.make_directory(QUEUE, sync=True)

    assert recover(files) is None
    assert files.list("/data/queues") == []


def test_recovery_of_a_clean_store_reports_messages_only() -> None:
    files = SimulatedFiles()
    written = three_blocks(files)
    report = RecoveryReport()

    store = recover(files.restart(), report)

    assert bodies_of(store) == written
    assert report == RecoveryReport(messages=6)
    assert report.is_clean


def test_recovered_messages_come_before_new_ones_and_survive_again() -> None:
    files = SimulatedFiles()
    written = three_blocks(files)
    for generation in range(4):
        files = files.restart()
        store = recover(files)
        assert store is not None
        written.append(b"generation %d" % generation)
        store.append(record(written[-1]))
        store.flush()
        assert bodies_of(store) == written

    assert bodies_of(recover(files.restart())) == written


def test_a_torn_tail_is_cut_wherever_it_tore() -> None:
    """Fed byte by byte: after any number of bytes, exactly the whole turns are there."""
    original = SimulatedFiles()
    written = three_blocks(original)
    content = original.content(MESSAGES_1)
    end = used_bytes(original, MESSAGES_1)
    ends = [block.end for block in blocks.BlockWalk(content, len(content), None, (blocks.Kind.PLACED_RECORDS,))]

    for cut in range(end + 1):
        files = original.restart()
        files.allocate(MESSAGES_1, cut)
        torn = files.restart()
        report = RecoveryReport()
        store = recover(torn, report)
        whole = sum(1 for block_end in ends if block_end <= cut)
        assert bodies_of(store) == written[: 2 * whole], cut
        assert report.segments_damaged == 0, cut
        assert (store is None) == (whole == 0), cut
        original.overwrite(MESSAGES_1, 0, content)
        original.allocate(MESSAGES_1, len(content))


def test_what_follows_a_torn_tail_is_kept() -> None:
    files = SimulatedFiles()
    written = three_blocks(files)
    files.allocate(MESSAGES_1, used_bytes(files, MESSAGES_1) - 1)
    store = recover(files)
    assert store is not None
    store.append(record(b"after"))
    store.flush()

    assert bodies_of(recover(files.restart())) == [*written[:4], b"after"]


def test_a_torn_ack_log_is_cut_wherever_it_tore() -> None:
    original = SimulatedFiles()
    store = opened(original)
    for number in range(6):
        store.append(record(number))
    store.flush()
    for position, _ in take(store)[:4]:
        store.settle(position)
        store.flush()
    content = original.content(ACKS_1)
    seen = set()

    for cut in range(len(content) + 1):
        files = original.restart()
        files.allocate(ACKS_1, cut)
        recover(files)
        report = RecoveryReport()
        again = recover(files.restart(), report)
        assert report.is_clean, "what is torn is cut once"
        assert again is not None
        settled = 6 - again.ready_count
        taken = take(again)
        assert [body for _, body in taken] == [b"%d" % number for number in range(settled, 6)]
        seen.add(settled)
        again.settle(taken[-1][0])
        again.flush()
        report = RecoveryReport()
        assert bodies_of(recover(files.restart(), report)) == [b"%d" % number for number in range(settled, 5)]
        assert report.is_clean
        assert blocks.read_file_header(files.content(ACKS_1), blocks.ACK_LOG_MAGIC, ACKS_1) is not None
        original.allocate(ACKS_1, len(content))
        original.overwrite(ACKS_1, 0, content)

    assert seen == {0, 1, 2, 3, 4}


def test_acks_after_a_torn_ack_log_are_remembered() -> None:
    files = SimulatedFiles()
    store = opened(files)
    for number in range(6):
        store.append(record(number))
    store.flush()
    for position, _ in take(store)[:2]:
        store.settle(position)
        store.flush()
    files.allocate(ACKS_1, files.size(ACKS_1) - 5)
    again = recover(files)
    assert again is not None
    taken = take(again)
    again.settle_run(taken[1][0], taken[2][0], 2)
    again.flush()

    assert bodies_of(recover(files.restart())) == [b"1", b"4", b"5"]


def test_acks_beyond_the_end_of_the_messages_are_pruned() -> None:
    """A power failure may keep the ack and lose the message; later messages must not pay for it."""
    files = SimulatedFiles()
    written = three_blocks(files)
    store = recover(files)
    assert store is not None
    taken = take(store)
    store.settle(taken[0][0])
    store.settle(taken[5][0])
    store.flush()
    content = files.content(MESSAGES_1)
    second_end = list(blocks.BlockWalk(content, len(content), None, (blocks.Kind.PLACED_RECORDS,)))[1].end
    files.allocate(MESSAGES_1, second_end)
    report = RecoveryReport()

    again = recover(files, report)

    assert report.acks_pruned == 1
    assert again is not None
    again.append(record(b"new"))
    again.flush()
    assert bodies_of(recover(files.restart())) == [*written[1:4], b"new"]


def test_an_ack_log_without_its_messages_goes() -> None:
    files = SimulatedFiles()
    three_blocks(files)
    store = recover(files)
    assert store is not None
    store.settle(take(store)[0][0])
    store.flush()
    files.unlink(MESSAGES_1)

    assert recover(files) is None
    assert files.names() == []


def test_an_ack_log_of_another_segment_says_nothing() -> None:
    """Its number may have been used before: by then all salts differ."""
    first, second = SimulatedFiles(1), SimulatedFiles(2)
    for files in (first, second):
        three_blocks(files)
    store = recover(first)
    assert store is not None
    store.settle(take(store)[0][0])
    store.flush()
    second.write(ACKS_1, 0, [first.content(ACKS_1)], sync=False)

    again = recover(second)

    assert again is not None
    assert again.ready_count == 6
    taken = take(again)
    again.settle(taken[3][0])
    again.flush()
    assert len(bodies_of(recover(second.restart()))) == 5


def test_a_segment_settled_whole_before_the_end_is_gone() -> None:
    files = SimulatedFiles()
    three_blocks(files)
    store = recover(files)
    assert store is not None
    taken = [position for position, _ in take(store)]
    store.settle_many(array("Q", taken[3:]))
    store.settle_run(taken[0], taken[2], 3)
    store.flush()

    assert recover(files.restart()) is None
    assert files.names() == []


def test_neighbours_that_were_settled_are_remembered_as_one() -> None:
    files = SimulatedFiles()
    store = opened(files)
    for number in range(1000):
        store.append(record(number))
    store.flush()
    store.settle_many(array("Q", [position for position, _ in take(store, 900)]))
    store.flush()

    again = recover(files.restart())

    assert again is not None
    (segment,) = again.segments.children()
    assert isinstance(segment, Segment)
    assert len(segment.deleted or ()) == 2
    assert bodies_of(again) == [b"%d" % number for number in range(900, 1000)]


def test_a_recovered_message_settled_before_is_never_in_a_span() -> None:
    """Every subset of six messages over three blocks, settled one by one or in runs."""
    for subset in range(64):
        for in_runs in (False, True):
            files = SimulatedFiles(subset)
            written = three_blocks(files)
            store = recover(files)
            assert store is not None
            taken = [position for position, _ in take(store)]
            for first, last in runs(subset) if in_runs else [(n, n) for n in range(6) if subset >> n & 1]:
                store.settle_run(taken[first], taken[last], last - first + 1)
            store.flush()
            left = [body for number, body in enumerate(written) if not subset >> number & 1]

            again = recover(files.restart())

            assert (again.ready_count if again else 0) == len(left)
            assert (again.ready_bytes if again else 0) == sum(map(len, left))
            assert bodies_of(again) == left
            assert again is None or again.ready_bytes == 0


def runs(subset: int) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for number in range(6):
        if subset >> number & 1:
            if found and found[-1][1] == number - 1:
                found[-1] = (found[-1][0], number)
            else:
                found.append((number, number))
    return found


def test_a_run_over_recovered_gaps_in_two_segments_is_counted_right() -> None:
    files = SimulatedFiles()
    store = opened(files)
    for number in range(24):
        store.append(record(b"%02d" % number + bytes(5000)))
    store.flush()
    taken = [position for position, _ in take(store)]
    store.settle_many(array("Q", taken[3:20:4]))
    store.flush()
    again = recover(files.restart())
    assert again is not None
    assert len(again.segments.by_number) == 2

    left = [position for position, _ in take(again)]
    again.settle_run(left[1], left[-2], len(left) - 2)
    again.flush()
    for position in (left[0], left[-1]):
        again.settle(position)
    again.flush()

    assert again.unacknowledged_count == 0
    assert len(again.segments.by_number) == 0


# damage ---------------------------------------------------------------------------------------------------------------


def test_damage_in_the_middle_costs_its_block_only_and_is_told() -> None:
    files = SimulatedFiles()
    written = three_blocks(files)
    content = files.content(MESSAGES_1)
    second = list(blocks.BlockWalk(content, len(content), None, (blocks.Kind.PLACED_RECORDS,)))[1]
    files.overwrite(MESSAGES_1, second.start + 30, b"rotten")
    files.overwrite(MESSAGES_1, 4000, b"rotten")
    damaged = files.content(MESSAGES_1)
    report = RecoveryReport()

    store = recover(files, report)

    assert store is not None
    assert report.segments_damaged == 1
    assert files.content(MESSAGES_1) == damaged, "nothing a person could still make sense of is cut off"
    assert "do not verify" in report.damages[0]
    assert store.ready_count == 4
    taken = take(store)
    assert [body for _, body in taken] == written[:2] + written[4:]
    for position, _ in taken:
        store.settle(position)
    store.flush()
    assert [name for name in files.names() if not name.endswith(".damaged")] == []
    assert len(files.names()) == 1, "the damaged file is kept for a person to look at"


def test_a_run_over_a_damaged_stretch_is_counted_right() -> None:
    files = SimulatedFiles()
    three_blocks(files)
    content = files.content(MESSAGES_1)
    second = list(blocks.BlockWalk(content, len(content), None, (blocks.Kind.PLACED_RECORDS,)))[1]
    files.overwrite(MESSAGES_1, second.start + 30, b"rotten")
    store = recover(files)
    assert store is not None
    store.append(record(b"tail"))
    taken = [position for position, _ in take(store)]

    store.settle_run(taken[1], taken[4], 4)
    store.flush()

    assert bodies_of(recover(files.restart())) == [b"turn 0 message 0"]


def test_a_damaged_end_of_an_older_segment_is_damage_and_no_torn_tail() -> None:
    files = SimulatedFiles()
    store = opened(files)
    for number in range(24):
        store.append(record(b"%02d" % number + bytes(5000)))
        store.flush()
    files.overwrite(MESSAGES_1, used_bytes(files, MESSAGES_1) - 10, b"rotten")
    report = RecoveryReport()

    again = recover(files, report)

    assert again is not None
    assert (again.ready_count, report.segments_damaged, report.bytes_cut) == (23, 1, 0)


def test_a_damaged_file_header_costs_no_message() -> None:
    files = SimulatedFiles()
    written = three_blocks(files)
    files.overwrite(MESSAGES_1, 3, b"rotten rotten")
    report = RecoveryReport()

    store = recover(files, report)

    assert bodies_of(store) == written
    assert report.segments_damaged == 1


def test_a_segment_under_another_number_is_put_aside() -> None:
    """A copy of a segment would bring all its messages twice."""
    files = SimulatedFiles()
    written = three_blocks(files)
    files.write(f"{QUEUE}/0000000002.messages", 0, [files.content(MESSAGES_1)], sync=False)
    report = RecoveryReport()

    store = recover(files, report)

    assert bodies_of(store) == written
    assert report.segments_damaged == 1
    assert any(name.endswith(".damaged") for name in files.names())


def test_something_else_under_the_name_of_a_segment_is_put_aside() -> None:
    files = SimulatedFiles()
    files.make_directory(QUEUE, sync=True)
    files.write(MESSAGES_1, 0, [b"#!/bin/sh\necho hello\n" * 20], sync=False)
    report = RecoveryReport()

    assert recover(files, report) is None
    assert report.segments_damaged == 1
    (kept,) = files.names()
    assert files.content(kept).startswith(b"#!/bin/sh")


def test_files_of_other_names_are_left_alone() -> None:
    files = SimulatedFiles()
    written = three_blocks(files)
    files.write(f"{QUEUE}/notes.messages", 0, [b"mine"], sync=False)
    files.write(f"{QUEUE}/README", 0, [b"mine"], sync=False)

    assert bodies_of(recover(files)) == written
    assert f"{QUEUE}/notes.messages" in files.names()


@pytest.mark.parametrize("path", [MESSAGES_1, ACKS_1])
def test_a_newer_format_is_refused_and_not_touched(path: str) -> None:
    files = SimulatedFiles()
    three_blocks(files)
    store = recover(files)
    assert store is not None
    store.settle(take(store)[0][0])
    store.flush()
    header = bytearray(files.content(path)[:20])
    header[8] = 3
    files.overwrite(path, 0, bytes(header) + Struct("<I").pack(crc32(bytes(header))))
    before = [files.content(name) for name in files.names()]

    with pytest.raises(StartRefused) as refused:
        recover(files)

    assert refused.value.exit_code == ExitCode.FORMAT_UNKNOWN
    assert [files.content(name) for name in files.names()] == before


def test_any_damaged_byte_costs_at_most_one_block_and_invents_nothing() -> None:
    original = SimulatedFiles()
    written = three_blocks(original)
    content = original.content(MESSAGES_1)

    for at in range(used_bytes(original, MESSAGES_1)):
        files = SimulatedFiles(at)
        files.make_directory(QUEUE, sync=True)
        files.write(MESSAGES_1, 0, [content[:at], bytes([content[at] ^ 0x55]), content[at + 1 :]], sync=False)
        found = bodies_of(recover(files))
        assert len(found) in (4, 6), at
        assert found == [body for body in written if body in found], at


@given(
    damages=st.lists(
        st.tuples(st.sampled_from([MESSAGES_1, ACKS_1]), st.integers(0, 900), st.binary(min_size=1, max_size=40)),
        max_size=4,
    ),
    cuts=st.tuples(st.none() | st.integers(0, 900), st.none() | st.integers(0, 120)),
)
def test_whatever_is_damaged_recovery_goes_on_and_invents_nothing(
    damages: list[tuple[str, int, bytes]], cuts: tuple[int | None, int | None]
) -> None:
    files = SimulatedFiles()
    written = three_blocks(files)
    store = recover(files)
    assert store is not None
    taken = [position for position, _ in take(store)]
    store.settle(taken[1])
    store.settle_run(taken[3], taken[4], 2)
    store.flush()
    for path, offset, damage in damages:
        files.overwrite(path, offset, damage)
    for path, cut in zip((MESSAGES_1, ACKS_1), cuts, strict=True):
        if cut is not None:
            files.allocate(path, cut)
    files = files.restart()

    again = recover(files)
    found = bodies_of(again)

    assert found == [body for body in written if body in set(found)]
    if again is not None:
        assert (again.ready_count, again.ready_bytes) == (0, 0)
        again.append(record(b"and on"))
        again.flush()
    assert bodies_of(recover(files.restart())) == ([*found, b"and on"] if again is not None else [])


# a disk that refuses --------------------------------------------------------------------------------------------------


def test_recovery_reports_a_disk_that_fails() -> None:
    files = SimulatedFiles()
    three_blocks(files)
    after = files.restart()
    after.refuse_everything(errno.EROFS)

    with pytest.raises(OSError) as refused:
        recover(after)
    assert refused.value.errno == errno.EROFS


# the worst moment -----------------------------------------------------------------------------------------------------


class Ledger:
    """What a client of one queue could know, and what the broker owes it for that."""

    def __init__(self) -> None:
        self.appended: list[bytes] = []
        self.flushed = 0  # of `appended`, so many were in a flush that returned
        self.acked: set[bytes] = set()
        self.acks_flushed: set[bytes] = set()

    def flush_returned(self) -> None:
        self.flushed = len(self.appended)
        self.acks_flushed = set(self.acked)

    def check(self, found: list[bytes]) -> None:
        assert found == [body for body in self.appended if body in set(found)], "order kept, nothing invented"
        assert len(found) == len(set(found)), "nothing twice"
        owed = [body for body in self.appended[: self.flushed] if body not in self.acked]
        assert set(owed) <= set(found), "nothing flushed is lost"
        assert not self.acks_flushed & set(found), "what was acknowledged stays away"


def live(store: MessageStore, ledger: Ledger, files: SimulatedFiles, turns: int) -> None:
    """Turns of a queue under traffic: appends, deliveries, acks in all three ways, requeues, now and then a refusal."""
    random = files.random
    held: list[tuple[int, bytes]] = []
    for _ in range(turns):
        for _ in range(random.randrange(6)):
            body = b"%d:" % len(ledger.appended) + bytes(random.choice((10, 100, 9000)))
            ledger.appended.append(body)
            store.append(record(body))
        held += take(store, random.randrange(8))
        random.shuffle(held)
        for _ in range(min(len(held), random.randrange(4))):
            position, body = held.pop()
            if random.random() < 0.3:
                store.requeue(position)
            else:
                ledger.acked.add(body)
                store.settle(position)
        run = take(store, 3)
        if run and [position for position, _ in run] == sorted(position for position, _ in run):
            settle_contiguous(store, ledger, run, held)
        if random.random() < 0.1:
            files.refuse(random.randrange(3))
        try:
            store.flush()
        except OSError:
            continue
        ledger.flush_returned()


def settle_contiguous(
    store: MessageStore, ledger: Ledger, run: list[tuple[int, bytes]], held: list[tuple[int, bytes]]
) -> None:
    """Only what was appended one behind the other may be settled as a run."""
    numbers = [ledger.appended.index(body) for _, body in run]
    if numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        held += run
        return
    ledger.acked.update(body for _, body in run)
    store.settle_run(run[0][0], run[-1][0], len(run))


@pytest.mark.parametrize("seed", range(150))
def test_a_process_killed_at_any_moment_loses_nothing_that_was_flushed(seed: int) -> None:
    files = SimulatedFiles(seed)
    ledger = Ledger()
    store = opened(files)
    for _ in range(4):
        files.stop(files.random.randrange(60))
        with pytest.raises(Stopped):
            live(store, ledger, files, turns=1000)
        files = files.restart()
        # Acks of the turn that was cut short may have got through, or not.
        report = RecoveryReport()
        found = recover(files, report)
        assert report.segments_damaged == 0
        store = found or opened(files)
        remaining = files.restart()
        ledger.check(bodies_of(recover(remaining)))
        store = adopt(store, ledger)


def adopt(store: MessageStore, ledger: Ledger) -> MessageStore:
    """Go on from what survived: from now on that is what is owed."""
    taken = take(store)
    for position, _ in taken:
        store.requeue(position)
    survived = {body for _, body in taken}
    gone = [body for body in ledger.appended if body not in survived]
    ledger.appended = [body for body in ledger.appended if body in survived] + gone
    ledger.flushed = len(survived)
    ledger.acked = set(gone)
    ledger.acks_flushed = set(gone)
    return store


@pytest.mark.parametrize("seed", range(150))
def test_a_power_failure_takes_nothing_that_was_synced(seed: int) -> None:
    files = SimulatedFiles(seed)
    ledger = Ledger()
    store = opened(files)
    live(store, ledger, files, turns=1 + seed % 20)
    files.accept_everything()
    store.flush()
    files.take_unsynced().run()
    owed = list(ledger.appended)
    live(store, ledger, files, turns=1 + seed % 7)

    after = files.power_failure()
    found = bodies_of(recover(after))

    assert len(found) == len(set(found))
    assert found == [body for body in ledger.appended if body in set(found)]
    assert {body for body in owed if body not in ledger.acked} <= set(found)


def test_a_failed_recovery_can_be_repeated() -> None:
    for call in range(6):
        files = SimulatedFiles(call)
        written = three_blocks(files)
        files.allocate(MESSAGES_1, used_bytes(files, MESSAGES_1) - 1)
        files = files.restart()
        files.stop(call)
        try:
            recover(files)
        except Stopped:
            pass
        assert bodies_of(recover(files.restart())) == written[:4]
