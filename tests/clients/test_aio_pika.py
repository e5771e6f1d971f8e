"""aio-pika: many publishers and consumers on one asyncio loop, and reconnecting by itself."""

import asyncio

import aio_pika
import aio_pika.exceptions
import pytest

from tests.clients.running_broker import RunningBroker


def test_concurrent_publishers_are_all_confirmed_and_all_consumed(broker: RunningBroker, name: str) -> None:
    async def scenario() -> set[bytes]:
        connection = await aio_pika.connect(broker.url)
        async with connection:
            channel = await connection.channel(publisher_confirms=True)
            queue = await channel.declare_queue(name, durable=True)

            async def publish(publisher: int) -> None:
                for number in range(50):
                    message = aio_pika.Message(
                        b"%d-%d" % (publisher, number), delivery_mode=aio_pika.DeliveryMode.PERSISTENT
                    )
                    await channel.default_exchange.publish(message, routing_key=name)

            await asyncio.gather(*(publish(publisher) for publisher in range(10)))
            received: set[bytes] = set()
            async with queue.iterator(timeout=10) as messages:
                async for message in messages:
                    async with message.process():
                        received.add(message.body)
                    if len(received) == 500:
                        break
            await queue.delete(if_unused=False)
            return received

    received = asyncio.run(asyncio.wait_for(scenario(), 30))
    assert received == {b"%d-%d" % (publisher, number) for publisher in range(10) for number in range(50)}


def test_order_is_kept_within_a_channel(broker: RunningBroker, name: str) -> None:
    async def scenario() -> list[bytes]:
        async with await aio_pika.connect(broker.url) as connection:
            channel = await connection.channel()
            await channel.set_qos(prefetch_count=10)
            queue = await channel.declare_queue(name, auto_delete=True)
            exchange = await channel.declare_exchange(name, aio_pika.ExchangeType.TOPIC, auto_delete=True)
            await queue.bind(exchange, "n.#")
            for number in range(200):
                await exchange.publish(aio_pika.Message(b"%d" % number), routing_key=f"n.{number}")
            received: list[bytes] = []
            async with queue.iterator(timeout=10) as messages:
                async for message in messages:
                    await message.ack()
                    received.append(message.body)
                    if len(received) == 200:
                        break
            return received

    assert asyncio.run(asyncio.wait_for(scenario(), 30)) == [b"%d" % number for number in range(200)]


def test_request_and_reply_over_two_queues(broker: RunningBroker, name: str) -> None:
    async def scenario() -> bytes:
        async with await aio_pika.connect(broker.url) as connection:
            channel = await connection.channel()
            requests = await channel.declare_queue(name, auto_delete=True)
            replies = await channel.declare_queue(exclusive=True)

            async def answer(message: aio_pika.abc.AbstractIncomingMessage) -> None:
                async with message.process():
                    assert message.reply_to is not None
                    reply = aio_pika.Message(message.body.upper(), correlation_id=message.correlation_id)
                    await channel.default_exchange.publish(reply, routing_key=message.reply_to)

            await requests.consume(answer)
            answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

            async def take(message: aio_pika.abc.AbstractIncomingMessage) -> None:
                await message.ack()
                answered.set_result(message.body)

            await replies.consume(take)
            request = aio_pika.Message(b"question", reply_to=replies.name, correlation_id="1")
            await channel.default_exchange.publish(request, routing_key=name)
            return await answered

    assert asyncio.run(asyncio.wait_for(scenario(), 30)) == b"QUESTION"


def test_a_refused_declaration_raises_what_the_client_expects(broker: RunningBroker, name: str) -> None:
    async def scenario() -> None:
        async with await aio_pika.connect(broker.url) as connection:
            channel = await connection.channel()
            with pytest.raises(aio_pika.exceptions.ChannelNotFoundEntity):
                await channel.declare_queue(name, passive=True)

    asyncio.run(asyncio.wait_for(scenario(), 30))
