"""Rounds of the disk: one at a time, in order, in a thread, and never a confirm for what did not get there."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from pamqp import commands

from ipc.reactor import READABLE, Reactor
from shards.host.worker import SyncFailed
from tests.host.harbour import Harbour
from tests.protocols.conversation import content

PERSISTENT = content("", "queue", b"x" * 16, properties=commands.Basic.Properties(delivery_mode=2))
ACK = b"\x00\x3c\x00\x50"


@pytest.fixture
def harbour(tmp_path: Path) -> Iterator[Harbour]:
    harbour = Harbour(tmp_path / "vhost", syncs=True)
    yield harbour
    harbour.close()


def await_bell(harbour: Harbour) -> None:
    """Until the thread has ended a round."""
    reactor = Reactor()
    reactor.add(harbour.bell.descriptor, READABLE)
    assert reactor.poll(10)
    reactor.close()


async def test_a_confirm_comes_after_its_round_and_not_before(harbour: Harbour) -> None:
    client = harbour.connect()
    client.say(commands.Queue.Declare(queue="queue", durable=True))
    await_bell(harbour)
    harbour.pump.turn()
    client.say(commands.Confirm.Select())
    client.receive()

    client.socket.send(PERSISTENT)
    harbour.pump.turn()
    before = client.receive()
    await_bell(harbour)
    harbour.pump.turn()

    assert ACK not in before
    assert ACK in client.receive()


async def test_it_is_quiet_when_nobody_awaits_the_disk(harbour: Harbour) -> None:
    client = harbour.connect()
    client.say(commands.Queue.Declare(queue="queue", durable=True))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(harbour.pump.run)
        with trio.fail_after(10):
            await harbour.syncer.quiet()
        nursery.cancel_scope.cancel()

    assert client.receive()


async def test_a_failed_sync_ends_the_shard_and_confirms_nothing(
    harbour: Harbour, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = harbour.connect()
    client.say(commands.Queue.Declare(queue="queue", durable=True))
    await_bell(harbour)
    harbour.pump.turn()
    client.say(commands.Confirm.Select())
    client.receive()

    def fail(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.fdatasync", fail)
    client.socket.send(PERSISTENT)
    harbour.pump.turn()
    await_bell(harbour)

    with pytest.raises(SyncFailed, match="fdatasync failed: Input/output error"):
        harbour.pump.turn()
    assert ACK not in client.receive()
