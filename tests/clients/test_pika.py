"""pika, the client most people meet first: everything a channel offers, and how it is refused."""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import pika
import pika.exceptions
import pytest

from tests.clients.running_broker import RunningBroker
from tests.clients.waiting import eventually

PERSISTENT = pika.BasicProperties(delivery_mode=2)


@pytest.fixture
def connect(broker: RunningBroker) -> Iterator[Callable[..., Any]]:
    opened: list[Any] = []

    def connect(**parameters: Any) -> Any:
        connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", broker.port, **parameters))
        opened.append(connection)
        return connection

    yield connect
    for connection in opened:
        if connection.is_open:
            connection.close()


@pytest.fixture
def channel(connect: Callable[..., Any]) -> Any:
    return connect().channel()


def depth(channel: Any, queue: str) -> int:
    count: int = channel.queue_declare(queue, passive=True).method.message_count
    return count


def get_all(channel: Any, queue: str) -> list[bytes]:
    bodies: list[bytes] = []
    while True:
        method, _, body = channel.basic_get(queue, auto_ack=True)
        if method is None:
            return bodies
        bodies.append(body)


def bind_queue(channel: Any, exchange: str, routing_key: str, arguments: dict[str, Any] | None = None) -> str:
    queue: str = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, exchange, routing_key, arguments=arguments)
    return queue


# publishing and consuming ---------------------------------------------------------------------------------------------


def test_messages_arrive_in_order_with_their_properties(channel: Any, name: str) -> None:
    channel.queue_declare(name, durable=True)
    properties = pika.BasicProperties(
        content_type="text/plain",
        content_encoding="utf-8",
        headers={"n": 1, "text": "ü", "deep": {"list": [1, "two", None, True]}},
        delivery_mode=2,
        priority=3,
        correlation_id="c",
        reply_to="r",
        expiration="60000",
        message_id="m",
        timestamp=1_700_000_000,
        type="t",
        user_id="guest",
        app_id="a",
    )
    for number in range(100):
        channel.basic_publish("", name, b"%d" % number, properties)

    received: list[bytes] = []
    for method, got, body in channel.consume(name, inactivity_timeout=10):
        assert got is not None, f"only {len(received)} of 100 arrived"
        received.append(body)
        assert got == properties
        assert method.routing_key == name and method.exchange == "" and not method.redelivered
        channel.basic_ack(method.delivery_tag)
        if len(received) == 100:
            break

    assert received == [b"%d" % number for number in range(100)]
    channel.cancel()
    assert depth(channel, name) == 0
    channel.queue_delete(name)


def test_a_confirmed_publish_is_in_its_queue(channel: Any, name: str) -> None:
    channel.queue_declare(name, durable=True)
    channel.confirm_delivery()
    channel.basic_publish("", name, b"sure", PERSISTENT)
    assert depth(channel, name) == 1
    channel.queue_delete(name)


def test_a_mandatory_message_without_a_route_comes_back(channel: Any, name: str) -> None:
    channel.confirm_delivery()
    with pytest.raises(pika.exceptions.UnroutableError) as returned:
        channel.basic_publish("", name, b"nowhere", PERSISTENT, mandatory=True)
    message = returned.value.messages[0]
    assert (message.method.reply_code, message.method.routing_key, message.body) == (312, name, b"nowhere")


def test_a_transaction_publishes_and_acknowledges_when_it_is_committed(
    connect: Callable[..., Any], channel: Any, name: str
) -> None:
    other = connect().channel()
    other.queue_declare(name, durable=True)
    other.basic_publish("", name, b"old", PERSISTENT)
    channel.tx_select()
    method, _, body = channel.basic_get(name)
    channel.basic_ack(method.delivery_tag)
    channel.basic_publish("", name, b"dropped", PERSISTENT)
    channel.tx_rollback()
    channel.basic_ack(method.delivery_tag)
    channel.basic_publish("", name, b"new", PERSISTENT)
    before = depth(other, name)
    channel.tx_commit()

    assert (body, before) == (b"old", 0)
    assert get_all(other, name) == [b"new"]
    other.queue_delete(name)


