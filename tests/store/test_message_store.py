"""What a queue asks of its store while all goes well: order, places, accounts, and files that come and go."""

import errno
from array import array
from pathlib import Path

import pytest

from ipc.limits import KIB, MIB, SEGMENT_BYTES_FIRST, TAIL_BYTES_MAX
from ipc.settings import StoreSettings
from shards.store.body_map import BodyMap
from shards.store.files import DiskFiles
from shards.store.half_done import HalfDone
from shards.store.message_store import MessageStore
from shards.store.record import decode, encode_head
from shards.store.recovery import RecoveryReport
from shards.store.segments import Segments
from tests.simulation.simulated_files import SimulatedFiles
from tests.store.messages import ADDRESS, HEADER, bodies, body_at, record, take

SETTINGS = StoreSettings(segment_bytes_max=64 * KIB)
QUEUE = "/data/queues/1"
MESSAGES_1 = f"{QUEUE}/0000000001.messages"


@pytest.fixture
def files() -> SimulatedFiles:
    return SimulatedFiles()


@pytest.fixture
def store(files: SimulatedFiles) -> MessageStore:
    return MessageStore(files, QUEUE, SETTINGS, durable=True)


def recovered(files: SimulatedFiles, report: RecoveryReport | None = None) -> MessageStore | None:
    return MessageStore.recover(files.restart(), QUEUE, SETTINGS, report or RecoveryReport())


def fill(store: MessageStore, count: int, first: int = 0, body_bytes: int = 0) -> list[int]:
    return [store.append(record(b"%06d" % number + bytes(body_bytes))) for number in range(first, first + count)]


# order and places -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flush_every", [1, 7, 1000])
def test_messages_come_out_in_the_order_they_went_in(store: MessageStore, flush_every: int) -> None:
    expected = []
    for number in range(500):
        expected.append((store.append(record(number)), b"%d" % number))
        if number % flush_every == 0:
            store.flush()

    assert take(store) == expected
    assert store.next_span() is None


def test_a_message_is_handed_out_straight_from_the_tail(store: MessageStore, files: SimulatedFiles) -> None:
    store.append(record(b"now"))

    span = store.next_span()

    assert span is not None
    assert bodies(span) == [b"now"]
    assert not span.redelivered
    assert files.names() == []


def test_no_position_is_zero_and_all_ascend(store: MessageStore) -> None:
    positions = fill(store, 3000, body_bytes=100)

    assert positions[0] > 0
    assert positions == sorted(set(positions))


def test_a_message_keeps_its_position_when_it_is_written(store: MessageStore) -> None:
    positions = fill(store, 5)
    store.flush()

    assert [body_at(store, position) for position in positions] == [b"%06d" % number for number in range(5)]


def test_a_span_half_taken_goes_on_where_it_was_left(store: MessageStore) -> None:
    fill(store, 10)

    first = take(store, 4)
    store.flush()
    rest = take(store)

    assert [body for _, body in first + rest] == [b"%06d" % number for number in range(10)]


def test_looking_twice_shows_the_same(store: MessageStore) -> None:
    fill(store, 3)
    for _ in range(2):
        span = store.next_span()
        assert span is not None
        assert len(bodies(span)) == 3

    assert store.ready_count == 3


def test_reading_and_appending_may_alternate(store: MessageStore) -> None:
    seen = []
    for number in range(300):
        fill(store, 3, first=number * 3, body_bytes=200)
        if number % 3 == 0:
            store.flush()
        seen += [body[:6] for _, body in take(store, 2)]
    seen += [body[:6] for _, body in take(store)]

    assert seen == [b"%06d" % number for number in range(900)]


# accounts -------------------------------------------------------------------------------------------------------------


def test_counts_follow_a_message_through_its_life(store: MessageStore) -> None:
    store.append(record(b"body"))
    assert (store.ready_count, store.ready_bytes, store.unacknowledged_count) == (1, 4, 0)

    ((position, _),) = take(store)
    assert (store.ready_count, store.ready_bytes, store.unacknowledged_count) == (0, 0, 1)

    store.requeue(position)
    assert (store.ready_count, store.ready_bytes, store.unacknowledged_count) == (1, 4, 0)

    take(store)
    store.settle(position)
    assert (store.ready_count, store.ready_bytes, store.unacknowledged_count) == (0, 0, 0)


