"""What owners of a shard give back beside declared collections: in steps of their own, or at once when it was used."""

import mmap
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pamqp import commands

from ipc.limits import FRAME_OVERHEAD_BYTES, KIB, MIB, RECEIVE_BYTES_PER_TURN
from ipc.messages.commands import Level
from ipc.settings import CompactionSettings, StoreSettings
from ipc.wire.amqp import methods
from shards.compaction.compactable import Compactable, Freed, ShrinkPolicy, Step
from shards.store.files import DiskFiles
from shards.store.priority_store import PriorityStore
from tests.host.harbour import Harbour
from tests.protocols.conversation import Client, World, content
from tests.simulation.simulated_files import SimulatedFiles
from tests.store.messages import record, take

POLICY = ShrinkPolicy.at(CompactionSettings(), now=1)
LARGE = 200 * KIB
SMALL = 2 * KIB
"""Enough for an empty buffer or list, whatever the interpreter rounds up to."""


def shrunk(owner: Compactable, level: Level) -> list[Step]:
    return list(owner.shrink(level, POLICY))


# in steps of their own ------------------------------------------------------------------------------------------------


@pytest.fixture
def harbour(tmp_path: Path) -> Iterator[Harbour]:
    harbour = Harbour(tmp_path / "vhost")
    yield harbour
    harbour.close()


def test_a_receive_buffer_that_a_large_frame_needed_gets_small_again(harbour: Harbour) -> None:
    client = harbour.connect()
    usual = dict(harbour.pump.holdings())["receive buffer"]
    harbour.pump._room_for(2 * RECEIVE_BYTES_PER_TURN + usual)
    assert dict(harbour.pump.holdings())["receive buffer"] > usual

    steps = shrunk(harbour.pump, Level.TRIM)

    assert [step.kind for step in steps if isinstance(step, Freed) and step.size_bytes > 0] == ["buffer"]
    assert dict(harbour.pump.holdings())["receive buffer"] == usual
    client.say(commands.Queue.Declare(queue="q"))
    harbour.pump.turn()
    assert harbour.vhost.queue("q") is not None


def resident_bytes(path: Path) -> int:
    """Of what this process has mapped of a file."""
    found = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(" ")[0]:
            found = line.endswith(str(path))
        elif found and line.startswith("Rss:"):
            return int(line.split()[1]) * KIB
    return 0


@pytest.mark.parametrize(("level", "left"), [(Level.TRIM, MIB), (Level.RELEASE, MIB), (Level.CRITICAL, 0)])
def test_maps_give_up_what_they_have_faulted_in_when_memory_is_critical(
    level: Level, left: int, tmp_path: Path
) -> None:
    path = tmp_path / "segment"
    path.write_bytes(bytes(range(256)) * (MIB // 256))
    files = DiskFiles(descriptors_open_max=4)
    mapped = files.map(str(path), MIB)
    assert sum(mapped[at] for at in range(0, MIB, mmap.PAGESIZE)) == 0
    assert resident_bytes(path) == MIB

    shrunk(files, level)

    assert resident_bytes(path) == left
    assert mapped[255] == 255
    del mapped
    files.close()


def test_levels_of_priority_that_hold_nothing_go() -> None:
    store = PriorityStore(SimulatedFiles(), "/data/queues/1", StoreSettings(), durable=True, priority_max=9)
    for priority in range(10):
        store.level(priority).append(record(priority))
    for priority in range(9):
        ((position, _body),) = take(store.level(priority))
        store.level(priority).settle(position)
    store.tidy()

    steps = shrunk(store, Level.TRIM)

    assert [step.kind for step in steps if isinstance(step, Freed)] == 9 * ["priority level"]
    assert [bodies for level in store.levels() for _, bodies in take(level)] == [b"9"]


# at once --------------------------------------------------------------------------------------------------------------


def held_for(world: World, kind: str) -> int:
    """Bytes, by what owners say they hold."""
    (connection,) = world.vhost.connections
    owners: list[Compactable] = [connection, *connection.children()]
    return sum(size_bytes for owner in owners for name, size_bytes in owner.holdings() if name == kind)


@pytest.fixture
def client(world: World) -> Client:
    client = world.client().open()
    client.declare("q")
    return client


@pytest.mark.parametrize("end", [commands.Tx.Commit(), commands.Tx.Rollback()])
def test_what_a_transaction_kept_goes_with_its_end(world: World, client: Client, end: methods.Method) -> None:
    client.ask(commands.Tx.Select())
    for _ in range(500):
        client.publish("", "q", b"x" * KIB)
    transaction = client.connection.channels[1].transaction
    assert transaction is not None
    assert held_for(world, "transactions") > 500 * KIB
    assert sys.getsizeof(transaction._messages) > SMALL

    client.ask(end)

    assert held_for(world, "transactions") == 0
    assert sys.getsizeof(transaction._messages) < SMALL


@pytest.mark.parametrize("is_given_up", [False, True])
def test_a_body_that_came_in_part_goes_with_its_rest_or_its_channel(
    world: World, client: Client, is_given_up: bool
) -> None:
    frames = content("", "q", b"x" * LARGE, frame_max=16 * KIB)
    half = 0
    while half < LARGE // 2:
        half += FRAME_OVERHEAD_BYTES + int.from_bytes(frames[half + 3 : half + 7], "big")
    client.send(frames[:half])
    assert held_for(world, "incoming messages") > LARGE // 3

    if is_given_up:
        client.ask(commands.Channel.Close(200, "", 0, 0))
    else:
        client.send(frames[half:])

    assert held_for(world, "incoming messages") == 0


def test_an_outbox_that_was_sent_gives_its_room_back(world: World, client: Client) -> None:
    for _ in range(20):
        client.publish("", "q", b"x" * 10 * KIB)
    client.reads = False
    client.say(commands.Basic.Consume(queue="q", no_ack=True))
    outbox = client.connection.outbox
    assert outbox.size_bytes > LARGE / 2

    while outbox.buffer:
        outbox.sent(min(len(outbox.buffer), 7 * KIB))

    assert outbox.size_bytes < SMALL
