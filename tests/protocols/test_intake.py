"""However a client's bytes are cut into reads, and whichever way in they take, the broker ends in the same state and
says the same bytes."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pamqp import commands

from ipc.limits import LARGE_BODY_BYTES
from ipc.wire.amqp import frames, methods
from shards.protocols.amqp.connection import ConnectionState
from tests.protocols.conversation import Client, World, content
from tests.protocols.replay import Outcome, byte_by_byte, in_chunks, play, whole

FRAME_MAX = 4096
PUBLISHING, CONSUMING = 1, 2

QUEUES = ("jobs", "more", "lasting", "gone")
OPENING = (
    methods.frame(PUBLISHING, commands.Channel.Open())
    + methods.frame(PUBLISHING, commands.Confirm.Select())
    + methods.frame(CONSUMING, commands.Channel.Open())
    + methods.frame(CONSUMING, commands.Basic.Qos(prefetch_count=5))
    + methods.frame(CONSUMING, commands.Basic.Consume(queue="jobs", consumer_tag="acking"))
    + methods.frame(CONSUMING, commands.Basic.Consume(queue="more", consumer_tag="eating", no_ack=True))
)


def prepare(client: Client) -> None:
    for queue in QUEUES:
        client.declare(queue, durable=queue == "lasting")
        client.bind("amq.fanout", queue)
        client.bind("amq.topic", queue, f"{queue}.#")
    client.bind("amq.headers", "jobs", arguments={"for": "jobs"})


def test_the_fast_way_in_is_taken(world: World) -> None:
    """Or the rest of this file would compare the slow one with itself."""
    client = world.client(frame_max=FRAME_MAX).open()
    prepare(client)
    wire = content("", "gone", b"x" * 16, frame_max=FRAME_MAX) * 10
    client.send(wire)
    connection = client.connection

    with memoryview(wire) as view:
        assert connection._intake.run(view, 0, world.now) == len(wire)


places = st.sampled_from(
    [("", name) for name in QUEUES]
    + [("", "nowhere"), ("amq.fanout", ""), ("amq.topic", "jobs.a"), ("amq.topic", "x"), ("amq.headers", "")]
)
properties = st.sampled_from(
    [
        commands.Basic.Properties(),
        commands.Basic.Properties(delivery_mode=2),
        commands.Basic.Properties(priority=3, headers={"for": "jobs"}),
        commands.Basic.Properties(delivery_mode=2, content_type="text/plain", message_id="7", app_id="tests"),
        commands.Basic.Properties(delivery_mode=2, expiration="60000", user_id="guest"),
        commands.Basic.Properties(headers={"CC": ["more", "jobs"], "BCC": ["gone"]}),
    ]
)
sizes = st.sampled_from([0, 1, 16, 100, FRAME_MAX - 8, FRAME_MAX - 7, 9000])
publishes = st.builds(
    lambda place, size, properties, mandatory: content(
        place[0],
        place[1],
        bytes(size),
        channel=PUBLISHING,
        mandatory=mandatory,
        properties=properties,
        frame_max=FRAME_MAX,
    ),
    places,
    sizes,
    properties,
    st.booleans(),
)


def consuming(method: methods.Method) -> bytes:
    return methods.frame(CONSUMING, method)


tags = st.integers(1, 12)
acks = st.builds(lambda tag, multiple: consuming(commands.Basic.Ack(tag, multiple)), tags, st.booleans())
settlements = st.one_of(
    acks,
    st.just(consuming(commands.Basic.Ack(0, True))),  # everything, which is never wrong
    st.builds(lambda tag, requeue: consuming(commands.Basic.Nack(tag, False, requeue)), tags, st.booleans()),
    st.builds(lambda tag, requeue: consuming(commands.Basic.Reject(tag, requeue)), tags, st.booleans()),
    st.just(consuming(commands.Basic.Recover(True))),
)
changes = st.sampled_from(
    [
        frames.HEARTBEAT_FRAME,
        consuming(commands.Queue.Declare(queue="jobs")),
        # Nothing durable: waiting for the disk ends the turn early, and with it which confirms go out together.
        consuming(commands.Queue.Declare(queue="fresh")),
        consuming(commands.Queue.Delete(queue="gone")),
        consuming(commands.Queue.Purge(queue="lasting")),
        consuming(commands.Exchange.Declare(exchange="news", exchange_type="fanout")),
        consuming(commands.Exchange.Bind(destination="news", source="amq.fanout")),
        consuming(commands.Basic.Get(queue="lasting")),
        consuming(commands.Basic.Get(queue="gone", no_ack=True)),
        consuming(commands.Basic.Cancel("acking")),
        consuming(commands.Basic.Recover(False)),
        consuming(commands.Tx.Select()),
        consuming(commands.Tx.Rollback()),
        consuming(commands.Basic.Consume(queue="jobs", consumer_tag="acking")),
        consuming(commands.Channel.Close(200, "", 0, 0)),
        consuming(commands.Channel.Open()),
        frames.pack(frames.BODY, PUBLISHING, b"out of order"),
    ]
)
runs = st.builds(lambda one, count: one * count, publishes, st.integers(1, 6))
turns = st.lists(st.one_of(runs, runs, settlements, settlements, changes), min_size=1, max_size=12).map(b"".join)


def outcomes(conversation: Sequence[bytes], **facts: int) -> list[Outcome]:
    chops = (whole, byte_by_byte, in_chunks(1), in_chunks(2))
    return [play(conversation, chop, prepare=prepare, frame_max=FRAME_MAX, **facts) for chop in chops]


@settings(max_examples=60, deadline=None)
@given(st.lists(turns, min_size=1, max_size=4))
def test_any_conversation_ends_the_same_however_it_is_cut(later: list[bytes]) -> None:
    first, *others = outcomes([OPENING, *later])

    for other in others:
        assert other == first


ONE = content("", "gone", b"dig", frame_max=FRAME_MAX)
EMPTY = content("", "gone", b"", frame_max=FRAME_MAX)
LARGE = content("", "gone", bytes(3000), frame_max=FRAME_MAX)


def edited(message: bytes, at: int, replacement: bytes) -> bytes:
    return message[:at] + replacement + message[at + len(replacement) :]


def header_at(message: bytes) -> int:
    return len(message) - len(message.partition(b"\xce\x02\x00\x01")[2]) - 3


def one_frame(size: int) -> bytes:
    """A message in a single body frame, whatever frame_max says."""
    return content("", "gone", bytes(size), frame_max=1 << 20)


TABLE_OF_5000_BYTES = commands.Basic.Properties(headers={"long": "x" * 5000})

ODD: dict[str, tuple[bytes, ConnectionState]] = {
    "a wrong end octet of the method": (edited(ONE, header_at(ONE) - 1, b"\xcd"), ConnectionState.CLOSING),
    "a wrong end octet of the header": (ONE.replace(b"\xce\x03", b"\xcd\x03"), ConnectionState.CLOSING),
    "a wrong end octet of the body": (ONE[:-1] + b"\xcd", ConnectionState.CLOSING),
    "a header of another class": (edited(ONE, header_at(ONE) + 7, b"\x00\x3d"), ConnectionState.CLOSING),
    "a header with a weight": (edited(ONE, header_at(ONE) + 9, b"\x00\x01"), ConnectionState.CLOSING),
    "a header on another channel": (edited(ONE, header_at(ONE) + 1, b"\x00\x02"), ConnectionState.CLOSING),
    "a header with unknown flags": (edited(ONE, header_at(ONE) + 19, b"\x00\x03"), ConnectionState.CLOSING),
    "a header that promises properties": (edited(ONE, header_at(ONE) + 19, b"\x10\x00"), ConnectionState.CLOSING),
    "a header that promises less": (edited(ONE, header_at(ONE) + 18, b"\x02"), ConnectionState.CLOSING),
    "a body on another channel": (ONE.replace(b"\xce\x03\x00\x01", b"\xce\x03\x00\x02"), ConnectionState.CLOSING),
    "a body frame beyond frame_max": (one_frame(FRAME_MAX + 1), ConnectionState.CLOSING),
    "a header frame beyond frame_max": (
        content("", "gone", b"", properties=TABLE_OF_5000_BYTES),
        ConnectionState.CLOSING,
    ),
    "a body frame that just fits": (one_frame(FRAME_MAX - 8), ConnectionState.OPEN),
    "a body frame of a client that forgets the overhead": (one_frame(FRAME_MAX), ConnectionState.OPEN),
    "a method in the middle": (
        ONE[: header_at(ONE)] + consuming(commands.Basic.Ack(0, True)) + ONE[header_at(ONE) :],
        ConnectionState.OPEN,
    ),
    "a whole message in the middle of another": (ONE[: header_at(ONE)] + ONE, ConnectionState.CLOSING),
    "a whole message before the body of another": (ONE[:-11] + ONE, ConnectionState.CLOSING),
    "a method of the same channel in the middle": (
        ONE[: header_at(ONE)] + methods.frame(PUBLISHING, commands.Basic.Ack(0, True)) + ONE[header_at(ONE) :],
        ConnectionState.CLOSING,
    ),
    "an empty body frame before the body": (
        ONE.replace(b"\xce\x03", b"\xce" + frames.pack(frames.BODY, PUBLISHING, b"") + b"\x03"),
        ConnectionState.OPEN,
    ),
    "a body in many small frames": (
        LARGE[: -3000 - 8] + frames.pack(frames.BODY, PUBLISHING, bytes(30)) * 100,
        ConnectionState.OPEN,
    ),
    "an empty body and a frame of it nevertheless": (
        EMPTY + frames.pack(frames.BODY, PUBLISHING, b""),
        ConnectionState.CLOSING,
    ),
    "something behind the method's last field": (
        frames.pack(frames.METHOD, PUBLISHING, ONE[7 : header_at(ONE) - 1] + b"?") + ONE[header_at(ONE) :],
        ConnectionState.CLOSING,
    ),
    "an unknown tag": (consuming(commands.Basic.Ack(99, False)), ConnectionState.OPEN),
    "an acknowledgement for a channel nobody opened": (
        methods.frame(9, commands.Basic.Ack(1, False)),
        ConnectionState.CLOSING,
    ),
    "a body larger than the broker takes": (one_frame(FRAME_MAX - 100), ConnectionState.OPEN),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_messages_among_plain_ones_end_the_same_however_they_are_cut(name: str) -> None:
    odd, state = ODD[name]
    limit = 3900 if "larger than the broker takes" in name else 1 << 20

    first, *others = outcomes([OPENING + ONE * 3, ONE + odd + ONE * 2, ONE], message_bytes_max=limit)

    assert first.state is state
    for other in others:
        assert other == first


def test_a_large_body_ends_the_same_however_it_is_cut() -> None:
    conversation = [OPENING, content("", "jobs", bytes(LARGE_BODY_BYTES + 5), frame_max=FRAME_MAX) * 2, ONE]
    first, *others = [
        play(conversation, chop, prepare=prepare, frame_max=FRAME_MAX) for chop in (whole, in_chunks(1), in_chunks(2))
    ]

    assert len(first.heard) > 2 * LARGE_BODY_BYTES
    for other in others:
        assert other == first
