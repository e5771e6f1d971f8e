"""A connection's own rules: refusals and their codes, closing from both sides, waiting for the disk, and heartbeats."""

import struct

import pytest
from pamqp import commands

from ipc.errors import ConnectionRefusal, ReplyCode
from ipc.wire.amqp import frames, methods
from shards.protocols.amqp.connection import CLOSE_PATIENCE_MS, ConnectionState
from tests.protocols.conversation import Client, World, content
from tests.simulation.simulated_files import SimulatedFiles

HEARTBEAT_SECONDS = 10
SECOND = 1000


@pytest.fixture
def client(world: World) -> Client:
    client = world.client().open()
    client.declare("jobs")
    return client


def close_ok() -> bytes:
    return methods.frame(0, commands.Connection.CloseOk())


def raw_method(index: int, arguments: bytes = b"", channel: int = 1) -> bytes:
    return frames.pack(frames.METHOD, channel, struct.pack(">I", index) + arguments)


def table(fields: bytes) -> bytes:
    """`queue.declare` with these raw fields as its arguments."""
    return raw_method(50 << 16 | 10, b"\x00\x00\x01q\x00" + len(fields).to_bytes(4, "big") + fields)


def nested(levels: int) -> bytes:
    fields = b""
    for _ in range(levels):
        fields = b"\x01aF" + len(fields).to_bytes(4, "big") + fields
    return fields


PUBLISH = methods.frame(1, commands.Basic.Publish(routing_key="jobs"))
HEADER_OF_FIVE = frames.pack(frames.HEADER, 1, b"\x00\x3c\x00\x00" + (5).to_bytes(8, "big") + b"\x00\x00")

