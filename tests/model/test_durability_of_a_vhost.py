"""When a message counts as safe can differ by vhost, and a vhost can change over without losing anything."""

from pathlib import Path
from typing import Final

import pytest
from pamqp import commands

from ipc.settings import Durability, StoreSettings, VHostStoreSettings
from tests.protocols.conversation import Client, World
from tests.simulation.simulated_files import SimulatedFiles

OS: Final = VHostStoreSettings(durability="os")
FSYNC: Final = VHostStoreSettings(durability="fsync")
LIVES: Final[tuple[Durability, ...]] = ("fsync", "os", "fsync", "os", "os", "fsync")
ORDERS_BY_OS: Final = StoreSettings(vhosts={"orders": OS})


@pytest.fixture
def files() -> SimulatedFiles:
    return SimulatedFiles()


def of_all(durability: Durability) -> StoreSettings:
    return StoreSettings(durability=durability)


def publisher(world: World, vhost: str = "/") -> Client:
    client = world.client(vhost=world.vhosts.find(vhost)).open()
    client.declare("jobs", durable=True)
    client.ask(commands.Confirm.Select())
    return client


def publish(client: Client, *bodies: bytes) -> int:
    """How many of them were confirmed."""
    for body in bodies:
        client.publish("", "jobs", body, persistent=True)
    return max((ack.delivery_tag for ack in client.replies()), default=0)


def test_a_vhost_can_be_content_with_the_kernel_where_others_wait_for_the_disk(
    tmp_path: Path, files: SimulatedFiles
) -> None:
    world = World(tmp_path, files=files, store=ORDERS_BY_OS)
    world.open("orders")
    waits, hurries = publisher(world), publisher(world, "orders")
    world.syncs_by_itself = False

    assert publish(waits, b"dig") == 0
    assert publish(hurries, b"dig") == 1

    world.sync()
    assert [ack.delivery_tag for ack in waits.replies()] == [1]


def test_a_vhost_can_wait_for_the_disk_where_others_do_not(tmp_path: Path, files: SimulatedFiles) -> None:
    world = World(tmp_path, files=files, store=StoreSettings(durability="os", vhosts={"orders": FSYNC}))
    world.open("orders")
    waits, hurries = publisher(world, "orders"), publisher(world)
    world.syncs_by_itself = False

    assert publish(waits, b"dig") == 0
    assert publish(hurries, b"dig") == 1


def test_a_transaction_is_answered_as_its_vhost_has_it(tmp_path: Path) -> None:
    world = World(tmp_path, store=ORDERS_BY_OS)
    world.open("orders")
    clients = [world.client(vhost=world.vhosts.find(name)).open() for name in ("/", "orders")]
    for client in clients:
        client.declare("jobs", durable=True)
        client.ask(commands.Tx.Select())
    world.syncs_by_itself = False

    for client in clients:
        client.publish("", "jobs", b"dig", persistent=True)
        client.say(commands.Tx.Commit())

    assert [len(client.replies()) for client in clients] == [0, 1]
    world.sync()
    world.finish_turn()
    assert [len(client.replies()) for client in clients] == [1, 0]


def test_no_sync_is_spent_on_a_vhost_that_does_not_ask_for_it(tmp_path: Path, files: SimulatedFiles) -> None:
    """Also not by rounds of others: for thousands of its files they would wait as well."""
    world = World(tmp_path, files=files, store=ORDERS_BY_OS)
    world.open("orders")
    client = publisher(world, "orders")
    client.declare("waiting", durable=True)
    client.ask(commands.Exchange.Declare(exchange="later", exchange_type="x-delayed-message", durable=True,
                                         arguments={"x-delayed-type": "direct"}))  # fmt: skip
    world.sync()
    world.syncs_by_itself = False

    publish(client, b"small", b"large" * 100_000)
    client.publish("later", "k", b"x", properties=commands.Basic.Properties(delivery_mode=2, headers={"x-delay": 99}))

    assert any("/orders/" in name and name.endswith(".messages") for name in files.names())
    assert not files.take_unsynced()


