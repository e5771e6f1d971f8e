"""How often a message came back: told in its header, limited by the queue, and known after a restart."""

from pathlib import Path
from typing import Any

import pytest
from pamqp import commands

from ipc.limits import LARGE_BODY_BYTES
from ipc.wire.amqp import properties
from tests.protocols.conversation import Client, Content, World

LIMITED: dict[str, Any] = {"durable": True, "arguments": {"x-delivery-limit": 3}}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def headers(message: Content) -> dict[str, Any]:
    return properties.headers(message.header, properties.inspect(message.header))


def give_back(client: Client) -> Content | None:
    """Take the next message and want it back in its queue."""
    message = client.get("q", acks=True)
    if message is not None:
        client.nack(message.method.delivery_tag)
    return message


def counts(client: Client, times: int) -> list[int | None]:
    taken = [give_back(client) for _ in range(times)]
    return [None if message is None else headers(message).get("x-delivery-count") for message in taken]


def test_the_header_tells_from_the_second_delivery_on(world: World) -> None:
    client = world.client().open()
    client.declare("q", **LIMITED)
    client.publish("", "q", b"poison")

    first, *others = (give_back(client) for _ in range(5))

    assert first is not None
    assert "x-delivery-count" not in headers(first)
    assert [headers(message)["x-delivery-count"] for message in others if message] == [1, 2, 3]
    assert others[-1] is None


def test_consumers_are_told_as_well(world: World) -> None:
    client = world.client().open()
    client.declare("q", **LIMITED)
    client.publish("", "q", b"poison", properties=commands.Basic.Properties(headers={"mine": 7}, message_id="m"))
    client.consume("q", acks=True)
    client.nack(1)
    first, second = client.deliveries()

    assert (headers(first), headers(second)) == ({"mine": 7}, {"mine": 7, "x-delivery-count": 1})
    assert second.method.redelivered
    assert second.body == b"poison"


def test_without_a_limit_nobody_counts(world: World) -> None:
    client = world.client().open()
    client.declare("q")
    client.publish("", "q", b"x")

    assert counts(client, 50) == [None] * 50
    assert world.vhost.queue("q").returned_count == 0


def test_large_messages_are_counted_and_whole(world: World) -> None:
    client = world.client().open()
    client.declare("q", **LIMITED)
    client.publish("", "q", b"L" * LARGE_BODY_BYTES)
    client.consume("q", acks=True)
    client.nack(1)

    _first, second = client.deliveries()
    assert headers(second) == {"x-delivery-count": 1}
    assert second.body == b"L" * LARGE_BODY_BYTES


def test_an_acknowledged_message_is_no_longer_counted(world: World) -> None:
    client = world.client().open()
    client.declare("q", **LIMITED)
    client.publish("", "q", b"x")
    give_back(client)
    message = client.get("q", acks=True)
    assert message is not None
    client.ack(message.method.delivery_tag)

    assert world.vhost.queue("q").returned_count == 0


@pytest.mark.parametrize("ends", [World.restart, World.crash])
def test_counts_survive_a_restart(world: World, ends: Any) -> None:
    client = world.client().open()
    client.declare("q", **LIMITED)
    for body in (b"calm", b"poison", b"last"):
        client.publish("", "q", body, persistent=True)
    calm = client.get("q", acks=True)
    assert calm is not None
    assert counts(client, 2) == [None, 1]
    client.ack(calm.method.delivery_tag)

    survivor = ends(world).client().open()

    assert counts(survivor, 3) == [2, 3, None]
    message = survivor.get("q")
    assert message is None or message.body == b"last"


def test_a_message_that_came_back_keeps_its_place_over_a_restart(world: World) -> None:
    client = world.client().open()
    client.declare("q", **LIMITED)
    for number in range(5):
        client.publish("", "q", b"%d" % number, persistent=True)
    client.prefetch(3)
    client.consume("q", acks=True)
    client.nack(3)
    client.replies()

    survivor = world.crash().client().open()
    survivor.consume("q", acks=True)
    deliveries = survivor.deliveries()

    assert [message.body for message in deliveries] == [b"0", b"1", b"2", b"3", b"4"]
    assert [headers(message).get("x-delivery-count") for message in deliveries] == [None, None, 1, None, None]
    assert [message.method.redelivered for message in deliveries] == [False, False, True, False, False]


def test_a_purge_forgets_counts_of_what_it_drops_only(world: World) -> None:
    client = world.client().open()
    client.declare("q", **LIMITED)
    for number in range(4):
        client.publish("", "q", b"%d" % number, persistent=True)
    give_back(client)
    held = client.get("q", acks=True)
    give_back(client)
    client.ask(commands.Queue.Purge(queue="q"))

    assert world.vhost.queue("q").returned_count == 1

    assert held is not None
    client.nack(held.method.delivery_tag)
    assert counts(client, 2) == [2, 3]


def test_a_message_that_comes_and_goes_all_day_does_not_fill_the_disk(world: World) -> None:
    client = world.client().open()
    client.declare("q", durable=True, arguments={"x-delivery-limit": 1_000_000})
    client.publish("", "q", b"boomerang", persistent=True)
    for _ in range(2_000):
        give_back(client)

    (log,) = world._directory.rglob("*.acks")
    assert log.stat().st_size < 16 * 1024
    (count,) = counts(world.crash().client().open(), 1)
    assert count is not None
    assert 2_000 * 31 / 32 <= count <= 2_000


def test_priority_queues_count_in_every_level(world: World) -> None:
    client = world.client().open()
    client.declare("q", durable=True, arguments={"x-delivery-limit": 5, "x-max-priority": 9})
    client.publish("", "q", b"high", properties=commands.Basic.Properties(priority=9, delivery_mode=2))
    client.publish("", "q", b"low", properties=commands.Basic.Properties(priority=1, delivery_mode=2))
    assert counts(client, 2) == [None, 1]

    survivor = world.crash().client().open()
    survivor.consume("q", acks=True)

    assert [headers(message).get("x-delivery-count") for message in survivor.deliveries()] == [2, None]
