"""Messages that leave a queue unconsumed and are published again, with their history."""

from pathlib import Path
from typing import Any, Final

import pytest
from pamqp import commands

from ipc.limits import KIB, WRITE_BACK_MS
from ipc.settings import Durability, StoreSettings
from ipc.wire.amqp import properties
from tests.protocols.conversation import Client, Content, World
from tests.simulation.simulated_files import SimulatedFiles
from tests.simulation.small_limits import LARGE_BYTES, small_limits


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def client(world: World) -> Client:
    client = world.client().open()
    client.declare("dead")
    return client


def headers(message: Content | None) -> dict[str, Any]:
    assert message is not None
    return properties.headers(message.header, properties.inspect(message.header))


def deaths(message: Content | None) -> list[dict[str, Any]]:
    return list(headers(message)["x-death"])


def to_dead(**more: Any) -> dict[str, Any]:
    return {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"} | more


def test_an_expired_message_goes_to_the_dead_letter_exchange(world: World, client: Client) -> None:
    client.declare("q", arguments=to_dead(**{"x-message-ttl": 100}))
    client.publish("", "q", b"late")

    world.advance(300)

    message = client.get("dead")
    assert message is not None
    assert message.body == b"late"
    (death,) = deaths(message)
    assert death | {"time": None} == {
        "count": 1,
        "reason": "expired",
        "queue": "q",
        "exchange": "",
        "routing-keys": ["q"],
        "time": None,
    }
    assert {name: headers(message)[f"x-first-death-{name}"] for name in ("queue", "reason", "exchange")} == {
        "queue": "q",
        "reason": "expired",
        "exchange": "",
    }
    assert client.drain("q") == []


def test_a_rejected_message_goes_there_and_a_requeued_one_does_not(client: Client) -> None:
    client.declare("q", arguments=to_dead())
    client.publish("", "q", b"a")
    message = client.get("q", acks=True)
    assert message is not None
    client.nack(message.method.delivery_tag, requeue=True)
    assert client.get("dead") is None

    message = client.get("q", acks=True)
    assert message is not None
    client.say(commands.Basic.Reject(delivery_tag=message.method.delivery_tag, requeue=False))

    assert deaths(client.get("dead"))[0]["reason"] == "rejected"
    assert client.drain("q") == []


def test_what_is_too_much_goes_there(client: Client) -> None:
    client.declare("q", arguments=to_dead(**{"x-max-length": 1}))
    client.publish("", "q", b"first")
    client.publish("", "q", b"second")

    message = client.get("dead")
    assert message is not None
    assert message.body == b"first"
    assert deaths(message)[0]["reason"] == "maxlen"


def test_without_a_key_of_its_own_it_keeps_the_one_it_came_with(client: Client) -> None:
    client.say(commands.Exchange.Declare(exchange="graveyard", exchange_type="direct"))
    client.replies()
    client.bind("graveyard", "dead", "q")
    client.declare("q", arguments={"x-dead-letter-exchange": "graveyard"})
    client.publish("", "q", b"a")

    message = client.get("q", acks=True)
    assert message is not None
    client.nack(message.method.delivery_tag, requeue=False)

    message = client.get("dead")
    assert message is not None
    assert (message.method.exchange, message.method.routing_key) == ("graveyard", "q")


def test_an_expiration_has_done_its_work_and_is_remembered(world: World, client: Client) -> None:
    client.declare("q", arguments=to_dead())
    client.publish("", "q", b"a", properties=commands.Basic.Properties(expiration="100", message_id="m"))

    world.advance(300)
    world.advance(10_000)

    message = client.get("dead")
    assert deaths(message)[0]["original-expiration"] == "100"


def test_other_headers_and_properties_stay_as_they_are(client: Client) -> None:
    client.declare("q", arguments=to_dead())
    sent = commands.Basic.Properties(
        headers={"tenant": "blue", "n": 5}, content_type="text/plain", correlation_id="c", delivery_mode=2
    )
    client.publish("", "q", b"a", properties=sent)
    message = client.get("q", acks=True)
    assert message is not None

    client.nack(message.method.delivery_tag, requeue=False)

    message = client.get("dead")
    assert message is not None
    assert headers(message)["tenant"] == "blue"
    assert headers(message)["n"] == 5
    assert b"text/plain" in message.header


def test_dying_again_for_the_same_reason_counts(world: World, client: Client) -> None:
    client.declare("retry", arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "work"})
    client.declare("work", arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "retry"})
    client.publish("", "work", b"job")
    for _ in range(3):
        for queue in ("work", "retry"):
            message = client.get(queue, acks=True)
            assert message is not None, queue
            client.nack(message.method.delivery_tag, requeue=False)

    message = client.get("work")
    assert [(death["queue"], death["count"]) for death in deaths(message)] == [("retry", 3), ("work", 3)]