REFUSED: dict[str, tuple[bytes, int]] = {
    # malformed and oversized: 501
    "an unknown frame type": (b"\x07\x00\x01\x00\x00\x00\x00\xce", 501),
    "an HTTP request": (b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n", 501),
    "a frame that does not end where it should": (b"\x08\x00\x00\x00\x00\x00\x00\xcd", 501),
    "a frame beyond frame_max, from its first seven bytes": (b"\x03\x00\x01\x7f\xff\xff\xff", 501),
    "a header too short": (PUBLISH + frames.pack(frames.HEADER, 1, bytes(13)), 501),
    "a header of another class": (PUBLISH + frames.pack(frames.HEADER, 1, b"\x00\x3d" + bytes(12)), 501),
    "a header with a weight": (PUBLISH + frames.pack(frames.HEADER, 1, b"\x00\x3c\x00\x01" + bytes(10)), 501),
    "a body longer than its header says": (PUBLISH + HEADER_OF_FIVE + frames.pack(frames.BODY, 1, b"sixsix"), 501),
    # what cannot be read: 502
    "a method without a number": (frames.pack(frames.METHOD, 1, b"\x00\x3c"), 502),
    "a method that ends too early": (raw_method(60 << 16 | 80, b"\x00\x00"), 502),
    "a method that goes on too long": (raw_method(60 << 16 | 80, bytes(10)), 502),
    "a string longer than its method": (raw_method(60 << 16 | 40, b"\x00\x00\xffshort"), 502),
    "a name that is not UTF-8": (raw_method(60 << 16 | 40, b"\x00\x00\x02\xff\xfe\x00\x00"), 502),
    "a table of an unknown kind": (table(b"\x01a?"), 502),
    "a table longer than its method": (raw_method(50 << 16 | 10, b"\x00\x00\x01q\x00\xff\xff\xff\xff"), 502),
    "tables in tables without end": (table(nested(100)), 502),
    "properties that end too early": (
        PUBLISH + frames.pack(frames.HEADER, 1, b"\x00\x3c" + bytes(10) + b"\x80\x00\xffshort"),
        502,
    ),
    "properties nobody knows": (PUBLISH + frames.pack(frames.HEADER, 1, b"\x00\x3c" + bytes(10) + b"\x00\x01"), 502),
    # what comes at the wrong time: 503, 505
    "connection.start-ok": (methods.frame(0, commands.Connection.StartOk({}, "PLAIN", "", "en_US")), 503),
    "connection.open": (methods.frame(0, commands.Connection.Open("/")), 503),
    "connection.tune-ok": (methods.frame(0, commands.Connection.TuneOk(0, 0, 0)), 503),
    "connection.close-ok nobody waits for": (close_ok(), 503),
    "a method only a broker says": (methods.frame(1, commands.Basic.GetEmpty()), 503),
    "a header without a publish": (HEADER_OF_FIVE, 505),
    "a body without a header": (PUBLISH + frames.pack(frames.BODY, 1, b"dig"), 505),
    "a body without anything": (frames.pack(frames.BODY, 1, b"dig"), 505),
    "two headers": (PUBLISH + HEADER_OF_FIVE * 2, 505),
    "a method before the header": (PUBLISH + methods.frame(1, commands.Basic.Qos()), 505),
    "a publish before the body": (PUBLISH + HEADER_OF_FIVE + PUBLISH, 505),
    "a heartbeat of a channel": (b"\x08\x00\x01\x00\x00\x00\x00\xce", 505),
    # channels that are not open: 504
    "a method on an unknown channel": (methods.frame(7, commands.Basic.Get(queue="jobs")), 504),
    "a publish on an unknown channel": (content("", "jobs", b"dig", channel=7), 504),
    "a header on an unknown channel": (frames.pack(frames.HEADER, 7, HEADER_OF_FIVE[7:-1]), 504),
    "a method on channel 0": (methods.frame(0, commands.Basic.Get(queue="jobs")), 504),
    "channel.close on an unknown channel": (methods.frame(7, commands.Channel.Close(200, "", 0, 0)), 504),
    # what does not exist: 540
    "an unknown method": (raw_method(60 << 16 | 999), 540),
    "an unknown class": (raw_method(99 << 16 | 10), 540),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_breaks_the_protocol_ends_the_connection_with_its_code(client: Client, name: str) -> None:
    wire, code = REFUSED[name]
    other = client.world.client().open()

    client.send(wire)
    *_before, close = client.replies()
    client.send(close_ok())

    assert isinstance(close, commands.Connection.Close)
    assert close.reply_code == code
    assert close.reply_text == client.connection.closing_because
    assert close.reply_text.startswith(ReplyCode(code).name)
    assert client.connection.state is ConnectionState.CLOSED
    assert client.connection.channels == {}
    assert other.declare("jobs", passive=True).queue == "jobs"


# closing --------------------------------------------------------------------------------------------------------------


def test_a_client_may_close(world: World, client: Client) -> None:
    reply = client.ask(commands.Connection.Close(200, "bye", 0, 0), 0)

    assert isinstance(reply, commands.Connection.CloseOk)
    assert client.connection.state is ConnectionState.CLOSED
    assert not client.connection.wants_input
    assert client.connection.closing_because == ""


def test_what_follows_a_close_is_ignored(client: Client) -> None:
    client.send(methods.frame(0, commands.Connection.Close(200, "bye", 0, 0)) + content("", "jobs", b"late"))

    (reply,) = client.replies()
    assert isinstance(reply, commands.Connection.CloseOk)
    assert client.world.client().open().get("jobs") is None


def test_what_follows_a_refusal_is_ignored_until_close_ok(client: Client) -> None:
    client.send(raw_method(99 << 16 | 10))
    assert client.refusal() == ("connection", 540)

    client.publish("", "jobs", b"late")
    client.say(commands.Channel.Open(), 5)
    client.say(commands.Basic.Get(queue="jobs"))
    client.send(raw_method(99 << 16 | 10))
    client.send(b"\x07garbage that is no frame")
    assert client.replies() == []

    client.send(close_ok())
    assert client.connection.state is ConnectionState.CLOSED
    assert client.world.client().open().get("jobs") is None


def test_both_sides_may_close_at_once(client: Client) -> None:
    client.connection.close(ConnectionRefusal(ReplyCode.CONNECTION_FORCED, "shutting down"), client.world.now)
    client.say(commands.Connection.Close(200, "bye", 0, 0), 0)

    close, close_ok = client.replies()

    assert (close.reply_code, close.reply_text) == (320, "CONNECTION_FORCED - shutting down")
    assert isinstance(close_ok, commands.Connection.CloseOk)
    assert client.connection.state is ConnectionState.CLOSED


def test_a_client_that_does_not_answer_a_close_is_closed_all_the_same(world: World, client: Client) -> None:
    client.connection.close(ConnectionRefusal(ReplyCode.CONNECTION_FORCED, "shutting down"), world.now)
    world.advance(CLOSE_PATIENCE_MS - 1)
    states = [client.connection.state]

    world.advance(1)
    states.append(client.connection.state)

    assert states == [ConnectionState.CLOSING, ConnectionState.CLOSED]


def test_a_refusal_names_the_method_and_fits_its_field(client: Client) -> None:
    reply = client.ask(commands.Exchange.Declare(exchange="news", exchange_type="x" * 255))

    assert (reply.class_id, reply.method_id) == (40, 10)
    assert reply.reply_text.startswith("COMMAND_INVALID - unknown exchange type 'xxx")
    assert reply.reply_text.endswith("xxx...")
    assert len(reply.reply_text) == 255


def test_a_connection_closed_by_the_broker_holds_nothing_any_more(world: World, client: Client) -> None:
    client.declare("mine", exclusive=True)
    client.consume("jobs", acks=True)
    client.publish("", "jobs", b"dig")
    client.replies()

    client.connection.close(ConnectionRefusal(ReplyCode.CONNECTION_FORCED, "go"), world.now)

    assert world.vhost.find_queue("mine") is None
    assert world.client().open().drain("jobs") == [b"dig"]


def test_losing_a_connection_twice_is_losing_it_once(client: Client) -> None:
    client.disconnect()
    client.connection.lost()

    assert client.connection.state is ConnectionState.CLOSED
    assert client.connection.outbox.is_empty


# waiting for the disk -------------------------------------------------------------------------------------------------


def test_a_durable_declaration_is_answered_once_it_is_on_disk(world: World, client: Client) -> None:
    world.syncs_by_itself = False
    client.say(commands.Queue.Declare(queue="lasting", durable=True))
    assert client.replies() == []
    assert not client.connection.wants_input

    world.sync()
    world.finish_turn()

    (reply,) = client.replies()
    assert reply.queue == "lasting"
    assert client.declare("lasting", passive=True).queue == "lasting"


def test_a_round_that_had_begun_before_does_not_answer_it(world: World, client: Client) -> None:
    world.syncs_by_itself = False
    running = world.turn.begin_round()
    client.say(commands.Queue.Declare(queue="lasting", durable=True))

    world.turn.complete_round(running)
    assert client.replies() == []
    assert world.crash().vhost.find_queue("lasting") is None

    world.sync()
    (reply,) = client.replies()
    assert reply.queue == "lasting"


def test_what_a_client_said_behind_a_durable_declaration_waits_in_order(world: World, client: Client) -> None:
    world.syncs_by_itself = False
    client.send(
        methods.frame(1, commands.Queue.Declare(queue="lasting", durable=True))
        + content("", "lasting", b"dig")
        + methods.frame(1, commands.Basic.Get(queue="lasting", no_ack=True))
    )
    assert client.replies() == []

    world.sync()
    world.finish_turn()

    declared, message = client.replies()
    assert declared.queue == "lasting"
    assert message.body == b"dig"


def test_transient_declarations_are_answered_at_once(world: World, client: Client) -> None:
    world.syncs_by_itself = False

    assert client.declare("passing").queue == "passing"
    assert client.declare("mine", durable=True, exclusive=True).queue == "mine"


def test_a_client_that_leaves_while_it_waits_is_not_answered(world: World, client: Client) -> None:
    world.syncs_by_itself = False
    client.say(commands.Queue.Declare(queue="lasting", durable=True))
    client.disconnect()

    world.sync()
    world.finish_turn()

    assert client.replies() == []
    assert world.vhost.find_queue("lasting") is not None


def test_a_client_may_be_closed_while_it_waits(world: World, client: Client) -> None:
    world.syncs_by_itself = False
    client.say(commands.Queue.Declare(queue="lasting", durable=True))

    client.connection.close(ConnectionRefusal(ReplyCode.CONNECTION_FORCED, "go"), world.now)
    world.sync()
    world.finish_turn()
    client.send(close_ok())

    assert client.refusal() == ("connection", 320)
    assert client.connection.state is ConnectionState.CLOSED


@pytest.fixture
def full(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world whose file system takes nothing any more."""
    files = SimulatedFiles()
    world = World(tmp_path_factory.mktemp("full"), files=files)
    world.client().open().declare("jobs")
    files.refuse_everything()
    world.client().open().publish("", "jobs", b"the last one")
    assert world.turn.is_storage_blocked
    return world


def accept_again(world: World) -> None:
    assert isinstance(world.files, SimulatedFiles)
    world.files.accept_everything()
    world.retry_storage()


def test_a_publisher_is_told_that_it_is_blocked_and_when_it_no_longer_is(full: World) -> None:
    publisher = full.client(capabilities=frozenset({"connection.blocked"})).open()

    publisher.publish("", "jobs", b"dig")
    (blocked,) = publisher.replies()
    accept_again(full)
    (unblocked,) = publisher.replies()

    assert isinstance(blocked, commands.Connection.Blocked)
    assert blocked.reason == "low on disk"
    assert isinstance(unblocked, commands.Connection.Unblocked)
    assert publisher.drain("jobs") == [b"the last one", b"dig"]


def test_who_does_not_publish_or_cannot_hear_of_it_is_not_told(full: World) -> None:
    consumer = full.client(capabilities=frozenset({"connection.blocked"})).open()
    publisher = full.client().open()

    consumer.declare("jobs", passive=True)
    publisher.publish("", "jobs", b"dig")
    accept_again(full)

    assert consumer.replies() == publisher.replies() == []


def test_a_client_that_was_blocked_and_closed_hears_nothing_after_its_close(full: World) -> None:
    publisher = full.client(capabilities=frozenset({"connection.blocked"})).open()
    publisher.publish("", "jobs", b"dig")
    publisher.connection.close(ConnectionRefusal(ReplyCode.CONNECTION_FORCED, "go"), full.now)

    accept_again(full)

    assert [reply.name for reply in publisher.replies()] == ["Connection.Blocked", "Connection.Close"]


def test_a_secret_may_be_updated_by_users_whose_secrets_do_not_expire(client: Client) -> None:
    reply = client.ask(commands.Connection.UpdateSecret("another", "the old one expires"), 0)

    assert isinstance(reply, commands.Connection.UpdateSecretOk)
    assert client.declare("jobs", passive=True).queue == "jobs"


def test_a_refused_client_does_not_wait_for_the_file_system(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """What it publishes is ignored, so there is nothing to wait for, and its close-ok must be heard."""
    files = SimulatedFiles()
    world = World(tmp_path_factory.mktemp("full"), files=files)
    client, other = world.client().open(), world.client().open()
    client.declare("jobs")
    files.refuse_everything()
    other.publish("", "jobs", b"dig")
    assert world.turn.is_storage_blocked
    client.send(raw_method(99 << 16 | 10))

    client.send(content("", "jobs", b"late") + close_ok())

    assert client.connection.state is ConnectionState.CLOSED


# heartbeats -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def beating(world: World) -> Client:
    return world.client(heartbeat=HEARTBEAT_SECONDS).open()


def test_an_idle_client_hears_heartbeats_in_time(world: World, beating: Client) -> None:
    for _ in range(10):
        world.advance(HEARTBEAT_SECONDS * SECOND // 2)
        assert beating.replies() == ["heartbeat"]
        beating.send(frames.HEARTBEAT_FRAME)


def test_a_client_that_hears_other_things_needs_no_heartbeat(world: World, beating: Client) -> None:
    for _ in range(10):
        world.advance(HEARTBEAT_SECONDS * SECOND // 2 - 1)
        assert beating.declare("jobs").queue == "jobs"


def test_a_silent_client_is_dropped_after_two_intervals(world: World, beating: Client) -> None:
    states = []
    for _ in range(2):
        world.advance(HEARTBEAT_SECONDS * SECOND - 1)
        states.append(beating.connection.state)
    world.advance(2)
    states.append(beating.connection.state)

    assert states == [ConnectionState.OPEN, ConnectionState.OPEN, ConnectionState.CLOSED]
    assert beating.connection.closing_because == "missed heartbeats from client"


@pytest.mark.parametrize("sign", [frames.HEARTBEAT_FRAME, methods.frame(1, commands.Basic.Qos()), b"\x08"])
def test_every_byte_is_a_sign_of_life(world: World, beating: Client, sign: bytes) -> None:
    world.advance(2 * HEARTBEAT_SECONDS * SECOND - 1)
    beating.send(sign)

    world.advance(2 * HEARTBEAT_SECONDS * SECOND - 1)

    assert beating.connection.state is ConnectionState.OPEN


def test_a_client_that_wants_no_heartbeats_gets_none_and_may_be_silent(world: World, client: Client) -> None:
    world.advance(24 * 3600 * SECOND)

    assert client.replies() == []
    assert client.connection.state is ConnectionState.OPEN
    assert client.connection.tick(world.now) == 0


def test_a_tick_tells_when_the_next_one_is_due(world: World, beating: Client) -> None:
    """And following it alone, nothing is missed: heartbeats go out in time and silence is noticed."""
    now = world.now
    due = beating.connection.tick(now)
    heard = 0
    while due:
        assert now < due <= now + HEARTBEAT_SECONDS * SECOND
        now = due
        due = beating.connection.tick(now)
        world.now = now
        heard += len(beating.replies())

    assert heard == 3
    assert now == 1_000_000 + 2 * HEARTBEAT_SECONDS * SECOND
    assert beating.connection.state is ConnectionState.CLOSED


def test_a_client_nobody_listened_to_is_not_called_silent(world: World, beating: Client) -> None:
    """While a connection waits for the disk its input stays in the socket, heartbeats and all."""
    world.syncs_by_itself = False
    beating.say(commands.Queue.Declare(queue="lasting", durable=True))
    world.advance(10 * HEARTBEAT_SECONDS * SECOND)
    world.sync()
    world.finish_turn()

    world.advance(1)

    assert beating.connection.state is ConnectionState.OPEN


def test_a_client_that_still_has_to_read_gets_no_heartbeat_on_top(world: World, beating: Client) -> None:
    beating.reads = False
    world.advance(HEARTBEAT_SECONDS * SECOND // 2)
    before = len(beating.connection.outbox.buffer)
    world.advance(HEARTBEAT_SECONDS * SECOND // 2)

    assert len(beating.connection.outbox.buffer) == before == len(frames.HEARTBEAT_FRAME)
