"""What is published arrives as it was sent: every size, every way, with its properties; and what cannot, is refused."""

from datetime import UTC, datetime

import pytest
from pamqp import commands

from ipc.limits import LARGE_BODY_BYTES
from ipc.wire.amqp import frames, methods
from tests.protocols.conversation import Client, Content, World, content

MIB = 1024 * 1024


@pytest.fixture
def client(world: World) -> Client:
    client = world.client().open()
    client.declare("jobs")
    return client


def body_of(size_bytes: int) -> bytes:
    return (bytes(range(251)) * (size_bytes // 251 + 1))[:size_bytes]


SIZES = [0, 1, 4088, 4089, 8176, 100_000, LARGE_BODY_BYTES - 1, LARGE_BODY_BYTES, LARGE_BODY_BYTES + 1, 3 * MIB]


@pytest.mark.parametrize("size_bytes", SIZES)
@pytest.mark.parametrize("frame_max", [4096, 131072])
def test_a_body_of_any_size_arrives_at_a_consumer(
    world: World, client: Client, size_bytes: int, frame_max: int
) -> None:
    consumer = world.client(frame_max=frame_max).open()
    consumer.consume("jobs")
    publisher = world.client(frame_max=frame_max).open()

    publisher.publish("", "jobs", body_of(size_bytes))
    publisher.publish("", "jobs", b"after")

    assert consumer.bodies() == [body_of(size_bytes), b"after"]


@pytest.mark.parametrize("size_bytes", SIZES)
def test_a_body_of_any_size_can_be_asked_for(world: World, client: Client, size_bytes: int) -> None:
    small = world.client(frame_max=4096).open()
    client.publish("", "jobs", body_of(size_bytes), persistent=True)

    message = small.get("jobs")

    assert message is not None
    assert message.body == body_of(size_bytes)


def test_properties_arrive_byte_for_byte(client: Client) -> None:
    properties = commands.Basic.Properties(
        content_type="text/plain",
        content_encoding="gzip",
        headers={"a": 1, "b": [True, None, {"c": "d"}], "é": "è"},
        delivery_mode=2,
        priority=9,
        correlation_id="17",
        reply_to="amq.gen-x",
        expiration="1000",
        message_id="x" * 255,
        timestamp=datetime.fromtimestamp(1_700_000_000, tz=UTC),
        message_type="order",
        user_id="guest",
        app_id="tests",
    )
    for _ in range(2):  # the second time by the fast way
        client.publish("", "jobs", b"dig", properties=properties)

        message = client.get("jobs")
        assert message is not None
        assert message.header[12:] == properties.marshal()


@pytest.mark.parametrize("persistent", [True, False])
def test_one_message_reaches_every_queue_it_is_routed_to_once(client: Client, persistent: bool) -> None:
    for number in range(3):
        client.declare(f"copy-{number}", durable=number == 1)
        client.bind("amq.topic", f"copy-{number}", "a.#")
        client.bind("amq.topic", f"copy-{number}", "#.b")

    for body in (b"first", b"second", body_of(LARGE_BODY_BYTES)):
        client.publish("amq.topic", "a.b", body, persistent=persistent)

    for number in range(3):
        assert client.drain(f"copy-{number}") == [b"first", b"second", body_of(LARGE_BODY_BYTES)]


def test_a_message_without_a_queue_is_dropped(client: Client) -> None:
    client.publish("", "nowhere", b"lost")
    client.publish("amq.direct", "nowhere", b"lost")

    assert client.replies() == []


@pytest.mark.parametrize("size_bytes", [0, 5, 10_000, LARGE_BODY_BYTES])
def test_a_mandatory_message_without_a_queue_comes_back(world: World, size_bytes: int) -> None:
    publisher = world.client(frame_max=4096).open()
    for _ in range(2):
        publisher.publish("amq.direct", "nowhere", body_of(size_bytes), mandatory=True)

        (message,) = publisher.replies()
        assert isinstance(message, Content)
        assert isinstance(message.method, commands.Basic.Return)
        assert (message.method.reply_code, message.method.reply_text) == (312, "NO_ROUTE")
        assert (message.method.exchange, message.method.routing_key) == ("amq.direct", "nowhere")
        assert message.body == body_of(size_bytes)


def test_a_mandatory_message_with_a_queue_stays(client: Client) -> None:
    for _ in range(3):
        client.publish("", "jobs", b"dig", mandatory=True)

    assert client.replies() == []
    assert client.drain("jobs") == [b"dig"] * 3


def test_a_mandatory_message_comes_back_once_its_queue_is_gone(client: Client) -> None:
    client.publish("", "jobs", b"dig", mandatory=True)
    client.publish("", "jobs", b"dig", mandatory=True)
    client.ask(commands.Queue.Delete(queue="jobs"))

    client.publish("", "jobs", b"dig", mandatory=True)

    (message,) = client.replies()
    assert isinstance(message.method, commands.Basic.Return)


def test_a_queue_declared_again_under_its_name_gets_what_is_published_to_it(client: Client) -> None:
    for _ in range(2):
        client.publish("", "jobs", b"dig")
    client.ask(commands.Queue.Delete(queue="jobs"))
    client.declare("jobs")

    client.publish("", "jobs", b"again")

    assert client.drain("jobs") == [b"again"]


def test_a_headers_exchange_looks_at_every_message(client: Client) -> None:
    client.bind("amq.headers", "jobs", arguments={"kind": "digging"})
    for kind in ("digging", "reading", "digging"):
        client.publish("amq.headers", "", kind.encode(), properties=commands.Basic.Properties(headers={"kind": kind}))
    client.publish("amq.headers", "", b"without headers")

    assert client.drain("jobs") == [b"digging", b"digging"]


def test_an_internal_exchange_takes_messages_from_exchanges_only(client: Client) -> None:
    client.ask(commands.Exchange.Declare(exchange="inner", exchange_type="fanout", internal=True))
    client.bind("inner", "jobs")
    client.ask(commands.Exchange.Bind(destination="inner", source="amq.direct", routing_key="in"))
    client.publish("amq.direct", "in", b"dig")
    assert client.drain("jobs") == [b"dig"]

    client.publish("inner", "", b"dig")
    assert client.refusal() == ("channel", 403)


def test_an_exchange_that_does_not_exist_is_not_found(client: Client) -> None:
    client.publish("nowhere", "", b"dig")

    assert client.refusal() == ("channel", 404)


@pytest.mark.parametrize("is_known_route", [True, False])
def test_a_message_larger_than_allowed_is_refused_before_its_body_comes(world: World, is_known_route: bool) -> None:
    client = world.client(message_bytes_max=1000).open()
    client.declare("jobs")
    if is_known_route:
        client.publish("", "jobs", body_of(1000))
    client.replies()

    client.publish("", "jobs", body_of(1001))

    assert client.refusal() == ("channel", 406)
    client.say(commands.Channel.CloseOk())
    assert client.open().drain("jobs") == [body_of(1000)] * is_known_route


@pytest.mark.parametrize("size_bytes", [0, 5, LARGE_BODY_BYTES])
def test_an_immediate_message_comes_back_where_nobody_waits_for_it(client: Client, size_bytes: int) -> None:
    for _ in range(2):
        client.publish("", "jobs", body_of(size_bytes), immediate=True)

        (message,) = client.replies()
        assert isinstance(message.method, commands.Basic.Return)
        assert (message.method.reply_code, message.method.reply_text) == (313, "NO_CONSUMERS")
        assert message.body == body_of(size_bytes)
    assert client.drain("jobs") == []


def test_an_immediate_message_reaches_a_consumer_with_room(world: World, client: Client) -> None:
    consumer = world.client().open()
    consumer.prefetch(2)
    consumer.consume("jobs", acks=True)

    client.send(b"".join(content("", "jobs", b"%d" % number, immediate=True) for number in range(3)))

    assert consumer.bodies() == [b"0", b"1"]
    (message,) = client.replies()
    assert (message.method.reply_code, message.body) == (313, b"2")
    consumer.ack(1)
    client.publish("", "jobs", b"3", immediate=True)
    assert consumer.bodies() == [b"3"]
    assert client.replies() == []


def test_an_immediate_message_does_not_wait_for_a_consumer_that_is_not_the_active_one(
    world: World, client: Client
) -> None:
    client.declare("single", arguments={"x-single-active-consumer": True})
    active, spare = world.client().open(), world.client().open()
    active.prefetch(1)
    active.consume("single", acks=True)
    spare.consume("single", acks=True)

    for body in (b"first", b"second"):
        client.publish("", "single", body, immediate=True)

    assert active.bodies() == [b"first"]
    assert [message.body for message in client.replies()] == [b"second"]
    assert spare.replies() == []


def test_of_several_queues_those_with_a_consumer_get_an_immediate_message(world: World, client: Client) -> None:
    client.declare("more")
    for queue in ("jobs", "more"):
        client.bind("amq.fanout", queue)
    consumer = world.client().open()
    consumer.consume("more")

    client.publish("amq.fanout", "", b"dig", immediate=True)

    assert consumer.bodies() == [b"dig"]
    assert client.drain("jobs") == []


def test_an_immediate_message_without_a_queue_comes_back_for_the_stronger_reason(client: Client) -> None:
    client.publish("", "nowhere", b"dig", immediate=True)
    client.publish("", "nowhere", b"dig", immediate=True, mandatory=True)

    assert [message.method.reply_code for message in client.replies()] == [313, 312]


def test_a_body_may_come_in_frames_of_any_size(client: Client) -> None:
    body = body_of(5000)
    wire = content("", "jobs", body)
    head = wire[: -len(body) - 8]
    for sizes in ([1] * 5000, [0, 2500, 0, 0, 2500], [4999, 1]):
        pieces, start = [], 0
        for size in sizes:
            pieces.append(frames.pack(frames.BODY, 1, body[start : start + size]))
            start += size
        client.send(head + b"".join(pieces))

    assert client.drain("jobs") == [body] * 3


def test_a_body_of_tiny_frames_costs_no_more_memory_than_its_bytes(client: Client) -> None:
    """A list of frames would take 42 bytes for each of one byte, and 8 for each empty one without end."""
    wire = content("", "jobs", body_of(5000))
    client.send(wire[: -5000 - 8])
    client.send(frames.pack(frames.BODY, 1, b"") * 20_000)
    client.send(b"".join(frames.pack(frames.BODY, 1, b"x") for _ in range(4999)))

    channel_content = client.connection.channels[1].content
    assert channel_content is not None
    assert len(channel_content.body) == 4999
    assert isinstance(channel_content.body, bytearray)


def test_a_method_with_something_behind_its_last_field_does_not_reach_a_consumer(client: Client) -> None:
    """It would be cut out as part of the routing key, and break whoever reads the delivery."""
    method = methods.frame(1, commands.Basic.Publish(routing_key="jobs"))
    rest = content("", "jobs", b"dig")[len(method) :]
    client.send(frames.pack(frames.METHOD, 1, method[7:-1] + b"\x00") + rest)

    assert client.refusal() == ("connection", 502)


def test_messages_survive_a_restart_with_large_and_small_bodies(world: World, client: Client) -> None:
    client.declare("lasting", durable=True)
    bodies = [b"", b"small", body_of(LARGE_BODY_BYTES), b"last"]
    for body in bodies:
        client.publish("", "lasting", body, persistent=True)

    after = world.restart()
    found = after.client().open().drain("lasting")
    after.close()

    assert found == bodies


@pytest.mark.parametrize("key", ["", "x" * 255, "schlüssel", "a b"])
def test_any_text_is_a_routing_key(client: Client, key: str) -> None:
    client.bind("amq.direct", "jobs", key)
    client.publish("amq.direct", key, b"dig")

    message = client.get("jobs")

    assert message is not None
    assert message.method.routing_key == key
