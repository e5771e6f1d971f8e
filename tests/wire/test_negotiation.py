"""The negotiation: every (state, input) pair has an outcome, and bytes may arrive in any portions."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands, encode

from ipc.errors import NotAllowed, ReplyCode
from ipc.limits import NEGOTIATION_FRAME_BYTES_MAX
from ipc.messages.commands import NegotiatedClient, Permissions
from ipc.wire.amqp import frames, methods
from ipc.wire.amqp.negotiation import (
    CLOSE_OK_FRAME,
    RULES,
    STEPS,
    UNLISTED,
    Enter,
    Input,
    Negotiation,
    Prove,
    State,
    Wish,
    make_offer,
)

OFFER = make_offer({"product": "EbbMQ"}, frame_max=131072, channel_max=2047, heartbeat_seconds=60)
EVERYTHING = Permissions(".*", ".*", ".*")
PROPERTIES: dict[str, Any] = {
    "product": "test",
    "capabilities": {"authentication_failure_close": True, "basic.nack": True, "old": False},
}


def start_ok(mechanism: str = "PLAIN", response: bytes = b"\0guest\0secret", properties: Any = PROPERTIES) -> bytes:
    arguments = (
        encode.field_table(properties)
        + encode.short_string(mechanism)
        + len(response).to_bytes(4, "big")
        + response
        + encode.short_string("en_US")
    )
    return frames.pack(frames.METHOD, 0, b"\x00\x0a\x00\x0b" + arguments)


def tune_ok(channel_max: int = 2047, frame_max: int = 131072, heartbeat: int = 60) -> bytes:
    return methods.frame(0, commands.Connection.TuneOk(channel_max, frame_max, heartbeat))


def open_vhost(name: str = "/") -> bytes:
    return methods.frame(0, commands.Connection.Open(name))


CLOSE = methods.frame(0, commands.Connection.Close(200, "bye", 0, 0))
INPUTS = {
    Input.START_OK: start_ok(),
    Input.TUNE_OK: tune_ok(),
    Input.OPEN: open_vhost(),
    Input.CLOSE: CLOSE,
    Input.OTHER_METHOD: methods.frame(0, commands.Channel.Open()),
    Input.UNKNOWN_METHOD: frames.pack(frames.METHOD, 0, b"\x00\x0a\x00\x63"),
    Input.HEARTBEAT: frames.HEARTBEAT_FRAME,
    Input.CONTENT: frames.pack(frames.BODY, 0, b"body"),
    Input.STRAY: methods.frame(1, commands.Channel.Open()),
}


class Said(NamedTuple):
    """One `connection.close` as a client reads it."""

    code: int
    text: str
    method: tuple[int, int]


def negotiation_in(state: State) -> Negotiation:
    """A negotiation that came to this state in the ordinary way, its output taken."""
    negotiation = Negotiation(OFFER)
    for step in _way_to(state):
        step(negotiation)
    negotiation.take_output()
    assert negotiation.state is state
    return negotiation


def _way_to(state: State) -> Iterator[Callable[[Negotiation], object]]:
    if state is State.CLOSED:
        yield lambda negotiation: negotiation.receive(b"GET / HTTP/1.1\r\n")
        return
    way: list[tuple[State, Callable[[Negotiation], object]]] = [
        (State.START, lambda negotiation: negotiation.receive(frames.PROTOCOL_HEADER)),
        (State.PROVING, lambda negotiation: negotiation.receive(start_ok())),
        (State.TUNE, lambda negotiation: negotiation.accept("guest", ("administrator",))),
        (State.OPEN, lambda negotiation: negotiation.receive(tune_ok())),
        (State.ENTERING, lambda negotiation: negotiation.receive(open_vhost())),
        (State.CLOSING, lambda negotiation: negotiation.refuse(NotAllowed("no"))),
    ]
    if state is State.HEADER:
        return
    for reached, step in way:
        yield step
        if reached is state:
            return


def close_in(output: bytes) -> Said:
    frame = frames.scan(output, 0, 131072)
    assert frame is not None
    close = methods.decode(output[frame.start : frame.end])
    assert isinstance(close, commands.Connection.Close)
    fields: dict[str, Any] = dict(close)
    return Said(fields["reply_code"], fields["reply_text"], (fields["class_id"], fields["method_id"]))


# every pair -----------------------------------------------------------------------------------------------------------

GOOD = "goes on"
CODES: dict[State, dict[Input, object]] = {
    State.START: {
        Input.START_OK: GOOD,
        Input.TUNE_OK: ReplyCode.COMMAND_INVALID,
        Input.OPEN: ReplyCode.COMMAND_INVALID,
    },
    State.TUNE: {
        Input.START_OK: ReplyCode.COMMAND_INVALID,
        Input.TUNE_OK: GOOD,
        Input.OPEN: ReplyCode.COMMAND_INVALID,
    },
    State.OPEN: {
        Input.START_OK: ReplyCode.COMMAND_INVALID,
        Input.TUNE_OK: ReplyCode.COMMAND_INVALID,
        Input.OPEN: GOOD,
    },
}
REFUSED_EVERYWHERE = {
    Input.OTHER_METHOD: ReplyCode.COMMAND_INVALID,
    Input.UNKNOWN_METHOD: ReplyCode.NOT_IMPLEMENTED,
    Input.CONTENT: ReplyCode.UNEXPECTED_FRAME,
    Input.STRAY: ReplyCode.UNEXPECTED_FRAME,
}
READING_FRAMES = [state for state, step in STEPS.items() if step is Negotiation._read_frame]


@pytest.mark.parametrize("state", READING_FRAMES)
@pytest.mark.parametrize("said", Input)
def test_every_input_is_decided_in_every_state_that_reads_frames(state: State, said: Input) -> None:
    negotiation = negotiation_in(state)
    wish = negotiation.receive(INPUTS[said])
    output = negotiation.take_output()

    if said is Input.HEARTBEAT:
        assert (negotiation.state, wish, output) == (state, None, b"")
    elif said is Input.CLOSE:
        assert (negotiation.state, wish, output) == (State.CLOSED, None, CLOSE_OK_FRAME)
    elif CODES[state].get(said) == GOOD:
        assert (
            negotiation.state
            is {
                State.START: State.PROVING,
                State.TUNE: State.OPEN,
                State.OPEN: State.ENTERING,
            }[state]
        )
    else:
        expected = CODES[state].get(said) or REFUSED_EVERYWHERE[said]
        assert (negotiation.state, wish, close_in(output).code) == (State.CLOSING, None, expected)


@pytest.mark.parametrize("state", [State.PROVING, State.ENTERING])
@pytest.mark.parametrize("said", Input)
def test_every_input_is_kept_unread_while_a_wish_is_open(state: State, said: Input) -> None:
    negotiation = negotiation_in(state)

    assert negotiation.receive(INPUTS[said]) is None

    assert (negotiation.state, negotiation.take_output()) == (state, b"")
    assert not negotiation.is_hungry


@pytest.mark.parametrize("said", Input)
def test_every_input_is_passed_over_while_closing(said: Input) -> None:
    negotiation = negotiation_in(State.CLOSING)

    assert negotiation.receive(INPUTS[said]) is None

    assert (negotiation.state, negotiation.take_output()) == (State.CLOSING, b"")


@pytest.mark.parametrize("said", Input)
def test_nothing_is_heard_after_the_end(said: Input) -> None:
    negotiation = negotiation_in(State.CLOSED)

    assert negotiation.receive(INPUTS[said]) is None

    assert (negotiation.state, negotiation.take_output()) == (State.CLOSED, b"")


@pytest.mark.parametrize("said", Input)
def test_every_input_without_a_header_before_it_gets_the_header(said: Input) -> None:
    negotiation = negotiation_in(State.HEADER)

    assert negotiation.receive(INPUTS[said]) is None

    assert (negotiation.state, negotiation.take_output()) == (State.CLOSED, frames.PROTOCOL_HEADER)


def test_the_tables_cover_every_state_and_input() -> None:
    assert set(STEPS) == set(State)
    assert set(UNLISTED) == set(Input) == set(INPUTS)
    assert set(RULES) == set(READING_FRAMES)


# the whole conversation -----------------------------------------------------------------------------------------------


def converse(portions: list[bytes]) -> tuple[Negotiation, bytes]:
    """Feed the portions, grant every wish at once; the negotiation and all it said."""
    negotiation = Negotiation(OFFER)
    output = b""
    for portion in portions:
        wish: Wish | None = negotiation.receive(portion)
        while isinstance(wish, Prove):
            assert (wish.user, wish.password) == ("guest", "secret")
            wish = negotiation.accept(wish.user, ("administrator",))
        output += negotiation.take_output()
    return negotiation, output


WHOLE = frames.PROTOCOL_HEADER + start_ok() + tune_ok(100, 8192, 10) + open_vhost("orders")
EXPECTED = NegotiatedClient(
    name="a -> b",
    user="guest",
    tags=("administrator",),
    vhost="orders",
    permissions=EVERYTHING,
    frame_max=8192,
    channel_max=100,
    heartbeat_seconds=10,
    mechanism="PLAIN",
    client_properties=encode.field_table(PROPERTIES),
    capabilities=frozenset({"authentication_failure_close", "basic.nack"}),
    unread=b"",
)


def test_a_negotiation_ends_in_everything_the_shard_needs() -> None:
    negotiation, output = converse([WHOLE])

    assert output == OFFER.start_frame + OFFER.tune_frame
    assert negotiation.freeze("a -> b", "orders", EVERYTHING) == EXPECTED


def test_a_frozen_client_survives_its_packet() -> None:
    packet = msgspec.msgpack.encode(EXPECTED)

    assert msgspec.msgpack.decode(packet, type=NegotiatedClient) == EXPECTED


def test_a_negotiation_may_arrive_byte_by_byte() -> None:
    negotiation, output = converse([WHOLE[at : at + 1] for at in range(len(WHOLE))])

    assert output == OFFER.start_frame + OFFER.tune_frame
    assert negotiation.freeze("a -> b", "orders", EVERYTHING) == EXPECTED


@given(st.lists(st.integers(0, len(WHOLE)), max_size=8), st.binary(max_size=40))
def test_a_negotiation_may_arrive_in_any_portions(cuts: list[int], more: bytes) -> None:
    """What follows `connection.open`, in the same portion or later, reaches the shard untouched."""
    sent = WHOLE + more
    borders = [0, *sorted(cuts), len(sent)]

    negotiation, _ = converse([sent[start:end] for start, end in itertools.pairwise(borders)])

    assert negotiation.freeze("a -> b", "orders", EVERYTHING) == msgspec.structs.replace(EXPECTED, unread=more)


@given(st.binary(max_size=60), st.sampled_from(list(State)))
def test_no_garbage_raises(garbage: bytes, state: State) -> None:
    negotiation_in(state).receive(garbage)


@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_no_flipped_byte_raises(at: int, flip: int) -> None:
    garbled = bytearray(WHOLE)
    garbled[at] ^= flip

    negotiation = Negotiation(OFFER)
    wish = negotiation.receive(bytes(garbled))
    if isinstance(wish, Prove):
        negotiation.accept("guest", ())


# the header -----------------------------------------------------------------------------------------------------------


def test_the_header_of_0_9_is_taken_for_0_9_1() -> None:
    negotiation = Negotiation(OFFER)

    negotiation.receive(b"AMQP\x01\x01\x00\x09")

    assert negotiation.take_output() == OFFER.start_frame


@pytest.mark.parametrize("header", [b"AMQP\x00\x01\x00\x00", b"AMQP\x03\x01\x00\x00", b"\x16", b"AMQX", b"G"])
def test_any_other_header_is_answered_as_soon_as_it_differs(header: bytes) -> None:
    negotiation = Negotiation(OFFER)

    negotiation.receive(header)

    assert (negotiation.state, negotiation.take_output()) == (State.CLOSED, frames.PROTOCOL_HEADER)


# credentials ----------------------------------------------------------------------------------------------------------


def test_amqplain_is_a_table_without_its_length() -> None:
    response = encode.field_table({"LOGIN": "guest", "PASSWORD": "secret"})[4:]

    wish = negotiation_in(State.START).receive(start_ok("AMQPLAIN", response))

    assert wish == Prove("AMQPLAIN", "guest", "secret")


def test_plain_may_name_an_authorization_identity() -> None:
    assert negotiation_in(State.START).receive(start_ok(response=b"me\0guest\0secret")) == Prove(
        "PLAIN", "guest", "secret"
    )


@pytest.mark.parametrize(
    ("mechanism", "response"),
    [
        ("PLAIN", b""),
        ("PLAIN", b"guest\0secret"),
        ("PLAIN", b"\0a\0b\0c"),
        ("PLAIN", b"\0\xff\0b"),
        ("AMQPLAIN", b"\x05LOGIN"),
        ("AMQPLAIN", encode.field_table({"LOGIN": "guest"})[4:]),
        ("AMQPLAIN", encode.field_table({"LOGIN": 5, "PASSWORD": "x"})[4:]),
    ],
)
def test_a_malformed_response_is_a_syntax_error(mechanism: str, response: bytes) -> None:
    negotiation = negotiation_in(State.START)

    assert negotiation.receive(start_ok(mechanism, response)) is None

    said = close_in(negotiation.take_output())
    assert (said.code, said.method) == (ReplyCode.SYNTAX_ERROR, (10, 11))


def test_an_unknown_mechanism_is_refused() -> None:
    negotiation = negotiation_in(State.START)

    negotiation.receive(start_ok("EXTERNAL", b""))

    assert close_in(negotiation.take_output()).code == ReplyCode.COMMAND_INVALID


def test_a_wrong_password_is_told_to_clients_that_can_hear_it() -> None:
    negotiation = negotiation_in(State.PROVING)

    negotiation.refuse_login()

    said = close_in(negotiation.take_output())
    assert said.code == ReplyCode.ACCESS_REFUSED
    assert said.text.startswith("ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN")
    assert negotiation.state is State.CLOSING


@pytest.mark.parametrize("properties", [{}, {"capabilities": {}}, {"capabilities": "yes"}])
def test_a_wrong_password_is_met_with_silence_elsewhere(properties: dict[str, Any]) -> None:
    negotiation = negotiation_in(State.START)
    negotiation.receive(start_ok(properties=properties))

    negotiation.refuse_login()

    assert (negotiation.state, negotiation.take_output()) == (State.CLOSED, b"")


# tuning ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("channel_max", "frame_max"),
    [(0, 131072), (2048, 131072), (2047, 0), (2047, 131073), (2047, 4095), (2047, 1)],
)
def test_what_was_not_offered_cannot_be_had(channel_max: int, frame_max: int) -> None:
    negotiation = negotiation_in(State.TUNE)

    negotiation.receive(tune_ok(channel_max, frame_max))

    said = close_in(negotiation.take_output())
    assert (said.code, said.method) == (ReplyCode.NOT_ALLOWED, (10, 31))


@pytest.mark.parametrize(("channel_max", "frame_max", "heartbeat"), [(1, 4096, 0), (2047, 131072, 65535)])
def test_less_than_offered_is_agreed_to(channel_max: int, frame_max: int, heartbeat: int) -> None:
    """The heartbeat is the client's choice entirely."""
    negotiation = negotiation_in(State.TUNE)

    negotiation.receive(tune_ok(channel_max, frame_max, heartbeat) + open_vhost())

    client = negotiation.freeze("a -> b", "/", EVERYTHING)
    assert (client.channel_max, client.frame_max, client.heartbeat_seconds) == (channel_max, frame_max, heartbeat)


