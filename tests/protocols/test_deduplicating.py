"""Messages that are published twice, to queues and exchanges that remember the first time."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pamqp import commands

from tests.protocols.conversation import Client, World, content

DEDUPLICATES = {"x-message-deduplication": True}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def client(world: World) -> Client:
    return world.client().open()


def keyed(key: Any, **headers: Any) -> commands.Basic.Properties:
    return commands.Basic.Properties(headers={"x-deduplication-header": key, **headers})


def declare_exchange(client: Client, name: str, kind: str = "fanout", **arguments: Any) -> Any:
    named = {key.replace("_", "-"): value for key, value in arguments.items()}
    return client.ask(commands.Exchange.Declare(exchange=name, exchange_type=kind, arguments=DEDUPLICATES | named))


# queues ---------------------------------------------------------------------------------------------------------------


def test_a_queue_takes_a_message_once(world: World, client: Client) -> None:
    client.declare("q", arguments=DEDUPLICATES)
    for body in (b"first", b"again", b"and again"):
        client.publish("", "q", body, properties=keyed("a"))
    client.publish("", "q", b"another", properties=keyed("b"))
    client.publish("", "q", b"without a key")
    client.publish("", "q", b"without a key")

    assert client.drain("q") == [b"first", b"another", b"without a key", b"without a key"]
    memory = world.vhost.queue("q").deduplication
    assert memory is not None
    assert memory.deduplicated_count == 2


def test_it_remembers_what_was_consumed(client: Client) -> None:
    client.declare("q", arguments=DEDUPLICATES)
    client.consume("q")
    client.publish("", "q", b"first", properties=keyed("a"))
    client.publish("", "q", b"again", properties=keyed("a"))

    assert client.bodies() == [b"first"]


def test_other_queues_are_not_concerned(client: Client) -> None:
    client.declare("once", arguments=DEDUPLICATES)
    client.declare("always")
    for queue in ("once", "always"):
        client.bind("amq.fanout", queue)
    client.publish("amq.fanout", "", b"first", properties=keyed("a"))
    client.publish("amq.fanout", "", b"again", properties=keyed("a"))

    assert client.drain("once") == [b"first"]
    assert client.drain("always") == [b"first", b"again"]


def test_a_duplicate_is_confirmed_as_taken(client: Client) -> None:
    client.declare("q", durable=True, arguments=DEDUPLICATES)
    client.ask(commands.Confirm.Select())
    for number in (1, 2):
        client.publish("", "q", b"a", mandatory=True, properties=keyed("a"))

        (confirm,) = client.replies()
        assert isinstance(confirm, commands.Basic.Ack)
        assert confirm.delivery_tag == number


def test_a_duplicate_of_a_persistent_message_is_confirmed_no_earlier_than_what_is_on_disk(world: World) -> None:
    one, other = world.client().open(), world.client().open()
    one.declare("q", durable=True, arguments=DEDUPLICATES)
    declare_exchange(one, "x")
    one.bind("x", "q")
    other.ask(commands.Confirm.Select())
    world.syncs_by_itself = False
    properties = commands.Basic.Properties(delivery_mode=2, headers={"x-deduplication-header": "a"})
    one.publish("x", "", b"first", properties=properties)
    other.publish("x", "", b"again", properties=properties)
    assert other.replies() == []

    world.sync()

    assert [type(reply) for reply in other.replies()] == [commands.Basic.Ack]


def test_what_a_full_queue_refused_is_not_remembered(client: Client) -> None:
    client.declare("q", arguments=DEDUPLICATES | {"x-max-length": 1, "x-overflow": "reject-publish"})
    client.ask(commands.Confirm.Select())
    client.publish("", "q", b"fills it", properties=keyed("a"))
    client.publish("", "q", b"refused", properties=keyed("b"))
    client.publish("", "q", b"known already", properties=keyed("a"))
    assert [type(reply) for reply in client.replies()] == [
        commands.Basic.Ack,
        commands.Basic.Nack,
        commands.Basic.Ack,
    ]

    client.drain("q")
    client.publish("", "q", b"taken", properties=keyed("b"))
    client.replies()

    assert client.drain("q") == [b"taken"]


def test_time_and_size_of_its_memory_are_arguments(world: World, client: Client) -> None:
    client.declare("q", arguments=DEDUPLICATES | {"x-cache-size": 2, "x-cache-ttl": 1000})
    for key in ("a", "b", "c", "a"):
        client.publish("", "q", key.encode(), properties=keyed(key))
    assert client.drain("q") == [b"a", b"b", b"c", b"a"]

    client.publish("", "q", b"too early", properties=keyed("c"))
    world.advance(1001)
    client.publish("", "q", b"c", properties=keyed("c"))

    assert client.drain("q") == [b"c"]


def test_a_pipeline_of_publishes_is_deduplicated_as_well(client: Client) -> None:
    client.declare("q", arguments=DEDUPLICATES)
    client.send(b"".join(content("", "q", b"%d" % number, properties=keyed(number % 3)) for number in range(30)))

    assert client.drain("q") == [b"0", b"1", b"2"]


def test_large_messages_are_deduplicated_as_well(client: Client) -> None:
    client.declare("q", arguments=DEDUPLICATES)
    for _ in range(2):
        client.publish("", "q", bytes(300_000), properties=keyed("a"))

    assert [len(body) for body in client.drain("q")] == [300_000]


def test_dead_letters_are_deduplicated_by_the_queue_they_come_to(world: World, client: Client) -> None:
    client.declare("graves", arguments=DEDUPLICATES)
    client.declare(
        "q", arguments={"x-message-ttl": 100, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "graves"}
    )
    for body in (b"first", b"again"):
        client.publish("", "q", body, properties=keyed("a"))

    world.advance(200)

    assert client.drain("graves") == [b"first"]


def test_dead_letters_are_deduplicated_by_the_exchange_they_go_to(world: World, client: Client) -> None:
    declare_exchange(client, "dlx")
    client.declare("graves")
    client.bind("dlx", "graves")
    client.declare("q", arguments={"x-message-ttl": 100, "x-dead-letter-exchange": "dlx"})
    for body in (b"first", b"again"):
        client.publish("", "q", body, properties=keyed("a"))

    world.advance(200)

    assert client.drain("graves") == [b"first"]
    assert client.drain("q") == []


def test_two_of_a_kind_in_one_transaction_are_one(client: Client) -> None:
    client.declare("q", arguments=DEDUPLICATES)
    client.ask(commands.Tx.Select())
    for body in (b"first", b"again"):
        client.publish("", "q", body, properties=keyed("a"))

    client.ask(commands.Tx.Commit())

    assert client.drain("q") == [b"first"]


def test_what_was_rolled_back_is_not_remembered(client: Client) -> None:
    client.declare("q", arguments=DEDUPLICATES)
    client.ask(commands.Tx.Select())
    client.publish("", "q", b"rolled back", properties=keyed("a"))
    client.ask(commands.Tx.Rollback())
    client.publish("", "q", b"committed", properties=keyed("a"))
    client.ask(commands.Tx.Commit())

    assert client.drain("q") == [b"committed"]


def test_a_restart_forgets_and_the_queue_goes_on_deduplicating(tmp_path: Path) -> None:
    world = World(tmp_path)
    client = world.client().open()
    client.declare("q", durable=True, arguments=DEDUPLICATES)
    client.publish("", "q", b"before", properties=keyed("a"))
    client.drain("q")

    client = world.restart().client().open()
    for body in (b"after", b"again"):
        client.publish("", "q", body, properties=keyed("a"))

    assert client.drain("q") == [b"after"]


# exchanges ------------------------------------------------------------------------------------------------------------


def test_an_exchange_routes_a_message_once(world: World, client: Client) -> None:
    declare_exchange(client, "x")
    client.declare("q")
    client.bind("x", "q")
    for body in (b"first", b"again"):
        client.publish("x", "", body, properties=keyed("a"))
    client.send(b"".join(content("x", "", b"%d" % number, properties=keyed(number % 3)) for number in range(30)))

    assert client.drain("q") == [b"first", b"0", b"1", b"2"]
    memory = world.vhost.exchange("x").deduplication
    assert memory is not None
    assert memory.deduplicated_count == 28


def test_what_an_exchange_remembers_is_neither_returned_nor_sent_to_the_alternate(client: Client) -> None:
    client.ask(commands.Exchange.Declare(exchange="lost", exchange_type="fanout"))
    client.declare("found")
    client.bind("lost", "found")
    declare_exchange(client, "x", alternate_exchange="lost")
    client.ask(commands.Confirm.Select())
    for body in (b"first", b"again"):
        client.publish("x", "", body, mandatory=True, properties=keyed("a"))

    assert [type(reply) for reply in client.replies()] == [commands.Basic.Ack] * 2
    assert client.drain("found") == [b"first"]


def test_what_was_returned_may_come_again(client: Client) -> None:
    declare_exchange(client, "x")
    client.publish("x", "", b"returned", mandatory=True, properties=keyed("a"))
    (returned,) = client.replies()
    assert isinstance(returned.method, commands.Basic.Return)

    client.declare("q")
    client.bind("x", "q")
    client.publish("x", "", b"taken", mandatory=True, properties=keyed("a"))

    assert client.drain("q") == [b"taken"]


def test_what_a_queue_refused_may_come_again_through_the_exchange(client: Client) -> None:
    declare_exchange(client, "x")
    client.declare("q", arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    client.bind("x", "q")
    client.publish("x", "", b"fills it")
    client.publish("x", "", b"refused", properties=keyed("a"))
    client.drain("q")

    client.publish("x", "", b"taken", properties=keyed("a"))

    assert client.drain("q") == [b"taken"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-message-deduplication", "yes"),
        ("x-cache-size", "many"),
        ("x-cache-size", 2**20 + 1),
        ("x-cache-ttl", -1),
        ("x-deduplication-header", 5),
    ],
)
def test_arguments_of_the_wrong_kind_are_refused_by_name(client: Client, name: str, value: Any) -> None:
    arguments = DEDUPLICATES | {name: value}

    def refusals() -> Iterator[Any]:
        client.say(commands.Exchange.Declare(exchange="x", exchange_type="direct", arguments=arguments))
        yield from client.replies()
        client.open(2)
        client.say(commands.Queue.Declare(queue="q", arguments=arguments), 2)
        yield from client.replies()

    for refused, kind in zip(refusals(), ("exchange 'x'", "queue 'q'"), strict=True):
        assert refused.reply_code == 406
        assert f"invalid arg '{name}' for {kind} in vhost '/'" in refused.reply_text