def test_an_answer_comes_straight_to_whoever_asked(connect: Callable[..., Any], channel: Any, name: str) -> None:
    answers: list[bytes] = []
    other = connect().channel()
    other.queue_declare(name)
    channel.basic_consume("amq.rabbitmq.reply-to", lambda *message: answers.append(message[3]), auto_ack=True)
    channel.basic_publish("", name, b"why?", pika.BasicProperties(reply_to="amq.rabbitmq.reply-to"))
    eventually(lambda: depth(other, name) == 1, "a question in its queue")
    _, question, _ = other.basic_get(name, auto_ack=True)
    other.basic_publish("", question.reply_to, b"because")

    channel.connection.process_data_events(time_limit=10)

    assert answers == [b"because"]
    other.queue_delete(name)


def test_an_unroutable_message_that_is_not_mandatory_is_confirmed_and_gone(channel: Any, name: str) -> None:
    channel.confirm_delivery()
    channel.basic_publish("", name, b"nowhere", PERSISTENT)


@pytest.mark.parametrize("size", [0, 1, 131064, 131065, 200_000, 5_000_000])
@pytest.mark.parametrize("durable", [True, False], ids=["durable", "transient"])
def test_a_body_of_any_size_comes_back_whole(channel: Any, name: str, *, size: int, durable: bool) -> None:
    body = bytes(index * 31 & 0xFF for index in range(1024)) * (size // 1024 + 1)
    body = body[:size]
    channel.queue_declare(name, durable=durable)
    channel.confirm_delivery()
    channel.basic_publish("", name, body, PERSISTENT)
    channel.basic_publish("", name, b"after", PERSISTENT)

    method, _, got = channel.basic_get(name, auto_ack=True)

    assert method.message_count == 1
    assert got == body
    assert channel.basic_get(name, auto_ack=True)[2] == b"after"
    channel.queue_delete(name)


@pytest.mark.slow
def test_a_message_of_128_mib_goes_through(connect: Callable[..., Any], name: str) -> None:
    connection = connect(blocked_connection_timeout=60)
    channel = connection.channel()
    channel.queue_declare(name, durable=True)
    channel.confirm_delivery()
    body = b"0123456789abcdef" * (128 * 1024 * 1024 // 16)
    channel.basic_publish("", name, body, PERSISTENT)
    assert depth(channel, name) == 1

    _, _, got = channel.basic_get(name, auto_ack=True)

    assert len(got) == len(body)
    assert hashlib.sha1(got).digest() == hashlib.sha1(body).digest()
    channel.queue_delete(name)


def test_a_body_beyond_the_limit_is_refused_with_406(connect: Callable[..., Any], name: str) -> None:
    channel = connect().channel()
    channel.confirm_delivery()
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        channel.basic_publish("", name, bytes(128 * 1024 * 1024 + 1))
    assert closed.value.reply_code == 406


# settling -------------------------------------------------------------------------------------------------------------


def test_a_requeued_message_keeps_its_place_and_is_marked_redelivered(channel: Any, name: str) -> None:
    channel.queue_declare(name)
    for body in (b"first", b"second", b"third"):
        channel.basic_publish("", name, body)
    first, _, _ = channel.basic_get(name)
    channel.basic_nack(first.delivery_tag, requeue=True)

    again, _, body = channel.basic_get(name, auto_ack=True)

    assert (body, again.redelivered) == (b"first", True)
    assert get_all(channel, name) == [b"second", b"third"]
    channel.queue_delete(name)


def test_a_rejected_message_without_requeue_is_gone(channel: Any, name: str) -> None:
    channel.queue_declare(name)
    channel.basic_publish("", name, b"bad")
    method, _, _ = channel.basic_get(name)
    channel.basic_reject(method.delivery_tag, requeue=False)
    assert get_all(channel, name) == []
    channel.queue_delete(name)


def test_one_acknowledgement_may_settle_many(channel: Any, name: str) -> None:
    channel.queue_declare(name)
    for number in range(10):
        channel.basic_publish("", name, b"%d" % number)
    tags = [channel.basic_get(name)[0].delivery_tag for _ in range(10)]
    channel.basic_ack(tags[6], multiple=True)
    channel.basic_recover(requeue=True)
    assert get_all(channel, name) == [b"7", b"8", b"9"]
    channel.queue_delete(name)


def test_what_a_vanished_client_did_not_acknowledge_is_redelivered_in_order(
    connect: Callable[..., Any], name: str
) -> None:
    leaving = connect()
    channel = leaving.channel()
    channel.queue_declare(name)
    for number in range(5):
        channel.basic_publish("", name, b"%d" % number)
    for _ in range(3):
        channel.basic_get(name)
    leaving.close()

    staying = connect().channel()
    eventually(lambda: depth(staying, name) == 5, "the unacknowledged ones are ready again")
    assert get_all(staying, name) == [b"0", b"1", b"2", b"3", b"4"]
    staying.queue_delete(name)


def test_prefetch_bounds_what_a_consumer_holds(channel: Any, name: str) -> None:
    channel.queue_declare(name)
    for number in range(10):
        channel.basic_publish("", name, b"%d" % number)
    channel.basic_qos(prefetch_count=3)
    held: list[int] = []
    channel.basic_consume(name, lambda _, method, __, ___: held.append(method.delivery_tag))
    eventually(lambda: channel.connection.process_data_events(0) or len(held) == 3, "three deliveries")
    # The broker answers in order, so whatever it sent before this answer has arrived with it.
    assert depth(channel, name) == 7
    assert len(held) == 3

    channel.basic_ack(held[0])
    eventually(lambda: channel.connection.process_data_events(0) or len(held) == 4, "one more after an acknowledgement")
    channel.queue_delete(name)


def test_two_consumers_share_a_queue(connect: Callable[..., Any], name: str) -> None:
    first, second = connect().channel(), connect().channel()
    first.queue_declare(name)
    got: dict[str, list[bytes]] = {"first": [], "second": []}
    for label, channel in (("first", first), ("second", second)):
        channel.basic_qos(prefetch_count=1)
        channel.basic_consume(name, _collector(got[label]))
    for number in range(20):
        first.basic_publish("", name, b"%d" % number)

    def all_arrived() -> bool:
        first.connection.process_data_events(0)
        second.connection.process_data_events(0)
        return sum(map(len, got.values())) == 20

    eventually(all_arrived, "20 deliveries")
    assert got["first"] and got["second"]
    first.queue_delete(name)


def _collector(into: list[bytes]) -> Callable[[Any, Any, Any, bytes], None]:
    def collect(channel: Any, method: Any, _: Any, body: bytes) -> None:
        into.append(body)
        channel.basic_ack(method.delivery_tag)

    return collect


def test_a_cancelled_consumer_gets_no_more(channel: Any, name: str) -> None:
    channel.queue_declare(name)
    got: list[bytes] = []
    tag = channel.basic_consume(name, _collector(got), auto_ack=False)
    channel.basic_cancel(tag)
    channel.basic_publish("", name, b"late")
    assert depth(channel, name) == 1
    assert got == []
    channel.queue_delete(name)


def test_a_consumer_is_told_when_its_queue_is_deleted(connect: Callable[..., Any], name: str) -> None:
    channel = connect().channel()
    channel.queue_declare(name)
    told: list[Any] = []
    channel.add_on_cancel_callback(told.append)
    channel.basic_consume(name, _collector([]))
    connect().channel().queue_delete(name)
    eventually(lambda: channel.connection.process_data_events(0) or told, "basic.cancel")


# exchanges ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "binding_key", "reached", "missed"),
    [
        ("direct", "red", ["red"], ["Red", "red.dark", ""]),
        ("fanout", "ignored", ["anything", ""], []),
        ("topic", "a.*.c", ["a.b.c", "a..c"], ["a.c", "a.b.b.c", "a.b.c.d"]),
        ("topic", "a.#", ["a", "a.b", "a.b.c"], ["b.a", "ab"]),
        ("topic", "#", ["", "a", "a.b"], []),
        ("topic", "*.#.z", ["a.z", "a.b.z"], ["z", "a.z.b"]),
    ],
)
def test_an_exchange_routes_by_its_type(
    channel: Any, name: str, kind: str, binding_key: str, reached: list[str], missed: list[str]
) -> None:
    channel.exchange_declare(name, kind)
    queue = bind_queue(channel, name, binding_key)
    for key in [*reached, *missed]:
        channel.basic_publish(name, key, key.encode())
    assert get_all(channel, queue) == [key.encode() for key in reached]
    channel.exchange_delete(name)


@pytest.mark.parametrize(
    ("match", "headers", "arrives"),
    [
        ("all", {"a": 1, "b": "x", "more": True}, True),
        ("all", {"a": 1}, False),
        ("any", {"a": 1}, True),
        ("any", {"a": 2, "c": "x"}, False),
    ],
)
def test_a_headers_exchange_matches_all_or_any(
    channel: Any, name: str, match: str, headers: dict[str, Any], *, arrives: bool
) -> None:
    channel.exchange_declare(name, "headers")
    queue = bind_queue(channel, name, "", {"x-match": match, "a": 1, "b": "x"})
    channel.basic_publish(name, "", b"body", pika.BasicProperties(headers=headers))
    assert bool(get_all(channel, queue)) is arrives
    channel.exchange_delete(name)


def test_a_message_reaches_a_queue_once_however_many_bindings_match(channel: Any, name: str) -> None:
    channel.exchange_declare(name, "topic")
    queue = bind_queue(channel, name, "a.*")
    channel.queue_bind(queue, name, "#")
    channel.basic_publish(name, "a.b", b"once")
    assert get_all(channel, queue) == [b"once"]
    channel.queue_unbind(queue, name, "#")
    channel.queue_unbind(queue, name, "a.*")
    channel.basic_publish(name, "a.b", b"none")
    assert get_all(channel, queue) == []
    channel.exchange_delete(name)


def test_exchanges_may_be_bound_to_each_other(channel: Any, name: str) -> None:
    channel.exchange_declare(f"{name}-source", "topic")
    channel.exchange_declare(name, "fanout")
    channel.exchange_bind(name, f"{name}-source", "news.#")
    queue = bind_queue(channel, name, "")
    channel.basic_publish(f"{name}-source", "news.today", b"through both")
    assert get_all(channel, queue) == [b"through both"]
    channel.exchange_unbind(name, f"{name}-source", "news.#")
    channel.basic_publish(f"{name}-source", "news.today", b"no longer")
    assert get_all(channel, queue) == []
    channel.exchange_delete(f"{name}-source")
    channel.exchange_delete(name)


@pytest.mark.parametrize("predeclared", ["amq.direct", "amq.fanout", "amq.topic", "amq.headers", "amq.match"])
def test_predeclared_exchanges_are_there(channel: Any, predeclared: str) -> None:
    channel.exchange_declare(predeclared, passive=True)


def test_an_auto_delete_exchange_goes_with_its_last_binding(channel: Any, name: str) -> None:
    channel.exchange_declare(name, "direct", auto_delete=True)
    queue = bind_queue(channel, name, "k")
    channel.queue_unbind(queue, name, "k")
    with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="404"):
        channel.exchange_declare(name, passive=True)


