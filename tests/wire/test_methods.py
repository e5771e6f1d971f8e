"""Control methods: what clients send is read strictly, what we send is read by theirs."""

import struct
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands, frame
from pamqp.common import FieldTable

from ipc.errors import NotImplementedRefusal, SyntaxRefused
from ipc.wire.amqp import frames, methods

TABLE: FieldTable = {"x-max-length": 5, "x-queue-type": "classic", "nested": {"list": [1, "two", None, True]}}

EXAMPLES: list[methods.Method] = [
    commands.Connection.Start(0, 9, {"product": "test"}, "PLAIN", "en_US"),
    commands.Connection.TuneOk(2047, 131072, 60),
    commands.Connection.Open("/"),
    commands.Connection.Close(200, "bye", 0, 0),
    commands.Channel.Open(),
    commands.Exchange.Declare(0, "logs", "topic", False, True, False, True, False, TABLE),
    commands.Queue.Declare(0, "jobs", False, True, False, True, False, TABLE),
    commands.Queue.Bind(0, "jobs", "logs", "a.*", True, TABLE),
    commands.Basic.Consume(0, "jobs", "tag", False, True, True, False, TABLE),
    commands.Basic.Qos(0, 50, True),
    commands.Basic.Ack(2**62, True),
    commands.Confirm.Select(),
]


def payload_of(method: methods.Method) -> bytes:
    return methods.frame(1, method)[frames.HEADER_BYTES : -1]


@pytest.mark.parametrize("method", EXAMPLES, ids=lambda method: method.name)
def test_a_method_is_read_as_it_was_written(method: methods.Method) -> None:
    assert dict(methods.decode(payload_of(method))) == {
        name: value.encode() if method.amqp_type(name) == "longstr" and isinstance(value, str) else value
        for name, value in dict(method).items()
    }


@pytest.mark.parametrize("method", EXAMPLES, ids=lambda method: method.name)
def test_a_method_is_written_as_pamqp_writes_it(method: methods.Method) -> None:
    """To the byte, but for tables, whose numbers and order are our own."""
    written, theirs = methods.frame(1, method), frame.marshal(method, 1)

    if any(method.amqp_type(name) == "table" for name in dict(method)):
        read, meant = frame.unmarshal(written)[2], frame.unmarshal(theirs)[2]
        assert isinstance(read, methods.Method) and isinstance(meant, methods.Method)
        assert dict(read) == dict(meant)
    else:
        assert written == theirs


@pytest.mark.parametrize("method", EXAMPLES, ids=lambda method: method.name)
def test_a_truncated_method_is_refused_at_every_byte(method: methods.Method) -> None:
    payload = payload_of(method)

    for size in range(len(payload)):
        with pytest.raises(SyntaxRefused):
            methods.decode(payload[:size])


@given(st.sampled_from(sorted(commands.INDEX_MAPPING)), st.binary(max_size=80))
def test_no_garbage_raises_anything_but_a_refusal(index: int, garbage: bytes) -> None:
    try:
        methods.decode(struct.pack(">I", index) + garbage)
    except SyntaxRefused:
        pass


def test_a_method_that_does_not_exist_is_not_implemented() -> None:
    with pytest.raises(NotImplementedRefusal, match="no method 99 in class 50"):
        methods.decode(struct.pack(">HH", 50, 99))


def test_names_may_be_any_text() -> None:
    reply = commands.Queue.DeclareOk("", 3, 2)
    reply.queue = "Warteschlange für Übergrößen\n"

    assert dict(methods.decode(payload_of(reply))) == {
        "queue": "Warteschlange für Übergrößen\n",
        "message_count": 3,
        "consumer_count": 2,
    }


def test_a_delivery_tag_has_64_bits_and_no_sign() -> None:
    ack = methods.decode(struct.pack(">HHQB", 60, 80, 2**64 - 1, 0))

    assert dict(ack) == {"delivery_tag": 2**64 - 1, "multiple": False}


def test_a_method_knows_its_name() -> None:
    assert methods.name(commands.Connection.Open.index) == "Connection.Open"


def test_reading_and_writing_methods_leaves_nothing_behind() -> None:
    """Names made for a look-up stay in the interpreter's cache of attributes: 4,096 of them, strewn over the heap."""
    payloads = [payload_of(method) for method in EXAMPLES]
    script = [*payloads] * 3
    for payload in script:
        methods.decode(payload)
    before = sys.getallocatedblocks()

    for payload in script * 30:
        methods.decode(payload)
        methods.frame(1, commands.Channel.CloseOk())
        methods.frame(1, commands.Queue.DeclareOk("jobs", 0, 0))

    assert sys.getallocatedblocks() - before < 50
