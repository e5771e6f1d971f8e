"""Queues that an operator has paused: they take messages and hand none out, until somebody lets them go on."""

from pathlib import Path

import pytest

from tests.protocols.conversation import Client, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def pause(world: World, *, is_paused: bool = True) -> None:
    world.vhost.pause_queue(world.vhost.queue("q"), is_paused=is_paused)
    world.finish_turn()


def consumer_of_a_paused_queue(world: World) -> Client:
    client = world.client().open()
    client.declare("q", durable=True)
    client.consume("q", acks=True)
    pause(world)
    client.publish("", "q", b"kept", persistent=True)
    return client


def test_a_paused_queue_keeps_what_comes_in(world: World) -> None:
    client = consumer_of_a_paused_queue(world)

    assert client.bodies() == []
    assert world.vhost.queue("q").ready_count == 1


def test_a_resumed_queue_hands_out_what_waited(world: World) -> None:
    client = consumer_of_a_paused_queue(world)
    pause(world, is_paused=False)

    assert client.bodies() == [b"kept"]


def test_nobody_gets_anything_from_a_paused_queue(world: World) -> None:
    consumer_of_a_paused_queue(world)

    assert world.client().open().get("q") is None


def test_what_was_handed_out_before_may_be_settled(world: World) -> None:
    client = world.client().open()
    client.declare("q")
    client.consume("q", acks=True)
    for body in (b"a", b"b"):
        client.publish("", "q", body)
    client.replies()
    pause(world)
    client.ack(1)
    client.nack(2)

    queue = world.vhost.queue("q")
    assert (queue.ready_count, queue.unacknowledged_count, client.bodies()) == (1, 0, [])


def test_messages_in_a_paused_queue_expire(world: World) -> None:
    client = world.client().open()
    client.declare("q", arguments={"x-message-ttl": 100})
    pause(world)
    client.publish("", "q", b"short-lived")
    world.advance(300)

    assert world.vhost.queue("q").ready_count == 0


@pytest.mark.parametrize("is_paused", [True, False])
def test_a_durable_queue_is_paused_after_a_restart_as_it_was_before(world: World, is_paused: bool) -> None:
    consumer_of_a_paused_queue(world)
    pause(world, is_paused=is_paused)

    survivor = world.crash()

    assert survivor.client().open().get("q") is None or not is_paused
    assert survivor.vhost.queue("q").is_paused == is_paused