def test_a_store_is_dirty_until_it_is_flushed(store: MessageStore) -> None:
    seen = [store.dirty]
    fill(store, 1)
    seen.append(store.dirty)
    store.flush()
    seen.append(store.dirty)
    store.settle(take(store)[0][0])
    seen.append(store.dirty)
    store.flush()
    seen.append(store.dirty)

    assert seen == [False, True, False, True, False]


# requeueing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_flushed", [False, True])
def test_a_requeued_message_keeps_its_place(store: MessageStore, is_flushed: bool) -> None:
    fill(store, 6)
    taken = take(store, 4)
    if is_flushed:
        store.flush()
    for index in (2, 0, 3):
        store.requeue(taken[index][0])

    span = store.next_span()

    assert span is not None
    assert span.redelivered
    assert bodies(span) == [b"000000"]
    assert [body for _, body in take(store)] == [b"%06d" % number for number in (0, 2, 3, 4, 5)]


def test_many_requeued_messages_come_back_in_order(store: MessageStore) -> None:
    fill(store, 1000, body_bytes=300)
    store.flush()
    taken = take(store)
    for position, _ in reversed(taken):
        store.requeue(position)

    assert take(store, 700) == taken[:700]
    for position, _ in taken[100:300]:
        store.requeue(position)

    assert take(store) == taken[100:300] + taken[700:]


def test_what_is_held_can_be_read_and_given_back_without_memory_for_a_map(
    store: MessageStore, files: SimulatedFiles
) -> None:
    """Nobody asks a client who has gone for it again."""
    fill(store, 3)
    store.flush()
    held = take(store)
    files.forget(MESSAGES_1)
    files.refuse_map(0)

    bodies_held = [body_at(store, position) for position, _ in held[:1]]
    files.refuse_map(0)
    for position, _ in held:
        store.requeue(position)

    assert bodies_held == [b"000000"]
    assert store.unacknowledged_count == 0
    assert take(store) == held


def test_a_requeued_message_is_alone_in_its_span(store: MessageStore) -> None:
    fill(store, 3)
    for position, _ in take(store):
        store.requeue(position)

    span = store.next_span()

    assert span is not None
    assert len(bodies(span)) == 1


# settling -------------------------------------------------------------------------------------------------------------


def test_settled_messages_are_gone_after_recovery(store: MessageStore, files: SimulatedFiles) -> None:
    fill(store, 10)
    taken = [position for position, _ in take(store)]
    store.settle(taken[0])
    store.settle_many(array("Q", [taken[9], taken[4]]))
    store.settle_run(taken[5], taken[7], 3)
    store.flush()

    again = recovered(files)

    assert again is not None
    assert again.ready_count == 4
    assert again.ready_bytes == 4 * 6
    assert [body for _, body in take(again)] == [b"%06d" % number for number in (1, 2, 3, 8)]


def test_a_tail_settled_whole_is_never_written(store: MessageStore, files: SimulatedFiles) -> None:
    for _ in range(50):
        fill(store, 20)
        taken = [position for position, _ in take(store)]
        store.settle_run(taken[0], taken[10], 11)
        store.settle(taken[11])
        store.settle_many(array("Q", taken[12:]))
        store.flush()

    assert files.names() == []
    assert files.calls == 0
    assert store.is_vacant


def test_positions_of_a_dropped_tail_are_used_again_only_after_it(store: MessageStore) -> None:
    fill(store, 2)
    (first, _), (second, _) = take(store)
    store.settle(first)
    store.flush()
    third = store.append(record(b"third"))

    assert len({first, second, third}) == 3
    assert body_at(store, second) == b"000001"
    assert body_at(store, third) == b"third"


