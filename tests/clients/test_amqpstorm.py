"""amqpstorm: its own codec and a reader thread, so it sees what the others forgive."""

from collections.abc import Iterator

import amqpstorm
import pytest

from tests.clients.running_broker import RunningBroker


@pytest.fixture
def connection(broker: RunningBroker) -> Iterator[amqpstorm.Connection]:
    with amqpstorm.Connection("127.0.0.1", "guest", "guest", port=broker.port, timeout=10) as connection:
        yield connection


def test_confirmed_messages_come_back_in_order(connection: amqpstorm.Connection, name: str) -> None:
    with connection.channel() as channel:
        channel.confirm_deliveries()
        channel.queue.declare(name, durable=True)
        for number in range(30):
            assert channel.basic.publish(f"{number}", name, properties={"delivery_mode": 2})

        received: list[str] = []
        channel.basic.qos(7)
        channel.basic.consume(queue=name)
        for message in channel.build_inbound_messages(break_on_empty=False):
            received.append(message.body)
            message.ack()
            if len(received) == 30:
                break

        assert received == [f"{number}" for number in range(30)]
        channel.queue.delete(name)


def test_get_reject_and_purge(connection: amqpstorm.Connection, name: str) -> None:
    with connection.channel() as channel:
        channel.queue.declare(name)
        for body in ("one", "two", "three"):
            channel.basic.publish(body, name)
        message = channel.basic.get(name)
        assert message is not None and message.body == "one"
        message.reject(requeue=True)
        again = channel.basic.get(name)
        assert again is not None and (again.body, again.method["redelivered"]) == ("one", True)
        again.ack()
        assert channel.queue.purge(name)["message_count"] == 2
        assert channel.basic.get(name) is None
        channel.queue.delete(name)


def test_a_headers_exchange_and_an_exclusive_queue(connection: amqpstorm.Connection, name: str) -> None:
    with connection.channel() as channel:
        channel.exchange.declare(name, exchange_type="headers", auto_delete=True)
        queue = channel.queue.declare(exclusive=True)["queue"]
        channel.queue.bind(queue, name, arguments={"x-match": "all", "kind": "wanted"})
        channel.basic.publish("yes", "", name, properties={"headers": {"kind": "wanted"}})
        channel.basic.publish("no", "", name, properties={"headers": {"kind": "other"}})
        message = channel.basic.get(queue, no_ack=True)
        assert message is not None and message.body == "yes"
        assert channel.basic.get(queue, no_ack=True) is None


def test_a_missing_queue_closes_the_channel_with_404(connection: amqpstorm.Connection, name: str) -> None:
    channel = connection.channel()
    with pytest.raises(amqpstorm.AMQPChannelError) as closed:
        channel.queue.declare(name, passive=True)
    assert closed.value.error_code == 404
    with connection.channel() as other:
        other.queue.declare(name, auto_delete=True)
        other.queue.delete(name)


def test_a_large_body_in_many_frames(connection: amqpstorm.Connection, name: str) -> None:
    with connection.channel() as channel:
        channel.queue.declare(name)
        body = "0123456789" * 100_000
        channel.basic.publish(body, name)
        message = channel.basic.get(name, no_ack=True)
        assert message is not None and message.body == body
        channel.queue.delete(name)
