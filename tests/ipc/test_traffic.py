"""The load tool's walkers: the answers of a naive decoder, compiled and interpreted, wherever bytes are cut."""

import importlib.machinery
import importlib.util
import struct
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pamqp import commands, header

from ipc.wire.amqp import frames, methods, traffic

CHANNEL: Final = 1
WANTED_MAX: Final = 1000
TAG_MAX: Final = 2**63 - 1  # pamqp encodes no more


def interpreted() -> ModuleType:
    """The module as Python runs it, whether or not a compiled one stands beside it."""
    path = Path(traffic.__file__).parent / "traffic.py"
    loader = importlib.machinery.SourceFileLoader("interpreted_traffic", str(path))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


# One speed where nothing is compiled, else both.
SPEEDS: Final = [interpreted()] + ([traffic] if not traffic.__file__.endswith(".py") else [])
speeds = pytest.mark.parametrize("speed", SPEEDS, ids=["interpreted", "compiled"][: len(SPEEDS)])


class Message(NamedTuple):
    tag: int
    body: bytes
    pieces: tuple[int, ...]  # sizes of its body frames
    is_got: bool
    names: tuple[str, str, str]  # consumer tag, exchange, routing key
    is_after_heartbeat: bool


@st.composite
def messages(draw: st.DrawFn) -> Message:
    body = draw(st.binary(max_size=40))
    pieces: list[int] = []
    while sum(pieces) < len(body):
        pieces.append(draw(st.integers(1, len(body) - sum(pieces))))
    names = draw(st.tuples(*[st.text("abc.é", max_size=6)] * 3))
    return Message(draw(st.integers(1, TAG_MAX)), body, tuple(pieces), draw(st.booleans()), names, draw(st.booleans()))


def encode(message: Message) -> bytes:
    method: Any
    if message.is_got:
        method = commands.Basic.GetOk(message.tag, False, "", "", 3)
    else:
        method = commands.Basic.Deliver("t", message.tag, False, "", "")
        method.consumer_tag = message.names[0]
    method.exchange, method.routing_key = message.names[1:]
    content = header.ContentHeader(body_size=len(message.body), properties=commands.Basic.Properties(priority=3))
    parts = [frames.HEARTBEAT_FRAME] if message.is_after_heartbeat else []
    parts += [methods.frame(CHANNEL, method), frames.pack(frames.HEADER, CHANNEL, content.marshal())]
    at = 0
    for size in message.pieces:
        parts.append(frames.pack(frames.BODY, CHANNEL, message.body[at : at + size]))
        at += size
    return b"".join(parts)


class Walked(NamedTuple):
    """What a walker found out, over however many calls."""

    messages: int
    tag: int
    stamps: list[int]
    different: int
    at: int
    stopped_at: int
    is_fault: bool


def walk(speed: Any, parts: list[bytes], wanted: int = WANTED_MAX, expected: bytes = b"", begin: int = 0) -> Walked:
    """Feed one part after the other, as a receive buffer would grow."""
    state, room = speed.new_words(speed.STATE_WORDS), speed.new_words(WANTED_MAX + 1)
    stamps: list[int] = []
    received = bytearray()
    at = 0
    for part in parts:
        received += part
        taken = -1
        while taken:  # a small `wanted` leaves some for the next call
            before = state[speed.MESSAGES]
            state[speed.STAMPS] = 0
            at = speed.walk_deliveries(received, at, len(received), wanted, state, room, expected, begin)
            stamps += room[: state[speed.STAMPS]]
            taken = 0 if state[speed.FAULT] or state[speed.STOPPED_AT] else state[speed.MESSAGES] - before
        if state[speed.FAULT] or state[speed.STOPPED_AT]:
            break
    return Walked(
        state[speed.MESSAGES],
        state[speed.TAG],
        stamps,
        state[speed.DIFFERENT],
        at,
        state[speed.STOPPED_AT],
        bool(state[speed.FAULT]),
    )


def naive(sent: list[Message]) -> Walked:
    stamps = [int.from_bytes(m.body[:8], "big") for m in sent if m.pieces and m.pieces[0] >= 8]
    return Walked(len(sent), sent[-1].tag if sent else 0, stamps, 0, len(b"".join(map(encode, sent))), 0, False)


def decode_naively(conversation: bytes) -> Iterator[tuple[int, bytes]]:
    """Tags and bodies, by the codec of the broker, which knows nothing of walkers."""
    tag, body, left = 0, b"", -1
    at = 0
    while (frame := frames.scan(conversation, at, 131072)) is not None:
        payload = conversation[frame.start : frame.end]
        if frame.kind == frames.METHOD:
            method: Any = methods.decode(payload)
            tag = method.delivery_tag
        elif frame.kind == frames.HEADER:
            body, left = b"", int.from_bytes(payload[4:12], "big")
        elif frame.kind == frames.BODY:
            body += payload
        if left == len(body) and frame.kind != frames.HEARTBEAT:
            yield tag, body
            left = -1
        at = frame.end + 1