# queues ---------------------------------------------------------------------------------------------------------------


def test_the_server_names_a_queue_that_has_none(channel: Any) -> None:
    first, second = (channel.queue_declare("", exclusive=True).method.queue for _ in range(2))
    assert first.startswith("amq.gen-") and first != second
    # An empty name means the queue this channel declared last.
    channel.queue_bind("", "amq.fanout")
    channel.basic_publish("amq.fanout", "", b"to the last")
    assert get_all(channel, second) == [b"to the last"]
    assert get_all(channel, first) == []


def test_purge_and_delete_say_how_many_messages_went(channel: Any, name: str) -> None:
    channel.queue_declare(name, durable=True)
    for _ in range(3):
        channel.basic_publish("", name, b"x", PERSISTENT)
    assert depth(channel, name) == 3
    assert channel.queue_purge(name).method.message_count == 3
    channel.basic_publish("", name, b"x", PERSISTENT)
    assert depth(channel, name) == 1
    assert channel.queue_delete(name).method.message_count == 1


def test_an_auto_delete_queue_goes_with_its_last_consumer(connect: Callable[..., Any], name: str) -> None:
    channel = connect().channel()
    channel.queue_declare(name, auto_delete=True)
    tag = channel.basic_consume(name, _collector([]))
    channel.basic_cancel(tag)
    with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="404"):
        channel.queue_declare(name, passive=True)


