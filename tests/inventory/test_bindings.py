"""Bindings are found by their ends without looking at all of them, and by their properties key."""

from tests.inventory.asking import ranked, shown
from tests.protocols.conversation import World


def bound(world: World) -> None:
    client = world.client().open()
    client.declare("q")
    client.declare("other")
    vhost = world.vhost
    for source, destination, key, arguments in (
        ("amq.topic", "q", "a b", {}),
        ("amq.topic", "q", "a b", {"n": 1}),
        ("amq.direct", "q", "k", {}),
        ("amq.topic", "other", "k", {}),
    ):
        vhost.bind(vhost.exchange(source), vhost.queue(destination), key, arguments)
    vhost.bind(vhost.exchange("amq.topic"), vhost.exchange("amq.fanout"), "", {})


def found(world: World, **where: str) -> set[tuple[str, str, str]]:
    counted, places = ranked(world, "binding", where=tuple(where.items()))
    assert counted.total == counted.found == len(places)
    return {(source, destination, key.partition("~")[0]) for source, _kind, destination, key in places}


def test_bindings_of_a_queue_are_those_that_lead_to_it_and_the_default_one(world: World) -> None:
    bound(world)

    ends = found(world, destination="q", destination_type="queue")

    assert ends == {("", "q", "q"), ("amq.topic", "q", "a+b"), ("amq.direct", "q", "k")}


def test_bindings_between_two_ends_are_only_those(world: World) -> None:
    bound(world)

    assert found(world, source="amq.topic", destination="other", destination_type="queue") == {
        ("amq.topic", "other", "k")
    }
    assert found(world, source="amq.topic", destination="amq.fanout", destination_type="exchange") == {
        ("amq.topic", "amq.fanout", "")
    }


def test_bindings_of_a_source_are_all_that_lead_from_it(world: World) -> None:
    bound(world)

    assert {destination for _source, destination, _key in found(world, source="amq.topic")} == {
        "q",
        "other",
        "amq.fanout",
    }
    assert found(world, source="") == {("", "q", "q"), ("", "other", "other")}
    assert found(world, source="none") == set()


def test_a_binding_without_arguments_is_found_by_its_key_quoted_or_not(world: World) -> None:
    bound(world)

    for key in ("a+b", "a b"):
        one = shown(world, "binding", "amq.topic", "q", "q", key)
        assert one is not None
        assert one["arguments"] == {}
    assert shown(world, "binding", "amq.topic", "q", "q", "a") is None
    assert shown(world, "binding", "amq.topic", "e", "amq.fanout", "~") is not None
