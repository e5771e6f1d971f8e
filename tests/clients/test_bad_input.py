"""What clients get wrong, on purpose or not: each has its code, and nobody else notices."""

import struct
from collections.abc import Callable, Iterator

import psutil
import pytest
from pamqp import commands, frame, header

from tests.clients.raw_client import (
    CAPABILITIES,
    PROTOCOL_HEADER,
    ClosedByBroker,
    RawClient,
    content,
    open_vhost,
    publish,
    raw_frame,
)
from tests.clients.running_broker import RunningBroker
from tests.clients.waiting import eventually

Connect = Callable[[], RawClient]

METHOD, HEADER, BODY = 1, 2, 3


@pytest.fixture(autouse=True)
def bystander(broker: RunningBroker, name: str) -> Iterator[None]:
    """A connection that was there before must work afterwards."""
    with RawClient(broker.port) as client:
        client.open().open_channel()
        client.declare(name, exclusive=True)
        yield
        client.send_bytes(publish(name, b"still here"))
        client.send(commands.Basic.Consume(queue=name, no_ack=True), 1)
        client.expect(commands.Basic.ConsumeOk, 1)
        assert client.expect_delivery()[1] == b"still here"


def closed_with(client: RawClient) -> bytes:
    return client.receive_until_closed()


# before anybody is known ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"AMQP\x00\x01\x00\x00",
        b"AMQP\x01\x01\x00\x0a",
        b"AMQP\x03\x01\x00\x00",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        bytes(4096),
    ],
    ids=["http", "amqp-1-0", "amqp-0-10", "amqp-sasl", "tls", "zeros"],
)
def test_a_wrong_protocol_header_gets_the_right_one_and_a_closed_socket(raw: Connect, sent: bytes) -> None:
    client = raw()
    client.send_bytes(sent)
    assert closed_with(client) == PROTOCOL_HEADER


def test_a_header_may_come_byte_by_byte(raw: Connect) -> None:
    client = raw()
    client.send_drop_by_drop(PROTOCOL_HEADER)
    client.expect(commands.Connection.Start)


def test_wrong_credentials_are_403_for_who_can_hear_it(raw: Connect) -> None:
    client = raw()
    client.start(response="\x00guest\x00wrong")
    client.expect_connection_close(403)


def test_wrong_credentials_are_a_closed_socket_for_who_cannot(raw: Connect) -> None:
    client = raw()
    client.start(capabilities=CAPABILITIES | {"authentication_failure_close": False}, response="\x00guest\x00wrong")
    assert closed_with(client) == b""


def test_an_unknown_user_is_refused_like_a_wrong_password(raw: Connect) -> None:
    client = raw()
    client.start(response="\x00nobody\x00guest")
    client.expect_connection_close(403)


def test_an_unknown_vhost_is_530(raw: Connect) -> None:
    client = raw()
    client.start()
    client.tune()
    client.send(open_vhost("no-such-vhost"))
    client.expect_connection_close(530)


@pytest.mark.parametrize(
    ("frame_max", "channel_max"), [(100, 2047), (131073, 2047), (131072, 2048)], ids=["small", "large", "channels"]
)
def test_tuning_beyond_what_was_offered_is_refused(raw: Connect, frame_max: int, channel_max: int) -> None:
    client = raw()
    client.start()
    client.tune(frame_max=frame_max, channel_max=channel_max)
    client.send(open_vhost("/"))
    close = client.expect(commands.Connection.Close)
    assert close.reply_code in (501, 530)


def test_a_method_out_of_turn_ends_the_negotiation(raw: Connect) -> None:
    client = raw()
    client.send_bytes(PROTOCOL_HEADER)
    client.expect(commands.Connection.Start)
    client.send(open_vhost("/"))
    close = client.expect(commands.Connection.Close)
    assert close.reply_code in (503, 505)


def test_a_negotiation_frame_of_a_gigabyte_is_refused_from_its_header(raw: Connect) -> None:
    client = raw()
    client.send_bytes(PROTOCOL_HEADER)
    client.expect(commands.Connection.Start)
    client.send_bytes(struct.pack(">BHI", METHOD, 0, 1 << 30))
    closed_with(client)


def test_a_silent_client_is_dropped_and_others_are_served(new_broker: Callable[..., RunningBroker]) -> None:
    broker = new_broker(arguments=["--set", "amqp.negotiation_seconds=0.5"]).start()
    with RawClient(broker.port) as silent, RawClient(broker.port) as halfway, RawClient(broker.port) as served:
        halfway.send_bytes(PROTOCOL_HEADER)
        served.open()
        assert closed_with(silent) in (b"", PROTOCOL_HEADER)
        closed_with(halfway)
        served.open_channel()


