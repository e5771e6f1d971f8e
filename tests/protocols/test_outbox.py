"""The outbox: water marks, a large body brought in piece by piece, and what is written meanwhile behind it."""

import pytest

from ipc.limits import LARGE_BODY_BYTES
from ipc.wire.amqp import frames
from shards.protocols.amqp.outbox import Outbox
from shards.store.body_map import BodyMap
from tests.protocols.framed import split

FRAME_MAX = 4096


def outbox(high: int = 1000, low: int = 100) -> Outbox:
    return Outbox(high=high, low=low, frame_max=FRAME_MAX)


def body_map(size_bytes: int) -> BodyMap:
    content = bytes(range(256)) * (size_bytes // 256 + 1)
    return BodyMap(bytearray(content), 0, size_bytes)


def send_all(box: Outbox, step: int = 1 << 30) -> bytes:
    """What a client reads, `step` bytes at a time."""
    heard = b""
    while not box.is_empty:
        piece = bytes(box.buffer[:step])
        assert piece, "neither empty nor anything to send"
        box.sent(len(piece))
        heard += piece
    return heard


def test_room_shrinks_as_bytes_are_written_and_comes_back_as_they_are_sent() -> None:
    box = outbox(high=1000)
    box.write(b"x" * 300)
    assert box.room_bytes == 700

    box.sent(100)
    assert box.room_bytes == 800


@pytest.mark.parametrize(("high", "low"), [(1000, 100), (1000, 0), (1000, 1000), (10, 5000), (1, 1)])
def test_an_outbox_without_room_is_not_low(high: int, low: int) -> None:
    """So that its becoming low always tells that there is room again, whatever the settings."""
    box = outbox(high, low)
    while box.room_bytes > 0:
        box.write(b"x")
    marks = [box.is_low]
    box.sent(len(box.buffer))
    marks.append(box.is_low)

    assert marks == [False, True]
    assert box.room_bytes > 0


@pytest.mark.parametrize("size_bytes", [1, 4088, 4089, 256 * 1024, 256 * 1024 + 1, 1_000_000])
@pytest.mark.parametrize("step", [997, 1 << 30])
def test_a_body_goes_out_whole_in_frames_of_its_channel(size_bytes: int, step: int) -> None:
    box = outbox()
    box.begin_body(7, body_map(size_bytes))

    sent = split(send_all(box, step), FRAME_MAX)

    assert {(kind, channel) for kind, channel, _payload in sent} == {(frames.BODY, 7)}
    assert b"".join(payload for _kind, _channel, payload in sent) == body_map(size_bytes).piece(0, size_bytes)


def test_a_large_body_is_never_in_memory_whole() -> None:
    box = outbox()
    box.begin_body(1, body_map(4_000_000))
    largest = 0
    while not box.is_empty:
        largest = max(largest, len(box.buffer))
        box.sent(min(50, len(box.buffer)) if len(box.buffer) < 200 else len(box.buffer) - 100)

    assert largest < 300_000


def test_nothing_else_is_delivered_while_a_body_is_under_way() -> None:
    box = outbox()
    box.begin_body(1, body_map(1_000_000))

    assert box.room_bytes == 0
    assert not box.is_low


def test_what_is_written_meanwhile_comes_behind_the_body() -> None:
    box = outbox()
    box.write(frames.pack(frames.METHOD, 1, b"before"))
    box.begin_body(1, body_map(1_000_000))
    box.write(frames.pack(frames.METHOD, 2, b"behind"))
    box.write(frames.pack(frames.METHOD, 3, b"last"))

    sent = split(send_all(box, 10_000), FRAME_MAX)

    assert sent[0][2] == b"before"
    assert {kind for kind, _channel, _payload in sent[1:-2]} == {frames.BODY}
    assert [payload for _kind, _channel, payload in sent[-2:]] == [b"behind", b"last"]


def test_one_body_may_follow_the_other() -> None:
    box = outbox()
    for channel in (1, 2):
        box.begin_body(channel, body_map(700_000))
        assert len(send_all(box)) > 700_000

    assert box.room_bytes == 1000


def test_a_client_that_is_gone_leaves_nothing() -> None:
    box = outbox()
    box.begin_body(1, body_map(1_000_000))
    box.write(b"behind")

    box.discard()

    assert box.is_empty
    assert box.is_low


def test_deliveries_never_clog_an_outbox_but_replies_do() -> None:
    """A delivery begins only where there is room, and is smaller than a large body plus its frames' heads."""
    box = outbox(high=5000)
    while box.room_bytes > 1:
        box.write(b"x")
    box.write(b"x" * (LARGE_BODY_BYTES + 10_000))
    marks = [box.is_clogged]
    box.write(b"reply" * (LARGE_BODY_BYTES // 5))
    marks.append(box.is_clogged)

    assert marks == [False, True]


def test_what_waits_behind_a_body_counts_when_it_clogs() -> None:
    box = outbox()
    box.begin_body(1, body_map(1_000_000))
    box.write(b"x" * 600_000)

    assert box.is_clogged


def test_what_it_takes_of_memory_includes_a_body_that_lies_in_no_file() -> None:
    """A body in a file is the kernel's; one of an unwritten tail was copied."""
    outbox = Outbox(high=1 << 20, low=1 << 18, frame_max=131072)
    empty = outbox.size_bytes

    outbox.begin_body(1, BodyMap(bytearray(10 << 20), 0, 10 << 20))

    assert outbox.size_bytes > empty + (10 << 20)
    outbox.discard()
    assert outbox.size_bytes == empty