def test_a_run_across_segments_and_tail_is_counted_right(store: MessageStore, files: SimulatedFiles) -> None:
    """Five segments, the middle ones whole; what the run leaves must stay, what it covers must go."""
    fill(store, 60, body_bytes=5000)
    store.flush()
    fill(store, 10, first=60)
    taken = [position for position, _ in take(store)]
    assert len(store.segments.by_number) == 5

    store.settle_run(taken[3], taken[66], 64)
    store.flush()
    assert store.unacknowledged_count == 6
    assert len(store.segments.by_number) == 2
    again = recovered(files)

    assert again is not None
    assert [body[:6] for _, body in take(again)] == [b"%06d" % number for number in (0, 1, 2, 67, 68, 69)]


def test_a_run_that_ends_with_a_segment_leaves_the_next_alone(store: MessageStore) -> None:
    fill(store, 60, body_bytes=5000)
    store.flush()
    taken = [position for position, _ in take(store)]
    last = max(index for index, position in enumerate(taken) if position >> 32 == 2)

    store.settle_run(taken[0], taken[last], last + 1)
    store.flush()

    assert store.unacknowledged_count == 60 - last - 1
    assert [body_at(store, position)[:6] for position in taken[last + 1 :]] == [
        b"%06d" % number for number in range(last + 1, 60)
    ]


# files ----------------------------------------------------------------------------------------------------------------


def test_nothing_is_on_disk_before_the_first_flush(store: MessageStore, files: SimulatedFiles) -> None:
    fill(store, 10)
    assert files.calls == 0

    store.flush()

    assert files.names() == [MESSAGES_1]


def test_a_turn_is_one_write(store: MessageStore, files: SimulatedFiles) -> None:
    fill(store, 10)
    store.flush()
    calls = files.calls

    fill(store, 500)
    store.flush()

    assert files.calls == calls + 1


def test_a_sealed_segment_goes_with_its_last_message(store: MessageStore, files: SimulatedFiles) -> None:
    fill(store, 30, body_bytes=5000)
    store.flush()
    taken = [position for position, _ in take(store)]
    in_first = [position for position in taken if position >> 32 == 1]

    store.settle(in_first[0])
    store.flush()
    assert f"{QUEUE}/0000000001.acks" in files.names()
    store.settle_many(array("Q", in_first[1:]))
    store.flush()

    assert [name for name in files.names() if "0000000001" in name] == []


def test_no_ack_is_written_for_a_segment_that_goes_in_the_same_flush(
    store: MessageStore, files: SimulatedFiles
) -> None:
    fill(store, 30, body_bytes=5000)
    store.flush()
    written = files.bytes_written
    taken = [position for position, _ in take(store)]

    store.settle_many(array("Q", [position for position in taken if position >> 32 == 1]))
    store.flush()

    assert files.bytes_written == written
    assert len(store.segments.by_number) == 2


def test_a_segment_grows_by_doubling(files: SimulatedFiles) -> None:
    store = MessageStore(files, QUEUE, StoreSettings(segment_bytes_max=MIB), durable=True)
    sizes = []
    for _ in range(20):
        fill(store, 10, body_bytes=5000)
        store.flush()
        sizes.append(files.size(MESSAGES_1))

    assert sorted(set(sizes)) == [SEGMENT_BYTES_FIRST << power for power in range(5)]


def test_segments_keep_to_their_size(store: MessageStore, files: SimulatedFiles) -> None:
    fill(store, 100, body_bytes=5000)
    store.flush()

    assert max(files.size(name) for name in files.names()) <= SETTINGS.segment_bytes_max


def test_a_large_turn_is_written_early(files: SimulatedFiles) -> None:
    store = MessageStore(files, QUEUE, StoreSettings(), durable=True)
    fill(store, 40, body_bytes=100_000)

    assert len(store.tail.records) <= TAIL_BYTES_MAX
    assert [body[:6] for _, body in take(store)] == [b"%06d" % number for number in range(40)]


