"""Queues with `x-max-priority`: the most urgent message is the next one, and the oldest of those that are as urgent."""

import random
from pathlib import Path
from typing import Any

import pytest
from pamqp import commands

from ipc.limits import LARGE_BODY_BYTES
from ipc.settings import StoreSettings
from shards.store.priority_store import PriorityStore
from tests.protocols.conversation import Client, World

URGENT = 10
DURABLE: dict[str, Any] = {"durable": True, "arguments": {"x-max-priority": URGENT}}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, store=StoreSettings(segment_bytes_max=64 * 1024))


def publish(client: Client, body: bytes, priority: int | None, *, persistent: bool = False) -> None:
    mode = 2 if persistent else None
    client.publish("", "q", body, properties=commands.Basic.Properties(priority=priority, delivery_mode=mode))


def test_the_most_urgent_message_comes_first(world: World) -> None:
    client = world.client().open()
    client.declare("q", **DURABLE)
    for body, priority in ((b"b1", 1), (b"a5", 5), (b"c", None), (b"b5", 5), (b"c1", 1)):
        publish(client, body, priority)

    assert client.drain("q") == [b"a5", b"b5", b"b1", b"c1", b"c"]


def test_priorities_beyond_the_queues_are_its_highest(world: World) -> None:
    client = world.client().open()
    client.declare("q", arguments={"x-max-priority": 2})
    for body, priority in ((b"first", 2), (b"second", 200), (b"third", 255)):
        publish(client, body, priority)

    assert client.drain("q") == [b"first", b"second", b"third"]


def test_a_queue_without_priorities_keeps_the_order_of_publishing(world: World) -> None:
    client = world.client().open()
    client.declare("q")
    publish(client, b"first", 0)
    publish(client, b"second", 9)

    assert client.drain("q") == [b"first", b"second"]


def test_levels_are_made_only_for_priorities_that_come(world: World) -> None:
    client = world.client().open()
    client.declare("q", arguments={"x-max-priority": 255})
    for priority in (3, 3, 200):
        publish(client, b"x", priority)

    store = world.vhost.queue("q").store
    assert isinstance(store, PriorityStore)
    assert len(store.levels()) == 2


def test_a_waiting_consumer_gets_what_is_urgent_before_the_backlog(world: World) -> None:
    client = world.client().open()
    client.declare("q", **DURABLE)
    for number in range(5):
        publish(client, b"%d" % number, 0)
    client.prefetch(1)
    client.consume("q", acks=True)
    publish(client, b"urgent", URGENT)
    client.ack(1)

    assert client.bodies() == [b"0", b"urgent"]


def test_what_comes_back_keeps_its_place_among_its_equals(world: World) -> None:
    client = world.client().open()
    client.declare("q", **DURABLE)
    for body, priority in ((b"low", 0), (b"first", 5), (b"second", 5)):
        publish(client, body, priority)
    taken = client.get("q", acks=True)
    publish(client, b"higher", 7)

    assert taken is not None
    client.nack(taken.method.delivery_tag)

    assert client.drain("q") == [b"higher", b"first", b"second", b"low"]


def test_acknowledgements_of_several_levels_at_once_reach_each(world: World) -> None:
    client = world.client().open()
    client.declare("q", **DURABLE)
    for number in range(30):
        publish(client, b"%d" % number, number % 3, persistent=True)
    client.consume("q", acks=True)
    assert len(client.bodies()) == 30
    client.ack(0, multiple=True)

    queue = world.vhost.queue("q")
    assert (queue.ready_count, queue.unacknowledged_count) == (0, 0)


def test_priorities_and_places_survive_a_restart(world: World) -> None:
    client = world.client().open()
    client.declare("q", **DURABLE)
    for number in range(200):
        publish(client, b"%d" % number + bytes(2000), number % 4, persistent=True)
    for _ in range(20):
        client.get("q")

    survivor = world.crash().client().open()

    expected = sorted(range(200), key=lambda number: (-(number % 4), number))[20:]
    assert [int(body.rstrip(b"\0")) for body in survivor.drain("q")] == expected


def test_large_bodies_have_priorities_too(world: World) -> None:
    client = world.client().open()
    client.declare("q", **DURABLE)
    publish(client, b"small", 0)
    publish(client, b"L" * LARGE_BODY_BYTES, 9)

    assert [len(body) for body in client.drain("q")] == [LARGE_BODY_BYTES, 5]


def test_a_purge_empties_all_levels(world: World) -> None:
    client = world.client().open()
    client.declare("q", **DURABLE)
    for priority in (0, 4, 4, 9):
        publish(client, b"x", priority)

    assert client.ask(commands.Queue.Purge(queue="q")).message_count == 4
    assert client.drain("q") == []


def test_each_priority_expires_at_its_own_head(world: World) -> None:
    """RabbitMQ lets what is less urgent wait behind what is urgent and does not expire."""
    client = world.client().open()
    client.declare("q", **DURABLE)
    publish(client, b"urgent, for ever", 9)
    client.publish("", "q", b"soon over", properties=commands.Basic.Properties(priority=1, expiration="100"))
    world.advance(300)

    assert client.declare("q", **DURABLE).message_count == 1
    assert client.drain("q") == [b"urgent, for ever"]


def test_what_is_too_much_goes_where_the_queue_is_read_next(world: World) -> None:
    """RabbitMQ's choice: the head goes, and that is the most urgent message."""
    client = world.client().open()
    client.declare("q", arguments={"x-max-priority": URGENT, "x-max-length": 2})
    for body, priority in ((b"low", 0), (b"high", 9), (b"later", 0)):
        publish(client, body, priority)

    assert client.drain("q") == [b"low", b"later"]


def test_dead_letters_keep_their_priority(world: World) -> None:
    client = world.client().open()
    client.declare("graves", arguments={"x-max-priority": URGENT})
    client.declare(
        "q",
        arguments={"x-max-priority": URGENT, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "graves"},
    )
    for body, priority in ((b"low", 1), (b"high", 9)):
        publish(client, body, priority)
    client.consume("q", acks=True)
    client.nack(2, multiple=True, requeue=False)
    client.replies()

    assert client.drain("graves") == [b"high", b"low"]


@pytest.mark.parametrize("seed", range(8))
def test_random_traffic_is_handed_out_by_priority_and_age(world: World, seed: int) -> None:
    chance = random.Random(seed)
    client = world.client().open()
    client.declare("q", **DURABLE)
    waiting: list[tuple[int, int]] = []
    held: dict[int, tuple[int, int]] = {}
    for number in range(300):
        step = chance.random()
        if step < 0.55:
            priority = chance.randrange(12)
            publish(client, b"%d" % number, priority, persistent=True)
            waiting.append((-min(priority, URGENT), number))
        elif step < 0.85 and waiting:
            waiting.sort()
            message = client.get("q", acks=True)
            assert message is not None
            assert int(message.body) == waiting[0][1]
            held[message.method.delivery_tag] = waiting.pop(0)
        elif held:
            tag = chance.choice(list(held))
            if chance.random() < 0.5:
                client.ack(tag)
                del held[tag]
            else:
                client.nack(tag)
                waiting.append(held.pop(tag))

    survivor = world.crash().client().open()
    assert [int(body) for body in survivor.drain("q")] == [number for _, number in sorted([*waiting, *held.values()])]