# deliveries -----------------------------------------------------------------------------------------------------------


@speeds
@given(sent=st.lists(messages(), max_size=5))
def test_what_is_counted_is_what_a_naive_decoder_finds(speed: Any, sent: list[Message]) -> None:
    conversation = b"".join(map(encode, sent))

    assert list(decode_naively(conversation)) == [(message.tag, message.body) for message in sent]
    assert walk(speed, [conversation]) == naive(sent)


@speeds
@settings(max_examples=30, deadline=None)  # each walks a conversation hundreds of times
@given(sent=st.lists(messages(), min_size=1, max_size=3))
def test_a_cut_at_any_byte_changes_nothing(speed: Any, sent: list[Message]) -> None:
    conversation = b"".join(map(encode, sent))
    whole = naive(sent)

    for cut in range(len(conversation) + 1):
        assert walk(speed, [conversation[:cut], conversation[cut:]]) == whole


@speeds
@settings(max_examples=50, deadline=None)
@given(sent=st.lists(messages(), max_size=4), wanted=st.integers(1, 3))
def test_byte_by_byte_and_few_at_a_time_it_ends_the_same(speed: Any, sent: list[Message], wanted: int) -> None:
    conversation = b"".join(map(encode, sent))

    assert walk(speed, [bytes((byte,)) for byte in conversation], wanted) == naive(sent)


@speeds
def test_no_more_than_wanted_are_taken(speed: Any) -> None:
    state, none = speed.new_words(speed.STATE_WORDS), speed.new_words(0)
    one = encode(Message(7, b"body", (4,), False, ("t", "", "q"), False))

    at = speed.walk_deliveries(one * 3, 0, 3 * len(one), 2, state, none, b"", 0)

    assert (at, state[speed.MESSAGES]) == (2 * len(one), 2)


@speeds
@pytest.mark.parametrize("cut", [None, 30, 50, 60, 65])
def test_each_piece_of_a_body_that_differs_is_counted_once(speed: Any, cut: int | None) -> None:
    right = encode(Message(1, b"0123456789", (4, 6), False, ("t", "", "q"), False))
    wrong = right.replace(b"6789", b"67x9")
    short = encode(Message(1, b"012345678", (9,), False, ("t", "", "q"), False))

    def different(conversation: bytes, begin: int = 0) -> int:
        return walk(speed, [conversation[:cut], conversation[cut:] if cut else b""], 9, b"0123456789", begin).different

    assert [different(right), different(wrong), different(short)] == [0, 1, 1]
    assert different(right.replace(b"01", b"xx"), begin=2) == 0  # where a stamp may stand


@speeds
def test_a_method_that_is_no_delivery_stops_the_walk_in_front_of_it(speed: Any) -> None:
    one = encode(Message(7, b"body", (4,), False, ("t", "", "q"), False))
    cancel = methods.frame(CHANNEL, commands.Basic.Cancel("t"))

    walked = walk(speed, [one + cancel + one])

    assert (walked.messages, walked.at, walked.stopped_at) == (1, len(one), commands.Basic.Cancel.index)
    assert not walked.is_fault


@speeds
@pytest.mark.parametrize(
    "bad",
    [
        frames.pack(frames.BODY, CHANNEL, b"body without a message"),
        frames.pack(frames.METHOD, CHANNEL, b"\0\0"),
        frames.pack(frames.METHOD, CHANNEL, b"\0\0\0\0"),
        frames.pack(frames.METHOD, CHANNEL, b"\0\x3c\0\x3c\xff"),
        frames.pack(frames.METHOD, CHANNEL, b"\0\x3c\0\x47\0\0\0"),
        frames.pack(frames.HEADER, CHANNEL, b"\0" * 14),
        frames.pack(9, CHANNEL, b""),
        frames.pack(frames.HEARTBEAT, 0, b"")[:-1] + b"\0",
    ],
)
def test_what_is_no_delivery_is_a_fault(speed: Any, bad: bytes) -> None:
    assert walk(speed, [bad]).is_fault


@given(st.lists(messages(), min_size=1, max_size=3), st.data())
def test_both_speeds_say_the_same_about_damaged_bytes(sent: list[Message], data: st.DataObject) -> None:
    damaged = bytearray(b"".join(map(encode, sent)))
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))

    results = {str(walk(speed, [bytes(damaged)], expected=sent[0].body)) for speed in SPEEDS}

    assert len(results) == 1


@given(st.binary(max_size=200), st.binary(max_size=12))
def test_no_noise_makes_a_walker_read_beyond_its_buffer(noise: bytes, expected: bytes) -> None:
    """Both check every access, so that one out of range would raise."""
    results = {str((walk(speed, [noise], expected=expected), confirm(speed, [noise], 8))) for speed in SPEEDS}

    assert len(results) == 1