def test_a_record_larger_than_a_segment_has_one_of_its_own(store: MessageStore, files: SimulatedFiles) -> None:
    fill(store, 3)
    store.append(record(b"L" * 200_000))
    fill(store, 3, first=3)
    store.flush()

    assert len(store.segments.by_number) == 3
    assert [len(body) for _, body in take(store)] == [6, 6, 6, 200_000, 6, 6, 6]


def test_a_transient_store_keeps_no_acks_and_syncs_nothing(files: SimulatedFiles) -> None:
    store = MessageStore(files, QUEUE, SETTINGS, durable=False)
    fill(store, 10)
    store.flush()
    for position, _ in take(store, 5):
        store.settle(position)
    store.flush()

    assert files.names() == [MESSAGES_1]
    assert not files.take_unsynced()


def test_a_deleted_store_leaves_nothing(store: MessageStore, files: SimulatedFiles) -> None:
    fill(store, 100, body_bytes=5000)
    store.flush()

    store.delete()

    assert files.names() == []
    assert (store.ready_count, store.ready_bytes, store.dirty, store.is_vacant) == (0, 0, False, True)


def test_a_closed_store_is_as_small_as_its_messages(store: MessageStore, files: SimulatedFiles) -> None:
    fill(store, 3)

    store.close()

    assert files.size(MESSAGES_1) < 400
    again = recovered(files)
    assert again is not None
    assert again.ready_count == 3


def test_a_store_closed_empty_leaves_no_directory(store: MessageStore, files: SimulatedFiles) -> None:
    fill(store, 3)
    store.flush()
    for position, _ in take(store):
        store.settle(position)

    store.close()

    assert files.names() == []
    assert files.list("/data/queues") == []


def test_an_idle_store_owns_no_descriptor_and_no_map(tmp_path: Path) -> None:
    files = DiskFiles(descriptors_open_max=16)
    store = MessageStore(files, str(tmp_path / "1"), SETTINGS, durable=True)
    fill(store, 100, body_bytes=5000)
    store.flush()
    store.settle_many(array("Q", [position for position, _ in take(store)]))
    store.close()

    assert (files.descriptors_open, files.maps_open) == (0, 0)
    assert list(tmp_path.iterdir()) == []


def test_a_segment_read_to_its_end_is_no_longer_mapped(tmp_path: Path) -> None:
    files = DiskFiles(descriptors_open_max=16)
    store = MessageStore(files, str(tmp_path / "1"), SETTINGS, durable=True)
    fill(store, 100, body_bytes=5000)
    store.flush()

    take(store)

    assert files.maps_open <= 1


# purging --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flushed", [0, 30, 60])
def test_a_purge_takes_what_is_ready_and_nothing_else(store: MessageStore, files: SimulatedFiles, flushed: int) -> None:
    fill(store, flushed, body_bytes=5000)
    store.flush()
    fill(store, 60 - flushed, first=flushed, body_bytes=5000)
    taken = take(store, 25)
    for position, _ in taken[5:10]:
        store.requeue(position)

    assert store.purge() == 40

    assert (store.ready_count, store.ready_bytes, store.unacknowledged_count) == (0, 0, 20)
    assert store.next_span() is None
    fill(store, 2, first=60)
    store.flush()
    assert [body for _, body in take(store)] == [b"000060", b"000061"]
    again = recovered(files)
    assert again is not None
    assert [body[:6] for _, body in take(again)] == [b"%06d" % number for number in (*range(5), *range(10, 25), 60, 61)]


def test_a_purge_of_everything_gives_the_disk_back(store: MessageStore, files: SimulatedFiles) -> None:
    fill(store, 60, body_bytes=5000)
    store.flush()
    fill(store, 3)

    assert store.purge() == 63
    store.flush()

    assert files.names() == []
    fill(store, 2)
    store.flush()
    assert len(take(store)) == 2


def test_a_purge_of_nothing_is_zero(store: MessageStore) -> None:
    assert store.purge() == 0
    fill(store, 2)
    taken = take(store)
    assert store.purge() == 0
    for position, _ in taken:
        store.settle(position)
    store.flush()
    assert store.is_vacant


# large messages -------------------------------------------------------------------------------------------------------


