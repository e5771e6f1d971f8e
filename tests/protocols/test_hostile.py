"""Nothing a client can send makes the broker stumble, harms another client, or is kept without bound."""

import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from pamqp import commands

from ipc.limits import LARGE_BODY_BYTES, RECEIVE_BYTES_PER_TURN, ROUTES_CACHED_MAX, UNCOMMITTED_BYTES_MAX
from ipc.settings import ConnectionSettings
from ipc.wire.amqp import frames, methods
from shards.protocols.amqp.connection import ConnectionState
from tests.protocols.conversation import Client, World, content
from tests.protocols.replay import feed, in_chunks

FRAME_MAX = 4096
MESSAGE_MAX = 100_000
OUTBOX_HIGH = 20_000
CHANNELS = (1, 2, 3)

OPENING = b"".join(methods.frame(channel, commands.Channel.Open()) for channel in CHANNELS)


class Victim:
    """A world with somebody in it who has done nothing, and wants to go on undisturbed."""

    def __init__(self, directory: str, *, hostile_reads: bool) -> None:
        self.world = World(
            Path(directory),
            settings=ConnectionSettings(outbox_bytes_high=OUTBOX_HIGH, outbox_bytes_low=OUTBOX_HIGH // 4),
        )
        self.client = self.world.client(frame_max=FRAME_MAX).open()
        self.client.declare("mine", exclusive=True)
        self.client.declare("shared")
        for exchange in ("amq.direct", "amq.fanout", "amq.topic", "amq.headers"):
            self.client.bind(exchange, "shared", "#")
        self.client.consume("shared")
        self.hostile = self.world.client(frame_max=FRAME_MAX, heartbeat=60, message_bytes_max=MESSAGE_MAX)
        self.hostile.reads = hostile_reads

    def suffers(self, data: bytes, seed: int) -> None:
        """Everything arrives in chunks, with turns and time in between; what is kept is looked at after each."""
        for piece in in_chunks(seed)(data):
            connection = self.hostile.connection
            if connection.state is ConnectionState.CLOSED or not connection.wants_input:
                break
            feed(self.hostile, (piece,))
            self.world.finish_turn()
            assert_little_is_kept(self.hostile)
        self.world.advance(1)

    def is_unharmed(self) -> bool:
        """Whether the other client's own queue works, and whatever it heard can be read (`parse` checks)."""
        self.client.replies()
        self.client.publish("", "mine", b"still here")
        found = b"still here" in self.client.drain("mine")
        self.hostile.reads = True
        self.world.finish_turn()
        self.hostile.replies()
        self.hostile.disconnect()
        self.world.close()
        return found


def assert_little_is_kept(client: Client) -> None:
    connection = client.connection
    assert len(connection.partial) <= FRAME_MAX + 8 + RECEIVE_BYTES_PER_TURN
    assert len(connection.outbox.buffer) <= 2 * (OUTBOX_HIGH + LARGE_BODY_BYTES) + RECEIVE_BYTES_PER_TURN
    assert len(connection.routes) <= ROUTES_CACHED_MAX
    assert len(connection.channels) <= connection.channel_max
    assert connection.uncommitted_bytes <= UNCOMMITTED_BYTES_MAX
    for channel in connection.channels.values():
        assert channel.content is None or len(channel.content.body) <= MESSAGE_MAX
        assert len(channel.sources) <= len(channel.consumers) + len(channel.ledger)


def attack(data: bytes, seed: int = 0, *, reads: bool = True) -> None:
    with tempfile.TemporaryDirectory() as directory:
        victim = Victim(directory, hostile_reads=reads)
        victim.suffers(data, seed)
        assert victim.is_unharmed()


# random bytes and frames ----------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 1000))
def test_random_bytes_harm_nobody(data: bytes, seed: int) -> None:
    attack(data, seed)


INDEXES = sorted(commands.INDEX_MAPPING)
payloads = st.one_of(
    st.binary(max_size=40),
    st.builds(
        lambda index, arguments: index.to_bytes(4, "big") + arguments, st.sampled_from(INDEXES), st.binary(max_size=40)
    ),
    st.builds(
        lambda size, rest: b"\x00\x3c\x00\x00" + size.to_bytes(8, "big") + rest,
        st.one_of(st.integers(0, 50), st.integers(0, 2**64 - 1)),
        st.one_of(st.just(b"\x00\x00"), st.binary(min_size=2, max_size=30)),
    ),
)
random_frames = st.builds(
    frames.pack, st.sampled_from([1, 1, 1, 2, 2, 3, 3, 8, 4]), st.sampled_from([0, 1, 1, 1, 2, 9]), payloads
)


@settings(max_examples=200, deadline=None)
@given(st.lists(random_frames, max_size=8), st.integers(0, 1000))
def test_random_frames_harm_nobody(sent: list[bytes], seed: int) -> None:
    attack(OPENING + b"".join(sent), seed)


# sound methods with unsound wishes ------------------------------------------------------------------------------------

texts = st.one_of(
    st.sampled_from(
        ["", "shared", "mine", "amq.topic", "amq.fanout", "amq.headers", "amq.direct", "news", "queue", "nowhere"]
    ),
    st.sampled_from(["amq.rabbitmq.reply-to", "amq.rabbitmq.reply-to.name-1", "amq.direct.reply-to"]),
    st.sampled_from(["fanout", "topic", "headers", "#.*.#", "x" * 255, "\x00", "\n", "ß", "amq.gen-name-3"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
)
values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(width=32),
        st.sampled_from(["all", "any", "most", "all-with-x"]),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
        st.just(Decimal("3.14")),
        st.just(datetime(2024, 2, 29, tzinfo=UTC)),
        st.binary(max_size=3).map(bytearray),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text("ab", max_size=2), inner, max_size=3)),
    max_leaves=6,
)
tables = st.dictionaries(
    st.sampled_from(["x-match", "x-max-length", "a", "alternate-exchange", "CC", "BCC", ""]), values, max_size=3
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "bit": st.sampled_from([False, False, True]),
    "octet": st.integers(0, 255),
    "short": st.sampled_from([0, 0, 1, 3, 65535]),
    "long": st.sampled_from([0, 0, 1, 2**32 - 1]),
    "longlong": st.sampled_from([0, 1, 2, 3, 5, 2**63 - 1]),
    "shortstr": texts,
    "longstr": st.text(max_size=5),
    "table": st.one_of(st.just({}), tables),
}