def test_an_exclusive_queue_goes_with_its_connection(connect: Callable[..., Any], name: str) -> None:
    owner = connect()
    owner.channel().queue_declare(name, exclusive=True)
    other = connect()
    with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="405"):
        other.channel().queue_declare(name, passive=True)
    owner.close()

    def is_gone() -> bool:
        try:
            other.channel().queue_declare(name, passive=True)
        except pika.exceptions.ChannelClosedByBroker as closed:
            return bool(closed.reply_code == 404)
        return False

    eventually(is_gone, "404 for the exclusive queue of a closed connection")


# refusals -------------------------------------------------------------------------------------------------------------

Wish = Callable[[Any, str], Any]


def _declared(channel: Any, name: str) -> str:
    channel.queue_declare(name, exclusive=True)
    return name


def _redeclared(channel: Any, name: str, **options: Any) -> None:
    channel.queue_declare(name, exclusive=True)
    channel.queue_declare(name, exclusive=True, **options)


def _deleted_while_used(channel: Any, name: str) -> None:
    channel.basic_consume(_declared(channel, name), _collector([]))
    channel.queue_delete(name, if_unused=True)


def _deleted_while_full(channel: Any, name: str) -> None:
    channel.basic_publish("", _declared(channel, name), b"x")
    channel.queue_delete(name, if_empty=True)