def test_a_large_message_is_written_at_once_and_in_order(store: MessageStore, files: SimulatedFiles) -> None:
    fill(store, 2)
    body = bytes(range(256)) * 2000
    head = encode_head(1, 1, 0, ADDRESS, HEADER, len(body))
    position = store.append_large([head, body[:100_000], memoryview(body)[100_000:]], len(head) + len(body))
    assert len(store.tail.records) == 0
    fill(store, 2, first=2)
    store.flush()

    assert body_at(store, position) == body
    assert [len(body) for _, body in take(store)] == [6, 6, 512_000, 6, 6]
    assert len(store.segments.by_number) == 3, "what does not fit begins a segment of its own"


def test_a_large_message_takes_no_copy(tmp_path: Path) -> None:
    """128 MiB pass through with the memory of a few pages: what a copy would take, the limit would not give."""
    resource = pytest.importorskip("resource")
    files = DiskFiles(descriptors_open_max=16)
    store = MessageStore(files, str(tmp_path / "1"), StoreSettings(), durable=True)
    piece = bytes(MIB)
    head = encode_head(1, 1, 0, ADDRESS, HEADER, 128 * MIB)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    position = store.append_large([head, *[piece] * 128], len(head) + 128 * MIB)

    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 * KIB  # in KiB: 16 MiB
    span = store.read(position)
    body = BodyMap(span.buffer, span.end - 128 * MIB, span.end)
    take(store)
    store.settle(position)
    store.close()
    assert body.piece(128 * MIB - 5, 5) == bytes(5)
    body.close()


def test_a_body_can_be_held_while_its_message_is_settled(store: MessageStore) -> None:
    for is_flushed in (False, True):
        position = store.append(record(b"held"))
        if is_flushed:
            store.flush()
        span = store.read(position)
        body = BodyMap(span.buffer, span.end - 4, span.end)
        take(store)
        store.settle(position)
        store.flush()
        store.append(record(b"other"))

        assert body.piece(0, 4) == b"held"
        body.close()
        store.purge()


# a disk that refuses --------------------------------------------------------------------------------------------------


def test_a_refused_flush_loses_nothing_and_may_be_repeated(store: MessageStore, files: SimulatedFiles) -> None:
    fill(store, 10)
    for step, calls_before in enumerate((0, 1, 1)):  # the directory, the file, the write
        files.refuse(calls_before)
        with pytest.raises(OSError) as refused:
            store.flush()
        assert refused.value.errno == errno.ENOSPC
        assert store.dirty
        fill(store, 1, first=10 + step)

    store.flush()

    assert [body for _, body in take(store)] == [b"%06d" % number for number in range(13)]
    again = recovered(files)
    assert again is not None
    assert [body for _, body in take(again)] == [b"%06d" % number for number in range(13)]


def test_messages_are_handed_out_while_the_disk_refuses(store: MessageStore, files: SimulatedFiles) -> None:
    files.refuse_everything()
    fill(store, 100, body_bytes=5000)
    with pytest.raises(OSError):
        store.flush()

    assert len(take(store)) == 100
    assert len(store.tail.records) > SETTINGS.segment_bytes_max
    files.accept_everything()
    store.flush()
    assert len(store.tail.records) == 0


def test_a_refused_large_message_waits_in_the_tail(store: MessageStore, files: SimulatedFiles) -> None:
    files.refuse_everything()
    head = encode_head(1, 1, 0, ADDRESS, HEADER, 500_000)
    position = store.append_large([head, b"L" * 500_000], len(head) + 500_000)
    with pytest.raises(OSError):
        store.flush()
    files.accept_everything()
    store.flush()

    assert body_at(store, position) == b"L" * 500_000
    assert decode(store.read(position).buffer, position & 0xFFFFFFFF).header == HEADER


def test_refused_acks_are_written_later(store: MessageStore, files: SimulatedFiles) -> None:
    fill(store, 10)
    store.flush()
    for position, _ in take(store, 6):
        store.settle(position)
    files.refuse(0)
    with pytest.raises(OSError):
        store.flush()

    store.flush()

    again = recovered(files)
    assert again is not None
    assert [body for _, body in take(again)] == [b"%06d" % number for number in range(6, 10)]