@st.composite
def wishes(draw: st.DrawFn) -> bytes:
    """Any method there is, with any values in its fields, now and then followed by content."""
    kind: type[methods.Method] = draw(st.sampled_from(LIKELY))
    method = kind.__new__(kind)  # the constructor would refuse some of it
    for field in method.__slots__:
        setattr(method, field, draw(FIELDS[method.amqp_type(field)]))
    channel = draw(st.sampled_from(CHANNELS))
    data = methods.frame(channel, method)
    if kind is commands.Basic.Publish and draw(st.integers(0, 9)):
        body = bytes(draw(st.sampled_from([0, 1, 5000])))
        properties = commands.Basic.Properties(
            headers=draw(st.one_of(st.none(), tables)),
            delivery_mode=draw(modes),
            reply_to=draw(st.sampled_from([None, None, "amq.rabbitmq.reply-to"])),
            expiration=draw(st.sampled_from([None, None, "0", "60000", "soon"])),
            user_id=draw(st.sampled_from([None, None, "guest", "root"])),
        )
        whole = content("", "", body, channel=channel, properties=properties, frame_max=FRAME_MAX)
        data += whole[len(methods.frame(channel, commands.Basic.Publish())) :]
    return data


modes = st.sampled_from([None, 1, 2])
EVERY_METHOD: list[type[methods.Method]] = [commands.INDEX_MAPPING[index] for index in INDEXES]
OF_CLIENTS = [
    kind
    for kind in EVERY_METHOD
    if kind.__qualname__.split(".")[0] in ("Queue", "Exchange", "Basic", "Confirm", "Channel", "Tx")
    and not kind.__qualname__.endswith(("Ok", "Empty", "Deliver", "Return", "Close"))
]
LIKELY = [*OF_CLIENTS, *OF_CLIENTS, *OF_CLIENTS, *[commands.Basic.Publish] * 15, *EVERY_METHOD]