def _then_asked(channel: Any, _: None) -> None:
    """basic.ack has no answer; the refusal comes with the next one that has."""
    channel.queue_declare("", exclusive=True)


REFUSALS: list[tuple[int, str, Wish]] = [
    (404, "a queue that does not exist", lambda channel, name: channel.queue_declare(name, passive=True)),
    (404, "an exchange that does not exist", lambda channel, name: channel.exchange_declare(name, passive=True)),
    (404, "consuming from nothing", lambda channel, name: channel.basic_consume(name, _collector([]))),
    (404, "getting from nothing", lambda channel, name: channel.basic_get(name)),
    (404, "purging nothing", lambda channel, name: channel.queue_purge(name)),
    (404, "binding to nothing", lambda channel, name: channel.queue_bind(_declared(channel, name), "no-such")),
    (403, "a reserved queue name", lambda channel, name: channel.queue_declare(f"amq.{name}")),
    (403, "a reserved exchange name", lambda channel, name: channel.exchange_declare(f"amq.{name}", "direct")),
    (403, "deleting a predeclared exchange", lambda channel, _: channel.exchange_delete("amq.topic")),
    (403, "binding to the default exchange", lambda channel, name: channel.queue_bind(_declared(channel, name), "")),
    (406, "a queue with another durability", lambda channel, name: _redeclared(channel, name, durable=True)),
    (406, "a queue with other arguments", lambda channel, name: _redeclared(channel, name, arguments={"x-a": 1})),
    (406, "an exchange of another type", lambda channel, _: channel.exchange_declare("amq.topic", "direct")),
    (406, "deleting a queue that is used, if unused", _deleted_while_used),
    (406, "deleting a queue that is not empty, if empty", _deleted_while_full),
    (406, "an unknown delivery tag", lambda channel, _: _then_asked(channel, channel.basic_ack(99))),
]


@pytest.mark.parametrize(("code", "what", "wish"), REFUSALS, ids=[what for _, what, _ in REFUSALS])
def test_a_refused_wish_ends_the_channel_with_its_code_and_no_other(
    connect: Callable[..., Any], name: str, code: int, what: str, wish: Wish
) -> None:
    connection = connect()
    sibling, channel = connection.channel(), connection.channel()
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        wish(channel, name)
    assert closed.value.reply_code == code, f"{what}: {closed.value}"
    sibling.queue_declare("", exclusive=True)


def test_publishing_to_a_missing_exchange_ends_the_channel_with_404(connect: Callable[..., Any], name: str) -> None:
    channel = connect().channel()
    channel.confirm_delivery()
    with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="404"):
        channel.basic_publish(name, "key", b"x")


def test_an_unknown_exchange_type_ends_the_connection_with_503(connect: Callable[..., Any], name: str) -> None:
    """RabbitMQ answers so; the specification has the same code."""
    channel = connect().channel()
    with pytest.raises((pika.exceptions.ConnectionClosedByBroker, pika.exceptions.ChannelClosedByBroker)) as closed:
        channel.exchange_declare(name, "no-such-type")
    assert closed.value.reply_code in (503, 406)


def test_wrong_credentials_are_refused_with_403(connect: Callable[..., Any]) -> None:
    with pytest.raises(pika.exceptions.ProbableAuthenticationError, match="403"):
        connect(credentials=pika.PlainCredentials("guest", "wrong"))


def test_an_unknown_vhost_is_refused_with_530(connect: Callable[..., Any], name: str) -> None:
    with pytest.raises(pika.exceptions.ProbableAccessDeniedError, match="530"):
        connect(virtual_host=name)


# staying alive --------------------------------------------------------------------------------------------------------


def test_an_idle_connection_lives_on_heartbeats(connect: Callable[..., Any]) -> None:
    connection = connect(heartbeat=1)
    channel = connection.channel()
    # Four times the negotiated interval: a broker or client without heartbeats has given up by then.
    connection.process_data_events(time_limit=4)
    channel.queue_declare("", exclusive=True)
