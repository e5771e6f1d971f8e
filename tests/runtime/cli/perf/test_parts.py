"""What the load tool reckons with before anything is connected: rates, shares, targets, messages, percentiles."""

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.wire.amqp import traffic
from runtime.cli.perf.board import Board, Column
from runtime.cli.perf.client import Refused
from runtime.cli.perf.crew import Share, judge
from runtime.cli.perf.latency import percentiles
from runtime.cli.perf.load import portion_of, share_of
from runtime.cli.perf.messages import Chunk, encode_message, encode_properties
from runtime.cli.perf.options import RATE, JsonObject
from runtime.cli.perf.pace import UNLIMITED, Pace
from runtime.cli.perf.target import parse_uri
from runtime.cli.perf.turns import spread

SECOND = 1_000_000_000


# pace -----------------------------------------------------------------------------------------------------------------


def test_a_pace_allows_each_message_when_it_is_due() -> None:
    pace = Pace(10_000, 0)

    assert pace.allows(99_000) == 0
    assert pace.seconds_to_next(99_000) == pytest.approx(1e-6)
    assert pace.allows(100_000) == 1
    pace.did(1)
    assert pace.allows(350_000) == 2


@given(st.floats(0.5, 1e6), st.lists(st.integers(1, SECOND // 2), max_size=50))
def test_a_pace_never_allows_more_than_its_rate(rate: float, pauses: list[int]) -> None:
    pace, now, done = Pace(rate, 0), 0, 0

    for pause in pauses:
        now += pause
        allowed = max(pace.allows(now), 0)
        pace.did(allowed)
        done += allowed

    assert done <= now * rate / SECOND + 1


def test_what_was_held_up_for_long_is_not_made_up_for() -> None:
    pace = Pace(100, 0)

    assert pace.allows(60 * SECOND) == 1


def test_no_rate_is_no_limit() -> None:
    assert Pace(0, 0).allows(0) == UNLIMITED


# who does what --------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2000), st.integers(0, 100))
def test_every_worker_is_in_one_process_and_processes_are_about_as_full(workers: int, processes: int) -> None:
    parts = spread(workers, processes)

    assert [number for part in parts for number in part] == list(range(workers))
    assert not parts or max(map(len, parts)) - min(map(len, parts)) <= 1


@given(st.integers(0, 10_000), st.integers(1, 50))
def test_portions_make_up_the_whole(count: int, workers: int) -> None:
    assert sum(portion_of(count, worker, workers) for worker in range(workers)) == count


@given(st.integers(1, 20), st.integers(1, 20))
def test_every_queue_is_served(queues: int, workers: int) -> None:
    names = tuple(map(str, range(queues)))

    assert {queue for worker in range(workers) for queue in share_of(names, worker, workers)} == set(names)


def test_rows_of_the_board_do_not_touch() -> None:
    board = Board(3, with_latencies=True)
    board.row(1).words[Column.CONSUMED] = 7
    board.row(2).buckets[5] = 2

    assert board.values(range(3), Column.CONSUMED) == [0, 7, 0]
    assert board.total(Column.CONSUMED) == 7
    assert board.buckets()[5] == sum(board.buckets()) == 2
    assert not board.row(0).is_stopped()


@pytest.mark.parametrize(
    ("running", "waiting", "is_tool", "is_cores"),
    [(0.95, 0.0, True, False), (0.5, 0.45, False, True), (0.5, 0.1, False, False)],
)
def test_whoever_was_busy_all_the_time_was_the_limit(
    running: float, waiting: float, is_tool: bool, is_cores: bool
) -> None:
    verdict = judge([Share("consumer 1", 0.1, 0.0, 0.1), Share("publisher 1", running, waiting, 1.0)])

    assert (verdict.tool_was_limit, verdict.cores_were_limit) == (is_tool, is_cores)
    assert bool(verdict.note and "publisher 1" in verdict.note) == (is_tool or is_cores)


# targets and options --------------------------------------------------------------------------------------------------


def test_parts_of_a_uri_that_are_missing_have_defaults() -> None:
    target = parse_uri("amqp://")

    assert (target.host, target.port, target.user, target.password, target.vhost) == (
        "localhost", 5672, "guest", "guest", "/",
    )  # fmt: skip


def test_parts_of_a_uri_are_unquoted() -> None:
    target = parse_uri("amqp://me%40here:s%2Fcret@[::1]:5673/a%2Fb")

    assert (target.user, target.password, target.vhost, str(target)) == ("me@here", "s/cret", "a/b", "[::1]:5673")


@pytest.mark.parametrize("uri", ["http://host", "amqps://host", "amqp://host:99999", "amqp://host/a/b", "amqp://[::1"])
def test_a_uri_that_is_none_is_refused_with_a_sentence(uri: str) -> None:
    with pytest.raises(ValueError):
        parse_uri(uri)


@pytest.mark.parametrize("text", ["{x", "[1]", "1", "[" * 100_000])
def test_what_is_no_json_object_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        JsonObject().convert(text, None, None)


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "much"])
def test_a_rate_is_a_number_to_count_with(text: str) -> None:
    with pytest.raises(click.BadParameter):
        RATE.convert(text, None, None)


# messages -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "properties", [{"nope": 1}, {"priority": 1000}, {"timestamp": "noon"}, {"headers": {"a": 1 << 70}}]
)
def test_properties_that_cannot_be_sent_are_refused_with_a_sentence(properties: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        encode_properties(16, properties, is_persistent=False)


def test_a_name_that_is_too_long_is_refused_with_a_sentence() -> None:
    with pytest.raises(Refused):
        encode_message("", "q" * 256, encode_properties(1, {}, is_persistent=False), b"x", 4096)


@given(
    body_bytes=st.integers(0, 300), frame_max=st.integers(40, 200), kinds=st.integers(1, 3), room=st.integers(0, 2000)
)
def test_a_chunk_knows_where_its_messages_and_bodies_begin(
    body_bytes: int, frame_max: int, kinds: int, room: int
) -> None:
    body = bytes(range(65, 91)) * 12
    header = encode_properties(body_bytes, {}, is_persistent=True)
    messages = [encode_message("", "q" * (kind + 1), header, body[:body_bytes], frame_max) for kind in range(kinds)]

    chunk = Chunk(messages, body_bytes, frame_max, size_bytes_max=room)

    for number in range(chunk.count):
        begin, end = chunk.begin(number), chunk.ends[number]
        assert bytes(chunk.data[begin:end]) == messages[number % kinds]
        assert chunk.whole(end) == chunk.whole(begin) + 1 == number + 1
        if body_bytes:
            assert chunk.data[chunk.starts[number]] == ord("A")


# latencies ------------------------------------------------------------------------------------------------------------


def test_percentiles_are_microseconds_of_what_was_counted() -> None:
    stamps, buckets = traffic.new_words(1000), traffic.new_words(traffic.BUCKETS)
    for number in range(1000):
        stamps[number] = SECOND - (number + 1) * 1000  # 1 µs to 1 ms
    traffic.record_latencies(stamps, 1000, SECOND, buckets)

    found = percentiles(buckets)

    assert list(found) == ["p50", "p75", "p95", "p99", "p99_9", "max"]
    assert found["p50"] == pytest.approx(500, rel=0.01)
    assert found["p99"] == pytest.approx(990, rel=0.01)
    assert found["max"] == pytest.approx(1000, rel=0.01)


def test_without_messages_there_are_no_percentiles() -> None:
    assert percentiles([0] * 10) == {}