# opening and closing --------------------------------------------------------------------------------------------------


def test_an_empty_vhost_is_the_first_one() -> None:
    assert negotiation_in(State.OPEN).receive(open_vhost("")) == Enter("/")


def test_a_refused_client_is_told_why_and_its_answer_ends_the_matter() -> None:
    negotiation = negotiation_in(State.ENTERING)
    negotiation.refuse(NotAllowed("vhost 'x' not found"), 0x000A0028)

    assert close_in(negotiation.take_output()) == Said(530, "NOT_ALLOWED - vhost 'x' not found", (10, 40))

    negotiation.receive(CLOSE_OK_FRAME)
    assert negotiation.state is State.CLOSED


def test_close_ok_is_found_byte_by_byte_behind_anything() -> None:
    negotiation = negotiation_in(State.CLOSING)

    for byte in b"\x01\x00\x00\x00" * 9 + CLOSE_OK_FRAME:
        negotiation.receive(bytes((byte,)))

    assert negotiation.state is State.CLOSED


def test_nothing_is_kept_of_what_a_refused_client_still_sends() -> None:
    negotiation = negotiation_in(State.CLOSING)

    for _ in range(100):
        negotiation.receive(bytes(16384))

    assert len(negotiation._incoming) < len(CLOSE_OK_FRAME)


