"""Counters: what is counted where, and how often a second it happens."""

from typing import Any

import pytest
from pamqp import commands

from shards.inventory.sampling import take_samples
from shards.inventory.stats import message_stats, shown, traffic
from shards.model.statistics import MESSAGE_COUNTERS, PUBLISH, Sampling, Tally
from tests.protocols.conversation import Client, World, content


def stats(world: World, thing: Any) -> dict[str, int]:
    found = message_stats(Sampling(), thing.tally) or {}
    return {name: number for name, number in found.items() if not name.endswith("_details")}


@pytest.fixture
def client(world: World) -> Client:
    client = world.client().open()
    client.declare("jobs")
    return client


def test_a_queue_counts_what_comes_goes_and_comes_back(world: World, client: Client) -> None:
    for _ in range(5):
        client.publish("", "jobs", b"dig")
    client.consume("jobs", acks=True)
    client.ack(1)
    client.nack(2)

    queue = world.vhost.queue("jobs")
    assert stats(world, queue) == {"publish": 5, "deliver": 6, "deliver_get": 6, "ack": 1, "reject": 1, "redeliver": 1}


def test_a_run_that_is_taken_at_once_is_counted_as_if_it_came_one_by_one(world: World, client: Client) -> None:
    client.consume("jobs")
    client.publish("", "jobs", b"dig")
    client.send(content("", "jobs", b"dig", channel=1) * 50)

    assert stats(world, world.vhost.queue("jobs")) == {"publish": 51, "deliver_no_ack": 51, "deliver_get": 51}
    assert stats(world, world.vhost.exchange("")) == {"publish": 51, "publish_out": 51}


def test_what_leads_nowhere_is_counted_as_returned_or_dropped(world: World, client: Client) -> None:
    client.publish("", "nobody", b"dig")
    client.publish("", "nobody", b"dig", mandatory=True)
    client.replies()

    assert stats(world, world.vhost) == {"publish": 2, "drop_unroutable": 1, "return_unroutable": 1}


def test_a_rate_is_what_came_between_two_samples(world: World, client: Client) -> None:
    list(take_samples(world.vhosts, 1_000))
    for _ in range(10):
        client.publish("", "jobs", b"dig")
    list(take_samples(world.vhosts, 6_000))

    queue = world.vhost.queue("jobs")
    assert (message_stats(world.vhosts.sampling, queue.tally) or {})["publish_details"] == {"rate": 2.0}


def test_a_rate_is_zero_once_nothing_happens_any_more(world: World, client: Client) -> None:
    client.publish("", "jobs", b"dig")
    for now in (1_000, 6_000, 11_000, 16_000):
        list(take_samples(world.vhosts, now))

    queue = world.vhost.queue("jobs")
    assert (message_stats(world.vhosts.sampling, queue.tally) or {})["publish_details"] == {"rate": 0.0}


def test_a_connection_counts_its_bytes(world: World, client: Client) -> None:
    (connection,) = world.vhost.connections
    before, _rate = traffic(Sampling(), connection.tally, "recv_oct")  # type: ignore[attr-defined]
    client.publish("", "jobs", b"x" * 1000)
    client.replies()

    after, _rate = traffic(Sampling(), connection.tally, "recv_oct")  # type: ignore[attr-defined]
    assert 1000 < after - before < 1200


def test_what_came_and_went_is_counted(world: World) -> None:
    client = world.client().open()
    client.declare("a")
    client.declare("a")
    client.ask(commands.Queue.Delete(queue="a"))
    client.say(commands.Channel.Close(200, "", 0, 0))
    client.disconnect()

    assert world.vhost.tally is not None
    assert list(world.vhost.tally.counts[len(MESSAGE_COUNTERS) :]) == [1, 1, 1, 1, 2, 1, 1]


def test_nothing_is_shown_of_what_never_happened() -> None:
    tally = Tally()
    assert message_stats(Sampling(), None) is None
    assert message_stats(Sampling(), tally) is None
    tally.counts[PUBLISH] = 3
    assert shown(tally.counts, [0.5] * len(MESSAGE_COUNTERS)) == {"publish": 3, "publish_details": {"rate": 0.5}}