def test_consuming_makes_room_on_a_full_disk_although_nothing_can_be_noted(
    store: MessageStore, files: SimulatedFiles
) -> None:
    fill(store, 30, body_bytes=5000)
    store.flush()
    assert len(store.segments.by_number) > 1
    fill(store, 3)
    files.fill_up()
    with pytest.raises(OSError):
        store.flush()

    handed_out = take(store, 29)
    store.settle_many(array("Q", [position for position, _ in handed_out]))
    store.flush()

    again = recovered(files)
    assert again is not None
    assert len(take(again)) == 4


def test_a_settled_active_segment_goes_when_its_acks_find_no_room(store: MessageStore, files: SimulatedFiles) -> None:
    fill(store, 3)
    store.flush()
    store.settle_many(array("Q", [position for position, _ in take(store)]))
    files.fill_up()

    store.flush()

    assert not [name for name in files.names() if name.endswith(".messages")]
    fill(store, 2)
    store.flush()
    assert len(take(store)) == 2


def test_a_refused_unlink_is_tried_again(store: MessageStore, files: SimulatedFiles) -> None:
    fill(store, 30, body_bytes=5000)
    store.flush()
    store.settle_many(array("Q", [position for position, _ in take(store)]))
    for _ in range(2):
        files.refuse(0, errno.EIO)
        with pytest.raises(OSError):
            store.flush()
    store.flush()
    store.close()

    assert files.names() == []


def test_what_comes_next_is_read_while_acks_of_what_is_gone_are_in_the_way(
    store: MessageStore, files: SimulatedFiles
) -> None:
    for number in range(2):
        fill(store, 1, first=number)
        store.flush()
    store.settle(take(store)[1][0])
    store.flush()
    files = files.restart()
    again = MessageStore.recover(files, QUEUE, SETTINGS, RecoveryReport())
    assert again is not None
    fill(again, 1, first=2)
    again.settle(take(again, 1)[0][0])
    files.refuse(1, errno.EIO)
    with pytest.raises(OSError):
        again.flush()

    assert not again.is_vacant
    assert [body for _, body in take(again)] == [b"%06d" % 2]
    again.purge()
    again.flush()
    again.close()
    assert not [name for name in files.names() if name.endswith(".acks")]


def test_what_cannot_be_read_when_it_comes_back_is_back_all_the_same(
    store: MessageStore, files: SimulatedFiles
) -> None:
    """Whoever held it has gone: nobody gives it back another time."""
    fill(store, 3, body_bytes=100)
    store.flush()
    taken = take(store)
    files.close()
    files.refuse_map(0)
    files.refuse_look(0)

    for position, _ in taken:
        store.requeue(position)

    assert (store.ready_count, store.unacknowledged_count) == (3, 0)
    assert [body for _, body in take(store)] == [body for _, body in taken]
    assert store.ready_bytes == 0
    store.requeue(taken[0][0])
    assert store.ready_bytes == len(taken[0][1])


# when memory runs out -------------------------------------------------------------------------------------------------


@pytest.fixture
def forgetful(store: MessageStore, monkeypatch: pytest.MonkeyPatch) -> MessageStore:
    """Finds no memory to note what it has written."""

    def forget(*_facts: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Segments, "written", forget)
    return store


def test_a_block_that_is_written_and_still_in_the_tail_ends_the_shard(forgetful: MessageStore) -> None:
    """Whoever went on would write it twice."""
    forgetful.append(record(b"once"))

    with pytest.raises(HalfDone):
        forgetful.flush()


def test_a_large_message_that_is_written_and_not_counted_ends_the_shard(forgetful: MessageStore) -> None:
    encoded = record(b"once")

    with pytest.raises(HalfDone):
        forgetful.append_large([encoded[:30], encoded[30:]], len(encoded))


def test_nobody_takes_a_change_that_is_half_done_for_the_fault_of_a_client() -> None:
    assert not issubclass(HalfDone, Exception)