# bad frames -----------------------------------------------------------------------------------------------------------


def test_an_oversized_frame_is_refused_before_it_is_kept() -> None:
    negotiation = negotiation_in(State.START)
    header = frames.pack(frames.METHOD, 0, bytes(NEGOTIATION_FRAME_BYTES_MAX + 1))[: frames.HEADER_BYTES]

    negotiation.receive(header)

    assert close_in(negotiation.take_output()).code == ReplyCode.FRAME_ERROR


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (frames.pack(frames.METHOD, 0, b"\x00\x0a"), ReplyCode.SYNTAX_ERROR),
        (frames.pack(frames.METHOD, 0, b"\x00\x0a\x00\x0b"), ReplyCode.SYNTAX_ERROR),
        (frames.pack(frames.METHOD, 0, b"\x00\x0a\x00\x0b\xff\xff\xff\xff"), ReplyCode.SYNTAX_ERROR),
        (frames.pack(frames.METHOD, 0, b"\x00\x0a\x00\x0b" + b"\x00\x00\x00\x04\x00F\x00\x00"), ReplyCode.SYNTAX_ERROR),
        (start_ok()[:-1] + b"\xcd", ReplyCode.FRAME_ERROR),
        (b"\x07" + frames.HEARTBEAT_FRAME[1:], ReplyCode.FRAME_ERROR),
    ],
    ids=["two bytes", "no fields", "endless table", "torn inner table", "wrong end", "wrong type"],
)
def test_what_cannot_be_read_is_refused(raw: bytes, code: ReplyCode) -> None:
    negotiation = negotiation_in(State.START)

    negotiation.receive(raw)

    assert close_in(negotiation.take_output()).code == code