def test_only_so_many_clients_may_be_half_open(new_broker: Callable[..., RunningBroker]) -> None:
    broker = new_broker(arguments=["--set", "amqp.half_open_max=4"]).start()
    silent = [RawClient(broker.port) for _ in range(4)]
    with RawClient(broker.port) as beyond:
        assert closed_with(beyond) in (b"", PROTOCOL_HEADER)
    for client in silent:
        client.close()

    def served() -> bool:
        try:
            with RawClient(broker.port) as client:
                client.open()
        except (ClosedByBroker, ConnectionError):
            return False
        return True

    eventually(served, "a client served once the half-open ones are gone")


# frames ---------------------------------------------------------------------------------------------------------------

GET_READY = frame.marshal(commands.Basic.Publish(routing_key="nowhere"), 1)


@pytest.mark.parametrize(
    ("code", "sent"),
    [
        (501, raw_frame(METHOD, 1, b"\x00\x14\x00\x28\x00", end=0x00)),
        (501, raw_frame(9, 1, b"")),
        (501, struct.pack(">BHI", BODY, 1, 131073)),
        (501, struct.pack(">BHI", BODY, 1, 0xFFFFFFFF)),
        (502, raw_frame(METHOD, 1, b"\x00")),
        (502, raw_frame(METHOD, 1, b"\x00\x32\x00\x0a\x00\x00\xff")),
        (504, frame.marshal(commands.Queue.Declare(queue="x"), 7)),
        (504, frame.marshal(commands.Channel.Open(), 1)),
        (505, content(1, b"no method before it")),
        (505, GET_READY + GET_READY),
        (505, GET_READY + raw_frame(BODY, 1, b"no header before it")),
        (540, raw_frame(METHOD, 1, struct.pack(">HH", 60, 99))),
        (540, raw_frame(METHOD, 1, struct.pack(">HH", 999, 10))),
    ],
    ids=[
        "wrong end octet",
        "unknown frame type",
        "frame beyond frame_max",
        "frame of four gigabytes",
        "method of one byte",
        "string beyond its frame",
        "unknown channel",
        "channel opened twice",
        "content without method",
        "method instead of content",
        "body without header",
        "unknown method",
        "unknown class",
    ],
)
def test_a_broken_frame_ends_the_connection_with_its_code(raw: Connect, code: int, sent: bytes) -> None:
    client = raw().open().open_channel()
    client.send_bytes(sent)
    client.expect_connection_close(code)


def test_one_channel_more_than_was_negotiated_is_refused(raw: Connect) -> None:
    client = raw()
    client.start()
    client.tune(channel_max=1)
    client.send_bytes(frame.marshal(open_vhost("/"), 0))
    client.expect(commands.Connection.OpenOk)
    client.open_channel(65535)
    client.send(commands.Channel.Open(), 1)
    client.expect_connection_close(530)


def test_more_body_than_announced_is_refused(raw: Connect) -> None:
    client = raw().open().open_channel()
    announced = frame.marshal(header.ContentHeader(body_size=3), 1)
    client.send_bytes(GET_READY, announced, raw_frame(BODY, 1, b"four"))
    close = client.expect(commands.Connection.Close)
    assert close.reply_code in (501, 505)


def test_a_body_larger_than_the_limit_is_refused_from_its_header(raw: Connect) -> None:
    client = raw().open().open_channel()
    client.send_bytes(GET_READY, frame.marshal(header.ContentHeader(body_size=1 << 60), 1))
    client.expect_channel_close(406)
    client.open_channel()


def test_what_follows_on_a_refused_channel_is_ignored(raw: Connect) -> None:
    """A publisher is many messages ahead of the refusal; its other channels must not suffer."""
    client = raw().open().open_channel(1, 2)
    client.send(commands.Queue.Declare(queue="no-such-queue", passive=True), 1)
    for _ in range(50):
        client.send_bytes(publish("anywhere", b"x" * 1000))
    client.expect_channel_close(404)
    client.call(commands.Queue.Declare(exclusive=True), commands.Queue.DeclareOk, 2)
    client.open_channel(1)


def test_a_connection_close_is_answered_and_the_socket_closed(raw: Connect) -> None:
    client = raw().open().open_channel()
    client.send(commands.Connection.Close(reply_code=200, reply_text="bye", class_id=0, method_id=0))
    client.expect(commands.Connection.CloseOk)
    assert closed_with(client) == b""


def test_a_channel_number_may_be_used_again(raw: Connect) -> None:
    client = raw().open()
    for _ in range(3):
        client.open_channel()
        client.call(commands.Channel.Close(200, "bye", 0, 0), commands.Channel.CloseOk)