def test_a_message_that_would_come_back_for_ever_is_dropped(world: World, client: Client) -> None:
    client.declare(
        "q", arguments={"x-message-ttl": 100, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "q"}
    )
    client.publish("", "q", b"a")

    for _ in range(5):
        world.advance(300)

    assert client.drain("q") == []


def test_without_the_exchange_it_is_dropped(world: World, client: Client) -> None:
    client.declare("q", arguments={"x-message-ttl": 100, "x-dead-letter-exchange": "nowhere"})
    client.publish("", "q", b"a")

    world.advance(300)

    assert client.drain("q") == []


def test_the_original_stays_until_its_copy_is_written(tmp_path: Path) -> None:
    """A crash in between leaves both, and never none."""
    world = World(tmp_path)
    client = world.client().open()
    client.declare("dead", durable=True)
    client.declare("q", durable=True, arguments=to_dead())
    client.publish("", "q", b"a", persistent=True)
    message = client.get("q", acks=True)
    assert message is not None
    client.nack(message.method.delivery_tag, requeue=False)

    after = world.crash()
    survivor = after.client().open()

    assert survivor.drain("dead") == [b"a"]
    assert survivor.drain("q") == []


def test_a_message_that_comes_back_too_often_goes_there(client: Client) -> None:
    client.declare("q", arguments=to_dead(**{"x-delivery-limit": 2}))
    client.publish("", "q", b"poison")
    for _ in range(3):
        message = client.get("q", acks=True)
        assert message is not None
        client.nack(message.method.delivery_tag, requeue=True)

    assert client.get("q") is None
    assert deaths(client.get("dead"))[0]["reason"] == "delivery_limit"


def test_what_is_acknowledged_is_not_counted_any_more(world: World, client: Client) -> None:
    client.declare("q", arguments={"x-delivery-limit": 5})
    client.publish("", "q", b"a")
    message = client.get("q", acks=True)
    assert message is not None
    client.nack(message.method.delivery_tag, requeue=True)
    message = client.get("q", acks=True)
    assert message is not None
    client.ack(message.method.delivery_tag)

    assert not world.vhost.queue("q").returned_count


@pytest.mark.parametrize("durability", ["fsync", "os"])
def test_a_copy_is_written_before_its_original_is_settled(tmp_path: Path, durability: Durability) -> None:
    world = World(tmp_path, store=StoreSettings(durability=durability))
    client = world.client().open()
    client.declare("graves", durable=True)
    arguments = to_dead(**{"x-message-ttl": 100, "x-dead-letter-routing-key": "graves"})
    client.declare("q", durable=True, arguments=arguments)
    client.publish("", "q", b"late", persistent=True)

    world.turn.finish(world.now + 200)

    is_held = durability == "fsync"  # until the copy is on disk
    assert world.vhost.queue("q").unacknowledged_count == is_held
    survivor = world.crash()
    assert survivor.vhost.queue("graves").ready_count == 1
    assert survivor.vhost.queue("q").ready_count <= (0 if durability == "fsync" else 1)


DELAY_MS: Final = 10 * WRITE_BACK_MS


# safe on the way ------------------------------------------------------------------------------------------------------