@pytest.mark.parametrize("in_order", [True, False], ids=["ended in order", "killed"])
def test_nothing_is_lost_and_nothing_settled_comes_back_on_the_way_to_os_and_back(
    tmp_path: Path, files: SimulatedFiles, in_order: bool
) -> None:
    """What stands in the journal only, what was written behind it, and what became of it."""
    expected: list[bytes] = []
    for life, durability in enumerate(LIVES):
        world = World(tmp_path, files=files, store=of_all(durability))
        client = publisher(world)
        assert world.vhost.durability == durability
        assert world.vhost.queue("jobs").ready_count == len(expected)
        bodies = [b"%d.%d" % (life, number) for number in range(20)]
        assert publish(client, *bodies[:10]) == 10
        world.advance(2000)  # written to its place
        assert publish(client, *bodies[10:]) == 20
        expected += bodies
        for _ in range(7):  # some from its place, some the life before has left
            got = client.get("jobs")
            assert got is not None
            assert got.body == expected.pop(0)
        if in_order:
            world.close()
        files = files.restart()

    after = World(tmp_path, files=files)
    assert after.client().open().drain("jobs") == expected


def test_what_was_confirmed_on_disk_is_there_after_a_power_failure_in_the_vhosts_next_life(
    tmp_path: Path, files: SimulatedFiles
) -> None:
    client = publisher(World(tmp_path, files=files))
    assert publish(client, b"on disk") == 1
    files = files.restart()
    World(tmp_path, files=files, store=of_all("os"))

    survivor = World(tmp_path, files=files.power_failure())

    assert survivor.client().open().drain("jobs") == [b"on disk"]


@pytest.mark.parametrize("seed", range(10))
def test_a_vhost_that_waits_for_the_disk_again_has_all_it_found_there(tmp_path: Path, seed: int) -> None:
    """From then on nobody should have to know that some of it was once with the kernel only."""
    files = SimulatedFiles(seed)
    world = World(tmp_path, files=files, store=of_all("os"))
    client = publisher(world)
    client.ask(commands.Exchange.Declare(exchange="later", exchange_type="x-delayed-message", durable=True,
                                         arguments={"x-delayed-type": "direct"}))  # fmt: skip
    client.bind("later", "jobs", "jobs")
    publish(client, *(b"%d" % number for number in range(50)))
    client.publish(
        "later", "jobs", b"late", properties=commands.Basic.Properties(delivery_mode=2, headers={"x-delay": 1000})
    )
    world.close()

    files = files.restart()
    World(tmp_path, files=files)
    survivor = World(tmp_path, files=files.power_failure())

    survivor.advance(1000)
    bodies = survivor.client().open().drain("jobs")
    assert bodies == [*(b"%d" % number for number in range(50)), b"late"]


@pytest.mark.parametrize("seed", range(10))
def test_what_was_settled_before_a_vhost_waits_for_the_disk_again_does_not_come_back(tmp_path: Path, seed: int) -> None:
    """Not even where nothing is left of a queue's files, whose going nobody had brought to disk."""
    files = SimulatedFiles(seed)
    world = World(tmp_path, files=files, store=of_all("os"))
    client = world.client().open()
    client.declare("jobs", durable=True, arguments={"x-max-priority": 2})  # whose directory stays
    publish(client, b"dig")
    world.advance(2000)  # written to its place
    client.ask(commands.Queue.Purge(queue="jobs"))
    world.advance(2000)
    assert not any(name.endswith(".messages") for name in files.names())

    files = files.restart()
    World(tmp_path, files=files)
    survivor = World(tmp_path, files=files.power_failure())

    assert survivor.client().open().drain("jobs") == []


def test_what_could_not_be_brought_to_disk_is_tried_again_before_anything_is_promised(
    tmp_path: Path, files: SimulatedFiles
) -> None:
    publish(publisher(World(tmp_path, files=files, store=of_all("os"))), b"dig")
    files = files.restart()
    files.sync_fault = OSError(5, "rotten")
    with pytest.raises(OSError, match="rotten"):
        World(tmp_path, files=files)
    files.sync_fault = None

    World(tmp_path, files=files)

    assert World(tmp_path, files=files.power_failure()).client().open().drain("jobs") == [b"dig"]


def test_other_settings_hold_for_vhosts_that_are_opened_from_then_on(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.open("orders")

    concerned = world.vhosts.change_settings(StoreSettings(vhosts={"orders": OS, "new": OS}))

    assert [(vhost.name, vhost.durability) for vhost in concerned] == [("orders", "fsync")]
    assert world.open("new").durability == "os"
    world.vhosts.close("orders")
    assert world.open("orders").durability == "os"
    assert world.vhosts.change_settings(StoreSettings(vhosts={"orders": OS, "new": OS})) == []