# confirms -------------------------------------------------------------------------------------------------------------


def confirm(speed: Any, parts: list[bytes], room: int) -> tuple[int, int, int, bool, int]:
    """Settled, lowest of all settled, refused, fault, and where the walk ended."""
    state, ring = speed.new_words(speed.STATE_WORDS), bytearray(room)
    received = bytearray()
    at = 0
    for part in parts:
        received += part
        at = speed.walk_confirms(received, at, len(received), state, ring)
        if state[speed.FAULT] or state[speed.STOPPED_AT]:
            break
    settled = state[speed.TAG] + state[speed.BEYOND]
    return settled, state[speed.TAG], state[speed.REFUSED], bool(state[speed.FAULT]), at


@st.composite
def confirms(draw: st.DrawFn) -> tuple[int, list[tuple[int, bool, bool]]]:
    """A window, and a broker's confirms within it: tag, multiple, whether refused."""
    room = draw(st.integers(1, 8))
    settled: set[int] = set()
    found = []
    for _ in range(draw(st.integers(0, 25))):
        low = next(tag for tag in range(1, 1000) if tag not in settled)
        open_tags = [tag for tag in range(low, low + room) if tag not in settled]
        tag, multiple = draw(st.sampled_from(open_tags)), draw(st.booleans())
        settled |= set(range(1, tag + 1)) if multiple else {tag}
        found.append((tag, multiple, draw(st.booleans())))
    return room, found


@speeds
@given(confirms())
def test_confirms_in_any_order_settle_what_a_set_would(
    speed: Any, found: tuple[int, list[tuple[int, bool, bool]]]
) -> None:
    room, given_confirms = found
    settled: set[int] = set()
    refused = 0
    conversation = bytearray()
    for tag, multiple, is_refused in given_confirms:
        kind = commands.Basic.Nack if is_refused else commands.Basic.Ack
        conversation += methods.frame(CHANNEL, kind(tag, multiple))
        before = len(settled)
        settled |= set(range(1, tag + 1)) if multiple else {tag}
        refused += is_refused * (len(settled) - before)
    low = next(tag for tag in range(1, 1000) if tag not in settled) - 1
    whole = bytes(conversation)

    for parts in ([whole], [bytes((byte,)) for byte in whole]):
        assert confirm(speed, parts, room) == (len(settled), low, refused, False, len(whole))


@speeds
def test_a_confirm_beyond_the_window_is_a_fault(speed: Any) -> None:
    assert confirm(speed, [methods.frame(CHANNEL, commands.Basic.Ack(9))], 8)[3]


# stamps, acknowledgements, latencies ----------------------------------------------------------------------------------


@speeds
def test_stamps_go_where_bodies_begin_and_come_out_again(speed: Any) -> None:
    one = encode(Message(1, bytes(10), (10,), False, ("t", "", "q"), False))
    chunk = bytearray(one * 3)
    starts = speed.new_words(3)
    for number in range(3):
        starts[number] = (number + 1) * len(one) - 11

    speed.stamp(chunk, starts, 1, 3, 2**63 + 5)

    assert walk(speed, [bytes(chunk)]).stamps == [0, 2**63 + 5, 2**63 + 5]


@speeds
def test_a_stamp_beyond_its_chunk_is_refused(speed: Any) -> None:
    starts = speed.new_words(1)
    starts[0] = 10

    with pytest.raises((IndexError, struct.error)):
        speed.stamp(bytearray(12), starts, 0, 1, 1)


@speeds
def test_acknowledgements_are_numbered_in_place(speed: Any) -> None:
    acks = bytearray(methods.frame(CHANNEL, commands.Basic.Ack(0, True)) * 3)

    size = speed.number_acks(acks, 2, 100, 10)

    assert bytes(acks[:size]) == b"".join(methods.frame(CHANNEL, commands.Basic.Ack(tag, True)) for tag in (100, 110))


@speeds
@given(value=st.integers(0, 2**63))
def test_a_latency_is_counted_in_a_bucket_less_than_a_hundredth_wide(speed: Any, value: int) -> None:
    stamps, buckets = speed.new_words(1), speed.new_words(speed.BUCKETS)
    stamps[0] = 2**63 - value

    speed.record_latencies(stamps, 1, 2**63, buckets)

    (bucket,) = [number for number, count in enumerate(buckets) if count]
    floor, ceiling = speed.bucket_floor(bucket), speed.bucket_floor(bucket + 1)
    assert floor <= value < ceiling
    assert ceiling - floor <= max(1, floor / 100)


@speeds
def test_a_clock_behind_its_stamp_counts_as_no_time(speed: Any) -> None:
    stamps, buckets = speed.new_words(1), speed.new_words(speed.BUCKETS)
    stamps[0] = 100

    speed.record_latencies(stamps, 1, 99, buckets)

    assert buckets[0] == 1
