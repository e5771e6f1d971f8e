"""What is shown of a queue is true, and what is not known is not shown."""

import pytest

from ipc.messages.inventory import Described, ListUnacknowledged
from ipc.messages.rules import Policy, Rules
from shards.inventory.column import Gone
from shards.inventory.unacknowledged import list_unacknowledged
from tests.inventory.asking import shown
from tests.protocols.conversation import World


def consumed(world: World) -> None:
    """Three messages of ten bytes in `q`, of which two are with a consumer."""
    client = world.client().open()
    client.declare("q", durable=True)
    for _ in range(3):
        client.publish("", "q", b"x" * 10, persistent=True)
    client.prefetch(2)
    client.consume("q", acks=True, tag="mine")


def test_the_bytes_of_what_is_handed_out_are_known_only_where_one_queue_is_looked_at(world: World) -> None:
    consumed(world)

    listed, alone = shown(world, "queue", "q"), shown(world, "queue", "q", in_detail=True)

    assert listed is not None and alone is not None
    assert listed["messages_unacknowledged"] == 2
    assert "message_bytes_unacknowledged" not in listed
    assert (alone["message_bytes_unacknowledged"], alone["message_bytes_ready"], alone["message_bytes"]) == (20, 10, 30)
    assert alone["unacked_avg_bytes"] == 10


def test_an_empty_queue_has_no_bytes_and_nothing_persistent(world: World) -> None:
    world.client().open().declare("q", durable=True)

    listed = shown(world, "queue", "q")

    assert listed is not None
    assert listed["message_bytes"] == listed["message_bytes_unacknowledged"] == listed["messages_persistent"] == 0


def test_a_queue_is_idle_when_nothing_has_happened_to_it_for_a_while(world: World) -> None:
    client = world.client().open()
    client.declare("q")
    world.advance(60_000)
    quiet = shown(world, "queue", "q")
    client.publish("", "q", b"wakes it")
    busy = shown(world, "queue", "q")

    assert quiet is not None and busy is not None
    assert quiet["idle_since"] == "1970-01-01T00:16:40.000+00:00"
    assert "idle_since" not in busy


def test_consumers_are_shown_with_the_queue_they_take_from(world: World) -> None:
    consumed(world)

    alone = shown(world, "queue", "q", in_detail=True)

    assert alone is not None
    assert [consumer["consumer_tag"] for consumer in alone["consumer_details"]] == ["mine"]
    assert alone["consumer_details"][0]["prefetch_count"] == 2
    assert alone["memory"] > 0


def test_policies_are_those_that_hold_for_the_queue(world: World) -> None:
    client = world.client().open()
    client.declare("q", arguments={"x-max-length": 5, "x-message-ttl": 1000, "x-mine": 1})
    list(
        world.vhost.change_rules(Rules(policies=(Policy("p", "^q", {"max-length": 9, "message-ttl": 10}),)), world.now)
    )

    alone = shown(world, "queue", "q", in_detail=True)

    assert alone is not None
    assert (alone["policy"], alone["operator_policy"]) == ("p", None)
    assert alone["effective_policy_definition"] == {"max-length": 9, "message-ttl": 10}
    assert alone["effective_arguments"] == ["x-max-length"]
    assert alone["effective_policy_arguments"] == ["message-ttl"]


def test_policies_hold_for_queues_that_come_later(world: World) -> None:
    list(world.vhost.change_rules(Rules(policies=(Policy("p", "^q", {"max-length": 9}),)), world.now))
    world.client().open().declare("q")

    listed = shown(world, "queue", "q")

    assert listed is not None
    assert listed["policy"] == "p"


def test_what_is_handed_out_is_listed_with_its_consumer_and_its_age(world: World) -> None:
    consumed(world)
    world.advance(7_000)

    listed = [
        item.document
        for item in list_unacknowledged(world.vhosts, ListUnacknowledged("/", "q"))
        if isinstance(item, Described)
    ]

    assert [(one["delivery_tag"], one["consumer_tag"], one["unacked_for_seconds"]) for one in listed] == [
        (1, "mine", 7),
        (2, "mine", 7),
    ]


def test_of_a_queue_that_is_not_there_nothing_is_listed(world: World) -> None:
    with pytest.raises(Gone):
        list(list_unacknowledged(world.vhosts, ListUnacknowledged("/", "none")))