@settings(max_examples=300, deadline=None)
@given(st.lists(wishes(), max_size=15), st.integers(0, 1000), st.booleans())
def test_sound_methods_with_unsound_wishes_harm_nobody(sent: list[bytes], seed: int, reads: bool) -> None:
    attack(OPENING + b"".join(sent), seed, reads=reads)


# sound conversations, damaged -----------------------------------------------------------------------------------------

SOUND: Sequence[bytes] = (
    OPENING,
    methods.frame(1, commands.Confirm.Select()),
    methods.frame(1, commands.Queue.Declare(queue="queue", durable=True, arguments={"x-max-length": 5})),
    methods.frame(1, commands.Exchange.Declare(exchange="news", exchange_type="topic")),
    methods.frame(1, commands.Queue.Bind(queue="queue", exchange="news", routing_key="a.#")),
    content("news", "a.b", b"dig", frame_max=FRAME_MAX) * 5,
    content("amq.fanout", "", bytes(9000), frame_max=FRAME_MAX, properties=commands.Basic.Properties(delivery_mode=2)),
    methods.frame(2, commands.Basic.Qos(prefetch_count=2)),
    methods.frame(2, commands.Basic.Consume(queue="queue", consumer_tag="me")),
    methods.frame(2, commands.Basic.Ack(1, False)),
    methods.frame(2, commands.Basic.Nack(0, True, True)),
    methods.frame(3, commands.Basic.Get(queue="queue")),
    frames.HEARTBEAT_FRAME,
    content("", "queue", b"dig", channel=3, mandatory=True, frame_max=FRAME_MAX) * 5,
    methods.frame(2, commands.Basic.Recover(True)),
    methods.frame(1, commands.Queue.Delete(queue="queue")),
    methods.frame(1, commands.Channel.Close(200, "", 0, 0)),
    methods.frame(0, commands.Connection.Close(200, "", 0, 0)),
)


def damaged(seed: int) -> bytes:
    """The conversation with a few bytes changed, lost or doubled, or whole frames in another order."""
    random = Random(seed)
    parts = list(SOUND)
    if random.random() < 0.3:
        random.shuffle(parts)
    data = bytearray(b"".join(parts))
    for _ in range(random.randrange(1, 4)):
        at = random.randrange(len(data))
        damage = random.randrange(4)
        if damage == 0:
            data[at] = random.choice((0, 1, 0x7F, 0xCE, 0xFF, random.randrange(256)))
        elif damage == 1:
            del data[at : at + random.randrange(1, 30)]
        elif damage == 2:
            data[at:at] = data[at : at + random.randrange(1, 30)]
        else:
            data[at] ^= 1 << random.randrange(8)
    return bytes(data)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32), st.booleans())
@example(0, True)
def test_damaged_conversations_harm_nobody(seed: int, reads: bool) -> None:
    attack(damaged(seed), seed, reads=reads)


def test_the_conversation_itself_is_sound() -> None:
    with tempfile.TemporaryDirectory() as directory:
        victim = Victim(directory, hostile_reads=True)
        feed(victim.hostile, (b"".join(SOUND),))
        victim.world.finish_turn()

        assert victim.hostile.connection.closing_because == ""
        assert victim.hostile.connection.state is ConnectionState.CLOSED
        assert victim.is_unharmed()