def test_a_whole_conversation_may_come_byte_by_byte(raw: Connect, name: str) -> None:
    client = raw().open()
    client.send_drop_by_drop(
        frame.marshal(commands.Channel.Open(), 1)
        + frame.marshal(commands.Queue.Declare(queue=f"{name}-drops", exclusive=True), 1)
        + publish(f"{name}-drops", b"drop by drop")
        + frame.marshal(commands.Basic.Get(queue=f"{name}-drops", no_ack=True), 1)
    )
    client.expect(commands.Channel.OpenOk, 1)
    client.expect(commands.Queue.DeclareOk, 1)
    client.expect(commands.Basic.GetOk, 1)
    assert client.expect_content() == b"drop by drop"


def test_a_conversation_may_come_in_one_piece(raw: Connect) -> None:
    """Whatever follows connection.open in the same packet travels with the client to its shard."""
    client = raw()
    client.start()
    client.expect(commands.Connection.Tune)
    client.send_bytes(
        frame.marshal(commands.Connection.TuneOk(channel_max=2047, frame_max=131072, heartbeat=0), 0)
        + frame.marshal(open_vhost("/"), 0)
        + frame.marshal(commands.Channel.Open(), 1)
        + frame.marshal(commands.Queue.Declare(exclusive=True), 1)
    )
    client.expect(commands.Connection.OpenOk)
    client.expect(commands.Channel.OpenOk, 1)
    client.expect(commands.Queue.DeclareOk, 1)


def test_a_small_frame_max_bounds_both_directions(raw: Connect, name: str) -> None:
    client = raw().open(frame_max=4096).open_channel()
    client.declare(f"{name}-small", exclusive=True)
    body = bytes(range(256)) * 100
    method = frame.marshal(commands.Basic.Publish(routing_key=f"{name}-small"), 1)
    client.send_bytes(method, content(1, body, frame_max=4096))
    client.send(commands.Basic.Get(queue=f"{name}-small", no_ack=True), 1)
    client.expect(commands.Basic.GetOk, 1)
    assert client.expect_content() == body


# resources ------------------------------------------------------------------------------------------------------------


def test_a_reset_connection_leaves_nothing_behind(broker: RunningBroker, raw: Connect, name: str) -> None:
    queue = f"{name}-reset"
    watcher = raw().open().open_channel()
    watcher.declare(queue)
    watcher.send_bytes(publish(queue, b"held"))
    client = raw().open().open_channel()
    client.send(commands.Basic.Consume(queue=queue), 1)
    client.expect(commands.Basic.ConsumeOk, 1)
    client.expect_delivery()
    client.reset()

    def requeued() -> bool:
        declared = watcher.call(commands.Queue.Declare(queue=queue, passive=True), commands.Queue.DeclareOk)
        return (declared.message_count, declared.consumer_count) == (1, 0)

    eventually(requeued, "the message ready again, the consumer gone")
    watcher.call(commands.Queue.Delete(queue=queue), commands.Queue.DeleteOk)


def test_bad_clients_do_not_cost_descriptors(broker: RunningBroker) -> None:
    processes = [psutil.Process(pid) for pid in (broker.ready.supervisor, *broker.ready.shards.values())]

    def descriptors() -> int:
        return sum(process.num_fds() or 0 for process in processes)

    def be_bad() -> None:
        with RawClient(broker.port) as client:
            client.send_bytes(b"garbage!")
            client.receive_until_closed()
        with RawClient(broker.port) as client:
            client.send_bytes(PROTOCOL_HEADER, b"\xff" * 100)
            client.expect(commands.Connection.Start)
            client.expect(commands.Connection.Close)
        with RawClient(broker.port) as client:
            client.open().open_channel()
            client.send_bytes(raw_frame(9, 0, b""))
            client.expect_connection_close(501)

    be_bad()
    before = descriptors()
    for _ in range(20):
        be_bad()
    eventually(lambda: descriptors() <= before + 2, "as many descriptors as before")


def test_a_client_that_does_not_read_does_not_stop_the_others(raw: Connect, name: str) -> None:
    queue = f"{name}-slow"
    publisher = raw().open().open_channel()
    publisher.declare(queue)
    deaf = raw().open().open_channel()
    deaf.send(commands.Basic.Consume(queue=queue, no_ack=True), 1)
    deaf.expect(commands.Basic.ConsumeOk, 1)
    for _ in range(300):
        publisher.send_bytes(publish(queue, bytes(100_000)))
    declared = publisher.call(commands.Queue.Declare(queue=queue, passive=True), commands.Queue.DeclareOk)
    # 30 MB fit neither into the outbox nor into the kernel's buffers: the rest waits in the queue.
    assert (declared.message_count or 0) > 100
    publisher.call(commands.Queue.Delete(queue=queue), commands.Queue.DeleteOk)
