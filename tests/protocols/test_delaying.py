"""Messages that wait at an exchange until their delay is over, on virtual time."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pamqp import commands

from ipc.limits import DELAY_MS_MAX, KIB, RELEASED_PER_TURN_MAX
from ipc.messages.commands import Level
from ipc.messages.rules import Policy, Rules
from ipc.settings import CompactionSettings, ConnectionSettings, StoreSettings
from ipc.wire.amqp import amending, properties
from shards.compaction.cascade import cascade
from shards.compaction.compactable import SEGMENT_PAGES, Freed, ShrinkPolicy
from shards.model.turn import APPOINTMENT_MS
from shards.model.vhost import VHost
from shards.model.waiting_room import WaitingRoom
from tests.protocols.conversation import Client, Content, World, content
from tests.simulation.simulated_files import SimulatedFiles, Stopped

SETTINGS = CompactionSettings()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def client(world: World) -> Client:
    client = world.client().open()
    declare_exchange(client, "later")
    client.declare("q")
    client.bind("later", "q", "k")
    return client


def declare_exchange(
    client: Client, name: str, kind: str = "direct", *, durable: bool = False, delayed: bool = True, **arguments: Any
) -> None:
    named = {key.replace("_", "-"): value for key, value in arguments.items()}
    if delayed:
        kind, named = "x-delayed-message", {"x-delayed-type": kind} | named
    reply = client.ask(commands.Exchange.Declare(exchange=name, exchange_type=kind, durable=durable, arguments=named))
    assert isinstance(reply, commands.Exchange.DeclareOk), reply.reply_text


def delayed(milliseconds: Any, *, persistent: bool = False, **headers: Any) -> commands.Basic.Properties:
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return commands.Basic.Properties(
        headers={"x-delay": milliseconds, **named}, delivery_mode=2 if persistent else None
    )


def headers(message: Content | None) -> dict[str, Any]:
    assert message is not None
    return properties.headers(message.header, properties.inspect(message.header))


def waiting(world: World, exchange: str = "later") -> int:
    return world.vhost.exchange(exchange).delayed_count


def room(vhost: VHost, exchange: str = "later") -> WaitingRoom:
    found = vhost.exchange(exchange).waiting_room
    assert found is not None
    return found


# waiting --------------------------------------------------------------------------------------------------------------


def test_a_message_waits_for_as_long_as_it_asks(world: World, client: Client) -> None:
    client.consume("q")
    client.publish("later", "k", b"dig", properties=delayed(1000))
    world.advance(999)
    assert client.bodies() == []
    assert waiting(world) == 1

    world.advance(1 + APPOINTMENT_MS)

    assert client.bodies() == [b"dig"]
    assert waiting(world) == 0


def test_it_is_looked_at_within_ten_milliseconds_and_never_early(world: World, client: Client) -> None:
    client.consume("q")
    for delay in (1, 13, 27, 28, 105):
        client.publish("later", "k", b"%d" % delay, properties=delayed(delay))

    came = {}
    for passed in range(1, 120):
        world.advance(1)
        came.update({int(body): passed for body in client.bodies()})

    assert list(came) == [1, 13, 27, 28, 105]
    assert all(delay <= passed < delay + APPOINTMENT_MS for delay, passed in came.items())


def test_messages_come_in_the_order_of_their_due_times_and_as_published_where_these_are_equal(
    world: World, client: Client
) -> None:
    for body, delay in ((b"c", 300), (b"a", 100), (b"d", 300), (b"b", 200)):
        client.publish("later", "k", body, properties=delayed(delay))

    world.advance(400)

    assert client.drain("q") == [b"a", b"b", b"c", b"d"]


@pytest.mark.parametrize(
    "delay", [None, 0, -1, DELAY_MS_MAX + 1, "soon", "-100", "", "1.5", 2.5, True, [5], "9" * 30], ids=repr
)
def test_what_is_no_delay_goes_on_at_once(world: World, client: Client, delay: Any) -> None:
    client.publish("later", "k", b"now", properties=delayed(delay))
    client.publish("later", "k", b"no headers")

    assert client.drain("q") == [b"now", b"no headers"]


@pytest.mark.parametrize("delay", [100, 300, 70_000, 2**31, DELAY_MS_MAX, "100", "+100"], ids=repr)
def test_a_delay_is_an_integer_of_any_size_or_text(world: World, client: Client, delay: Any) -> None:
    client.publish("later", "k", b"dig", properties=delayed(delay))
    world.advance(int(delay) - 1)
    assert client.drain("q") == []

    world.advance(1 + APPOINTMENT_MS)

    message = client.get("q")
    assert headers(message) == {"x-delay": str(-int(delay)) if isinstance(delay, str) else -delay}


def test_everything_else_in_a_message_stays_as_it_was(world: World, client: Client) -> None:
    sent = commands.Basic.Properties(
        content_type="text/plain",
        headers={"x-delay": 100, "long": 2**40, "list": [1, None]},
        priority=3,
        message_id="7",
    )
    client.publish("later", "k", b"dig", properties=sent)

    world.advance(200)

    message = client.get("q")
    assert message is not None
    parts, as_sent = amending.take_apart(message.header), amending.take_apart(b"\0" * 12 + sent.marshal())
    assert parts.keys() == as_sent.keys()
    assert {flag for flag in parts if parts[flag] != as_sent[flag]} == {amending.HEADERS}
    assert headers(message) == {"x-delay": -100, "long": 2**40, "list": [1, None]}
    assert (message.method.exchange, message.method.routing_key) == ("later", "k")


def test_a_message_that_has_waited_does_not_wait_again(world: World, client: Client) -> None:
    declare_exchange(client, "again", "fanout")
    client.ask(commands.Exchange.Bind(source="later", destination="again", routing_key="k"))
    client.declare("behind")
    client.bind("again", "behind")
    client.publish("later", "k", b"dig", properties=delayed(100))

    world.advance(200)

    assert client.drain("behind") == client.drain("q") == [b"dig"]


def test_an_exchange_behind_another_delays_too(world: World, client: Client) -> None:
    client.declare("at once")
    client.bind("amq.fanout", "at once")
    client.ask(commands.Exchange.Bind(source="amq.fanout", destination="later"))
    client.publish("amq.fanout", "k", b"dig", properties=delayed(100))
    assert client.drain("at once") == [b"dig"]
    assert client.drain("q") == []

    world.advance(200)

    assert client.drain("q") == [b"dig"]
    assert client.drain("at once") == []


def test_ttl_begins_when_the_wait_is_over(world: World, client: Client) -> None:
    client.declare("short", arguments={"x-message-ttl": 1000})
    client.bind("later", "short", "own")
    client.bind("later", "q", "own")
    sent = delayed(5000)
    sent.expiration = "500"
    client.publish("later", "own", b"dig", properties=sent)

    world.advance(5020)
    assert waiting(world) == 0
    world.advance(400)
    assert client.declare("short", passive=True).message_count == 1
    world.advance(200)

    assert client.drain("q") == client.drain("short") == []


def test_a_message_keeps_its_priority(world: World, client: Client) -> None:
    client.declare("ranked", arguments={"x-max-priority": 5})
    client.bind("later", "ranked", "k")
    for body, priority in ((b"low", 1), (b"high", 4)):
        sent = delayed(100)
        sent.priority = priority
        client.publish("later", "k", body, properties=sent)

    world.advance(200)

    assert client.drain("ranked") == [b"high", b"low"]


def test_a_pipeline_of_publishes_waits(world: World, client: Client) -> None:
    count = RELEASED_PER_TURN_MAX * 2 + 10
    client.send(b"".join(content("later", "k", b"%d" % number, properties=delayed(50)) for number in range(count)))
    assert waiting(world) == count

    world.advance(60)

    assert client.drain("q") == [b"%d" % number for number in range(count)]


def test_a_turn_releases_a_bounded_number(world: World, client: Client) -> None:
    count = RELEASED_PER_TURN_MAX + 10
    client.send(b"".join(content("later", "k", b"x", properties=delayed(50)) for _ in range(count)))

    world.turn.finish(world.now + 60)

    assert waiting(world) == 10
    assert world.turn.has_work


def test_large_messages_wait(world: World, client: Client) -> None:
    bodies = [bytes((number,)) * 300_000 for number in range(3)]
    for body in bodies:
        client.publish("later", "k", body, properties=delayed(50))

    world.advance(60)

    assert client.drain("q") == bodies


# where it goes --------------------------------------------------------------------------------------------------------


def test_the_bindings_of_the_moment_of_release_count(world: World, client: Client) -> None:
    client.publish("later", "k", b"dig", properties=delayed(100))
    client.declare("new")
    client.bind("later", "new", "k")
    client.ask(commands.Queue.Unbind(queue="q", exchange="later", routing_key="k"))

    world.advance(200)

    assert client.drain("new") == [b"dig"]
    assert client.drain("q") == []


@pytest.mark.parametrize(
    ("kind", "key"), [("topic", "a.*"), ("fanout", ""), ("headers", ""), ("x-consistent-hash", "1")]
)
def test_it_finds_destinations_as_the_other_type_does(world: World, client: Client, kind: str, key: str) -> None:
    declare_exchange(client, "typed", kind)
    client.declare("typed")
    client.bind("typed", "typed", key, {"x-match": "all", "kind": "digging"} if kind == "headers" else {})
    client.publish("typed", "a.b", b"dig", properties=delayed(100, kind="digging"))
    client.publish("typed", "a.b", b"now", properties=commands.Basic.Properties(headers={"kind": "digging"}))
    assert client.drain("typed") == [b"now"]

    world.advance(200)

    assert client.drain("typed") == [b"dig"]


def test_copies_wait_too_and_hidden_ones_stay_hidden(world: World, client: Client) -> None:
    for queue in ("copy", "blind"):
        client.declare(queue)
        client.bind("later", queue, queue)
    client.publish("later", "k", b"dig", properties=delayed(100, CC=["copy"], BCC=["blind"]))
    assert client.drain("copy") == client.drain("blind") == []

    world.advance(200)

    for queue in ("q", "copy", "blind"):
        assert headers(client.get(queue)) == {"x-delay": -100, "CC": ["copy"]}


def test_the_brokers_time_of_arrival_waits_too(tmp_path: Path) -> None:
    world = World(tmp_path, settings=ConnectionSettings(set_timestamps=True))
    client = world.client().open()
    declare_exchange(client, "later")
    client.declare("q")
    client.bind("later", "q", "blind")
    client.publish("later", "k", b"dig", properties=delayed(5000, BCC=["blind"]))
    arrival = world.now

    world.advance(6000)

    message = client.get("q")
    assert message is not None
    assert properties.identities(message.header) == {"timestamp": (arrival // 1000).to_bytes(8, "big")}
    assert headers(message) == {"x-delay": -5000}


def test_what_matches_nothing_then_goes_to_the_alternate_exchange(world: World, client: Client) -> None:
    client.declare("found")
    client.bind("amq.fanout", "found")
    declare_exchange(client, "strict", alternate_exchange="amq.fanout")
    client.publish("strict", "nobody", b"dig", properties=delayed(100))
    assert client.drain("found") == []

    world.advance(200)

    assert client.drain("found") == [b"dig"]


def test_a_full_queue_refuses_what_has_waited(world: World, client: Client) -> None:
    client.declare("dead")
    arguments = {
        "x-max-length": 1,
        "x-overflow": "reject-publish-dlx",
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "dead",
    }
    client.declare("small", arguments=arguments)
    client.bind("later", "small", "k")
    for body in (b"first", b"second"):
        client.publish("later", "k", body, properties=delayed(100))

    world.advance(200)

    assert (client.drain("small"), client.drain("dead")) == ([b"first"], [b"second"])


def test_a_deduplicating_queue_remembers_what_has_waited(world: World, client: Client) -> None:
    client.declare("once", arguments={"x-message-deduplication": True})
    client.bind("later", "once", "k")
    for body in (b"first", b"again"):
        client.publish("later", "k", body, properties=delayed(100, x_deduplication_header="a"))

    world.advance(200)

    assert client.drain("once") == [b"first"]
    assert client.drain("q") == [b"first", b"again"]


def test_a_deduplicating_exchange_lets_a_message_wait_once(world: World, client: Client) -> None:
    declare_exchange(client, "once", "fanout", x_message_deduplication=True)
    client.bind("once", "q")
    for body in (b"first", b"again"):
        client.publish("once", "", body, properties=delayed(100, x_deduplication_header="a"))
    assert waiting(world, "once") == 1

    world.advance(200)

    assert client.drain("q") == [b"first"]


def test_dead_letters_may_have_to_wait(world: World, client: Client) -> None:
    client.declare("jobs", arguments={"x-dead-letter-exchange": "later", "x-dead-letter-routing-key": "k"})
    client.publish("", "jobs", b"dig", properties=delayed(1000))
    message = client.get("jobs", acks=True)
    assert message is not None
    client.nack(message.method.delivery_tag, requeue=False)
    assert waiting(world) == 1

    world.advance(1100)

    assert headers(client.get("q"))["x-death"][0]["queue"] == "jobs"


# publishers -----------------------------------------------------------------------------------------------------------


def test_a_mandatory_message_that_waits_is_never_returned(world: World, client: Client) -> None:
    client.publish("later", "nobody", b"dig", mandatory=True, properties=delayed(100))
    client.publish("later", "nobody", b"dig", immediate=True, properties=delayed(100))
    world.advance(200)
    assert client.replies() == []

    client.publish("later", "nobody", b"now", mandatory=True)

    assert [type(reply.method) for reply in client.replies()] == [commands.Basic.Return]


def test_a_transient_message_is_confirmed_at_once_and_a_persistent_one_when_it_is_on_disk(world: World) -> None:
    client = world.client().open()
    declare_exchange(client, "later", durable=True)
    client.ask(commands.Confirm.Select())
    world.syncs_by_itself = False
    client.publish("later", "k", b"transient", properties=delayed(1000))
    assert [type(reply) for reply in client.replies()] == [commands.Basic.Ack]

    client.publish("later", "k", b"persistent", properties=delayed(1000, persistent=True))
    assert client.replies() == []
    world.sync()

    assert [type(reply) for reply in client.replies()] == [commands.Basic.Ack]


def test_a_transaction_lets_messages_wait_once_it_is_committed(world: World, client: Client) -> None:
    client.ask(commands.Tx.Select())
    client.publish("later", "k", b"dig", properties=delayed(100, BCC=["k"]))
    world.advance(500)
    assert waiting(world) == 0
    client.ask(commands.Tx.Commit())
    assert waiting(world) == 1

    world.advance(200)

    assert client.drain("q") == [b"dig"]


# declaring ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments", [{}, {"x-delayed-type": "x-delayed-message"}, {"x-delayed-type": "carrier pigeon"}]
)
def test_the_other_type_must_be_named_and_must_be_one(client: Client, arguments: dict[str, Any]) -> None:
    client.say(commands.Exchange.Declare(exchange="x", exchange_type="x-delayed-message", arguments=arguments))

    (refused,) = client.replies()
    assert refused.reply_code == 406
    assert "x-delayed-type" in refused.reply_text


def test_what_the_other_type_cannot_follow_is_refused(client: Client) -> None:
    arguments: Any = {"x-delayed-type": "x-consistent-hash", "x-algorithm": "dice"}
    client.say(commands.Exchange.Declare(exchange="x", exchange_type="x-delayed-message", arguments=arguments))
    assert client.refusal() == ("channel", 406)

    client.open(2)
    client.ask(
        commands.Exchange.Declare(
            exchange="x", exchange_type="x-delayed-message", arguments={"x-delayed-type": "x-consistent-hash"}
        ),
        2,
    )
    client.say(commands.Queue.Bind(queue="q", exchange="x", routing_key="no weight"), 2)
    assert client.refusal() == ("channel", 406)


def test_an_exchange_of_any_type_delays_if_its_arguments_say_so(world: World, client: Client) -> None:
    declare_exchange(client, "x", "fanout", delayed=False, x_delayed_exchange=True)
    client.bind("x", "q")
    client.publish("x", "", b"dig", properties=delayed(100))
    assert client.drain("q") == []

    world.advance(200)

    assert client.drain("q") == [b"dig"]


def test_that_argument_must_be_a_boolean(client: Client) -> None:
    client.say(
        commands.Exchange.Declare(exchange="x", exchange_type="fanout", arguments={"x-delayed-exchange": "true"})
    )

    assert client.refusal() == ("channel", 406)


def test_a_policy_lets_exchanges_delay_from_now_on(world: World, client: Client) -> None:
    client.bind("amq.topic", "q", "k")
    for body in (b"known route", b"by then"):
        client.publish("amq.topic", "k", body, properties=delayed(100))
    assert client.drain("q") == [b"known route", b"by then"]

    rule(world, Policy("p", "^amq.topic$", {"delayed-message": True}, "exchanges"))
    client.publish("amq.topic", "k", b"waits", properties=delayed(100))
    assert client.drain("q") == []
    rule(world)
    client.publish("amq.topic", "k", b"does not", properties=delayed(100))
    assert client.drain("q") == [b"does not"]

    world.advance(200)

    assert client.drain("q") == [b"waits"]


def rule(world: World, *policies: Policy) -> None:
    assert not any(world.vhost.change_rules(Rules(policies), world.now))


# ends -----------------------------------------------------------------------------------------------------------------


def test_what_waits_goes_with_its_exchange(world: World, client: Client) -> None:
    declare_exchange(client, "x", durable=True)
    client.publish("x", "k", b"dig", properties=delayed(100, persistent=True))
    assert [path.name for path in delayed_directories(world)] != []

    client.ask(commands.Exchange.Delete(exchange="x"))
    declare_exchange(client, "x", durable=True)
    client.bind("x", "q", "k")
    world.advance(1000)

    assert client.drain("q") == []
    assert waiting(world, "x") == 0
    assert delayed_directories(world) == []
    assert world.turn.agenda.next_due == 0


def delayed_directories(world: World) -> list[Path]:
    place = world._directory / "default" / "delayed"
    return sorted(place.iterdir()) if place.exists() else []


def test_a_purge_drops_what_waits(world: World, client: Client) -> None:
    for delay in (100, 5000, 200):
        client.publish("later", "k", b"dig", properties=delayed(delay))

    assert room(world.vhost).purge() == 3
    world.advance(10_000)

    assert waiting(world) == 0
    assert client.drain("q") == []


def test_a_vhost_that_is_closed_keeps_what_waits_and_leaves_nothing_due(tmp_path: Path) -> None:
    world = World(tmp_path)
    other = world.open("other")
    client = world.client(vhost=other).open()
    declare_exchange(client, "later", durable=True)
    client.publish("later", "k", b"dig", properties=delayed(100, persistent=True))
    client.disconnect()
    world.sync()

    assert world.vhosts.close("other") == []
    world.advance(1000)

    assert world.turn.agenda.next_due == 0
    assert world.open("other").exchange("later").delayed_count == 1


# what lasts -----------------------------------------------------------------------------------------------------------


def durable_world(directory: Path, files: SimulatedFiles | None = None) -> tuple[World, Client]:
    world = World(directory, files=files)
    client = world.client().open()
    declare_exchange(client, "later", durable=True)
    client.declare("q", durable=True)
    client.bind("later", "q", "k")
    return world, client


def test_messages_wait_through_a_restart(tmp_path: Path) -> None:
    world, client = durable_world(tmp_path)
    for body, delay in ((b"b", 20_000), (b"a", 10_000), (b"c", 20_000)):
        client.publish("later", "k", body, properties=delayed(delay, persistent=True, BCC=["k"]))
    world.advance(15_000)

    later = world.restart()
    assert waiting(later) == 2
    later.advance(21_000)
    client = later.client().open()

    assert client.drain("q") == [b"a", b"b", b"c"]
    assert waiting(later) == 0
    assert waiting(later.restart()) == 0


def test_what_became_due_while_the_broker_was_down_is_released_by_its_start(tmp_path: Path) -> None:
    world, client = durable_world(tmp_path)
    client.publish("later", "k", b"dig", properties=delayed(500, persistent=True))
    world.close()

    later = World(tmp_path)
    later.advance(60_000)

    assert later.client().open().drain("q") == [b"dig"]


def test_messages_of_a_policy_wait_through_a_restart_at_an_exchange_every_vhost_has(tmp_path: Path) -> None:
    world, client = durable_world(tmp_path)
    client.bind("amq.topic", "q", "k")
    rule(world, Policy("p", "^amq.topic$", {"delayed-message": True}, "exchanges"))
    client.publish("amq.topic", "k", b"dig", properties=delayed(500, persistent=True))

    later = world.restart()
    assert waiting(later, "amq.topic") == 1
    later.advance(60_000)

    assert later.client().open().drain("q") == [b"dig"]


def test_at_a_transient_exchange_nothing_lasts(tmp_path: Path) -> None:
    world = World(tmp_path)
    client = world.client().open()
    declare_exchange(client, "later")
    client.publish("later", "k", b"dig", properties=delayed(500, persistent=True))

    later = world.restart()

    assert later.vhost.find_exchange("later") is None
    assert delayed_directories(later) == []
    assert list((tmp_path / "default" / "transient").iterdir()) == []


def test_a_directory_of_an_exchange_that_is_unknown_is_removed(tmp_path: Path) -> None:
    world, _client = durable_world(tmp_path)
    world.close()
    lost = tmp_path / "default" / "delayed" / "77"
    lost.mkdir(parents=True)

    World(tmp_path)

    assert not lost.exists()


@pytest.mark.parametrize("passed", [0, 995, 2000], ids=["waiting", "some released", "all released"])
def test_what_was_confirmed_survives_a_power_failure(tmp_path: Path, passed: int) -> None:
    for seed in range(30):
        files = SimulatedFiles(seed)
        world, client = durable_world(tmp_path / str(seed), files)
        client.ask(commands.Confirm.Select())
        for number in range(10):
            client.publish("later", "k", b"%d" % number, properties=delayed(1000 - number, persistent=True))
        world.syncs_by_itself = False
        client.publish("later", "k", b"unconfirmed", properties=delayed(500, persistent=True))
        world.advance(passed)

        after = World(tmp_path / str(seed), files=files.power_failure())
        after.advance(5000)

        assert {b"%d" % number for number in range(10)} <= set(after.client().open().drain("q"))


def test_a_process_that_ends_at_any_moment_of_a_release_loses_nothing(tmp_path: Path) -> None:
    """Before its n-th change of a file, for every n: copies may come twice, but nothing goes before it was copied."""
    bodies = [b"%d" % number for number in range(5)]
    for calls in range(100):
        files = SimulatedFiles(calls)
        world, client = durable_world(tmp_path / str(calls), files)
        for body in bodies:
            client.publish("later", "k", body, properties=delayed(100, persistent=True))
        files.stop(calls)
        has_ended = False
        with suppress(Stopped):
            world.advance(200)
            has_ended = True

        again = World(tmp_path / str(calls), files=files.restart())
        again.advance(10_000)

        found = again.client().open().drain("q")
        assert set(found) == set(bodies)
        assert len(found) == 5 or not has_ended
        if has_ended:
            return
    raise AssertionError("the release never came to its end")


def test_a_full_disk_keeps_everything_and_nothing_is_confirmed(tmp_path: Path) -> None:
    files = SimulatedFiles(1)
    world, client = durable_world(tmp_path, files)
    client.publish("later", "k", b"waits", properties=delayed(100, persistent=True))
    client.ask(commands.Confirm.Select())
    files.refuse_everything()
    client.publish("later", "k", b"refused", properties=delayed(100, persistent=True))
    assert client.replies() == []
    assert world.turn.is_storage_blocked

    world.advance(5000)
    assert waiting(world) == 2
    files.accept_everything()
    world.retry_storage()
    world.advance(1000)

    assert [type(reply) for reply in client.replies()] == [commands.Basic.Ack]
    assert client.drain("q") == [b"waits", b"refused"]
    assert waiting(world) == 0


# memory ---------------------------------------------------------------------------------------------------------------


def test_pages_of_what_waits_are_given_back_and_it_comes_all_the_same(tmp_path: Path) -> None:
    world = World(tmp_path, store=StoreSettings(segment_bytes_max=64 * KIB))
    client = world.client().open()
    declare_exchange(client, "later", durable=True)
    client.declare("q")
    client.bind("later", "q", "k")
    bodies = [b"%d" % number + bytes(5000) for number in range(60)]
    for number, body in enumerate(bodies):
        client.publish("later", "k", body, properties=delayed(50_000 + number, persistent=True))

    world.advance(20_000)

    steps = [step for _label, step in cascade(room(world.vhost), Level.RELEASE, ShrinkPolicy.at(SETTINGS, world.now))]

    assert sum(step.size_bytes for step in steps if isinstance(step, Freed) and step.kind == SEGMENT_PAGES) > 200_000
    world.advance(40_000)
    assert client.drain("q") == bodies


def test_an_exchange_without_messages_that_wait_owns_nothing_on_disk(world: World, client: Client) -> None:
    client.publish("later", "k", b"now")

    assert world.vhost.exchange("later").waiting_room is None
    assert delayed_directories(world) == []
