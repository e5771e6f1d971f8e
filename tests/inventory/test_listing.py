"""Lists of what a shard has: in any order, filtered, and no more of them than are to be shown."""

import re

import pytest

from ipc.messages.rules import Policy, Rules
from shards.inventory.listing import REGISTERS
from tests.inventory.asking import names, ranked, shown
from tests.protocols.conversation import Client, World


@pytest.fixture
def client(world: World) -> Client:
    """Who has made three queues, with one, no and two messages."""
    client = world.client().open()
    for name, count in (("one", 1), ("none", 0), ("two", 2)):
        client.declare(name)
        for _ in range(count):
            client.publish("", name, b"x" * 10)
    return client


@pytest.mark.usefixtures("client")
def test_without_an_order_things_come_by_name(world: World) -> None:
    assert names(world, "queue") == ["none", "one", "two"]


@pytest.mark.usefixtures("client")
def test_things_come_in_the_order_of_a_column(world: World) -> None:
    assert names(world, "queue", sort="messages") == ["none", "one", "two"]
    assert names(world, "queue", sort="message_bytes_ready", is_descending=True) == ["two", "one", "none"]


@pytest.mark.usefixtures("client")
def test_no_more_are_named_than_were_asked_for_but_all_are_counted(world: World) -> None:
    counted, places = ranked(world, "queue", sort="messages", is_descending=True, count=1)

    assert places == [("two",)]
    assert (counted.total, counted.found) == (3, 3)


def test_the_first_of_many_runs_are_the_first_of_all(world: World) -> None:
    client = world.client().open()
    for number in range(700):
        client.declare(f"q{number * 7919 % 700:03}")

    assert names(world, "queue", is_descending=True, count=3) == ["q699", "q698", "q697"]
    assert names(world, "queue", count=700) == [f"q{number:03}" for number in range(700)]


@pytest.mark.usefixtures("client")
def test_names_are_found_by_a_part_of_them_or_by_an_expression(world: World) -> None:
    assert names(world, "queue", name="NE") == ["none", "one"]
    assert names(world, "queue", name="^o|o$", use_regex=True) == ["one", "two"]
    with pytest.raises(re.error):
        names(world, "queue", name="(", use_regex=True)


@pytest.mark.usefixtures("client")
def test_a_column_nobody_knows_orders_nothing(world: World) -> None:
    assert names(world, "queue", sort="nothing.at.all") == ["none", "one", "two"]


def test_every_order_agrees_with_the_column_that_is_shown(world: World, client: Client) -> None:
    """What is sorted by is found out another way where that is cheaper."""
    list(world.vhost.change_rules(Rules(policies=(Policy("p", "^o", {"max-length": 9}),)), world.now))
    world.advance(10_000)
    client.declare("late", arguments={"x-max-length": 3})

    for path in (
        "idle_since",
        "arguments.x-max-length",
        "effective_policy_definition.max-length",
        "message_stats.publish",
    ):
        register = REGISTERS["queue"]
        by_order = sorted(world.vhost.queues(), key=lambda queue: _key(register.order(path)(world.vhost, queue)))
        by_column = sorted(world.vhost.queues(), key=lambda queue: _key(register.value(world.vhost, queue, path)))
        assert [queue.name for queue in by_order] == [queue.name for queue in by_column], path


def _key(value: object) -> tuple[int, str]:
    return (0, "") if value is None else (1, str(value))


def test_what_has_gone_since_it_was_listed_is_left_out(world: World, client: Client) -> None:
    world.vhost.delete_queue(world.vhost.queue("one"))

    assert shown(world, "queue", "one") is None