def bury_one(world: World, *, in_a_get: bool = False, body: bytes = b"dead", delay_ms: int = 0) -> None:
    """Of the durable queue `jobs`, which has its dead letters in `graves`; it was confirmed, and is in its segment.

    `delay_ms`: for so long it waits on the way.
    """
    client = world.client().open()
    for name in ("graves", "busy"):
        client.declare(name, durable=True)
    delaying = commands.Exchange.Declare(
        exchange="later", exchange_type="x-delayed-message", durable=True, arguments={"x-delayed-type": "direct"}
    )
    client.ask(delaying)
    client.bind("later", "graves", "graves")
    arguments = to_dead(**{"x-dead-letter-routing-key": "graves", "x-message-ttl": 10 * WRITE_BACK_MS})
    arguments["x-dead-letter-exchange"] = "later" if delay_ms else ""
    client.declare("jobs", durable=True, arguments=arguments)
    asked: dict[str, Any] = {"x-delay": delay_ms} if delay_ms else {}
    client.publish("", "jobs", body, properties=commands.Basic.Properties(delivery_mode=2, headers=asked))
    for _ in range(2):
        world.advance(WRITE_BACK_MS)
    world.sync()
    if in_a_get:  # by which it has expired
        world.syncs_by_itself = False
        world.now = world.turn.now = world.now + 10 * WRITE_BACK_MS
        assert client.get("jobs", acks=True) is None
    else:
        assert client.get("jobs", acks=True) is not None
        world.syncs_by_itself = False
        client.nack(1, requeue=False)


def counts(world: World) -> list[int]:
    return [world.vhost.queue(name).ready_count for name in ("jobs", "graves")]


def test_an_original_is_held_until_its_copy_is_on_disk(tmp_path: Path) -> None:
    world = World(tmp_path)
    bury_one(world)
    jobs = world.vhost.queue("jobs")
    held = jobs.unacknowledged_count

    world.sync()

    assert (held, jobs.unacknowledged_count) == (1, 0)
    assert counts(world) == [0, 1]


@pytest.mark.parametrize("waits", [False, True], ids=["at once", "later"])
@pytest.mark.parametrize("facts", [{}, {"body": b"." * LARGE_BYTES}, {"delay_ms": DELAY_MS}], ids=["", "large", "held"])
def test_the_end_of_the_machine_loses_nothing_on_its_way_to_the_dead_letters(
    tmp_path: Path, facts: dict[str, Any], waits: bool
) -> None:
    """Also when the queues were written by then, which says nothing about the disk."""
    lost = []
    for seed in range(40):
        files = SimulatedFiles(seed)
        directory = tmp_path / str(seed)
        directory.mkdir()
        with small_limits():
            world = World(directory, files=files)
            bury_one(world, **facts)
            if waits:
                world.advance(WRITE_BACK_MS)
                world.advance(WRITE_BACK_MS)
            after = World(directory, files=files.power_failure())
            for _ in range(4):  # what came back expires, and waits again
                after.advance(2 * DELAY_MS)
        if sum(counts(after)) == 0:
            lost.append(seed)

    assert not lost


def test_an_orderly_end_settles_originals_that_waited_for_the_disk(tmp_path: Path) -> None:
    world = World(tmp_path)
    bury_one(world)

    world.vhosts.close("/")

    assert counts(World(tmp_path)) == [0, 1]


@pytest.mark.parametrize("in_a_get", [False, True])
def test_an_original_that_waited_for_the_disk_stays_gone_after_the_end_of_the_process(
    tmp_path: Path, in_a_get: bool
) -> None:
    """However often files of the journal were used again by then."""
    files = SimulatedFiles()
    with small_limits():
        world = World(tmp_path, files=files)
        bury_one(world, in_a_get=in_a_get)
        busy = world.client().open()
        for _ in range(20):
            busy.publish("", "busy", b"." * KIB, persistent=True)
            world.checkpoint()
            world.advance(WRITE_BACK_MS)
            world.checkpoint()
        after = World(tmp_path, files=files.restart())

    assert not world.turn.is_storage_blocked
    assert counts(after) == [0, 1]
