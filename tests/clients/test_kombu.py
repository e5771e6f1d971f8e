"""py-amqp and kombu on it, as Celery uses them."""

import socket
from collections.abc import Iterator
from typing import Any

import amqp
import kombu
import pytest

from tests.clients.running_broker import RunningBroker


@pytest.fixture
def connection(broker: RunningBroker) -> Iterator[Any]:
    connection = amqp.Connection(host=f"127.0.0.1:{broker.port}", confirm_publish=True, read_timeout=10)
    connection.connect()
    yield connection
    connection.close()


def test_py_amqp_publishes_with_confirms_and_consumes(connection: Any, name: str) -> None:
    channel = connection.channel()
    channel.queue_declare(name, durable=True, auto_delete=False)
    for number in range(20):
        message = amqp.Message(b"%d" % number, delivery_mode=2, application_headers={"number": number})
        channel.basic_publish_confirm(message, routing_key=name)

    received: list[tuple[bytes, int]] = []

    def take(message: Any) -> None:
        body = message.body if isinstance(message.body, bytes) else message.body.encode()
        received.append((body, message.headers["number"]))
        channel.basic_ack(message.delivery_tag)

    tag = channel.basic_consume(name, callback=take)
    while len(received) < 20:
        connection.drain_events(timeout=10)

    assert received == [(b"%d" % number, number) for number in range(20)]
    channel.basic_cancel(tag)
    channel.queue_delete(name)


def test_py_amqp_sees_a_returned_message(connection: Any, name: str) -> None:
    channel = connection.channel()
    returned: list[int] = []
    channel.events["basic_return"].add(lambda failure, *_: returned.append(failure.reply_code))
    channel.basic_publish_confirm(amqp.Message(b"nowhere"), routing_key=name, mandatory=True)
    assert returned == [312]


def test_py_amqp_hears_404(connection: Any, name: str) -> None:
    channel = connection.channel()
    with pytest.raises(amqp.NotFound):
        channel.queue_declare(name, passive=True)


def test_kombu_moves_objects_through_a_topic_exchange(broker: RunningBroker, name: str) -> None:
    exchange = kombu.Exchange(name, type="topic", durable=False, auto_delete=True)
    queue = kombu.Queue(name, exchange=exchange, routing_key="task.#", durable=False, auto_delete=True)
    received: list[dict[str, Any]] = []

    def take(body: dict[str, Any], message: Any) -> None:
        received.append(body)
        message.ack()

    with kombu.Connection(broker.url.replace("amqp://", "pyamqp://")) as connection:
        producer = connection.Producer(serializer="json")
        with connection.Consumer(queue, callbacks=[take]) as consumer:
            consumer.qos(prefetch_count=4)
            for number in range(30):
                producer.publish({"number": number}, exchange=exchange, routing_key=f"task.{number}", declare=[queue])
            while len(received) < 30:
                connection.drain_events(timeout=10)

    assert received == [{"number": number} for number in range(30)]


def test_kombu_requeues_and_finds_the_message_again(broker: RunningBroker, name: str) -> None:
    with kombu.Connection(broker.url.replace("amqp://", "pyamqp://")) as connection:
        simple = connection.SimpleQueue(name, queue_opts={"durable": False, "auto_delete": True})
        simple.put({"again": True})
        simple.get(timeout=10).requeue()
        message = simple.get(timeout=10)
        assert message.payload == {"again": True}
        assert message.delivery_info["redelivered"]
        message.ack()
        simple.close()


def test_kombu_times_out_on_an_empty_queue_and_goes_on(broker: RunningBroker, name: str) -> None:
    with kombu.Connection(broker.url.replace("amqp://", "pyamqp://")) as connection:
        queue = kombu.Queue(name, auto_delete=True)
        with connection.Consumer(queue, callbacks=[print]), pytest.raises(socket.timeout):
            connection.drain_events(timeout=0.1)
        connection.default_channel.queue_delete(name)
