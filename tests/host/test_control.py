"""What the supervisor tells a shard: obeyed while it is there, and drained without it."""

from pathlib import Path

import msgspec
import pytest
import trio

from ipc.data_directory import DataDirectory
from ipc.link import Link, link_pair
from ipc.messages.commands import Command, Drain, OpenVHost, Probe, ShardCommand
from ipc.settings import MainSettings, Settings
from shards.host.control import obey
from shards.host.shard import Shard

DRAIN_SECONDS = 7.0


async def obeyed(tmp_path: Path, *commands: Command) -> float:
    """How long a shard that is told this, by a supervisor that is gone by then, drains."""
    ours, theirs = link_pair()
    with theirs:
        for command in commands:
            theirs.send(msgspec.msgpack.encode(command))
    link: Link[ShardCommand] = Link(ours, ShardCommand)
    shard = Shard(0, Settings(main=MainSettings(drain_seconds=DRAIN_SECONDS)), link, DataDirectory(tmp_path))
    try:
        with trio.fail_after(10):
            return await obey(shard)
    finally:
        link.close()
        shard.pump.close()
        shard.files.close()


async def test_it_drains_as_long_as_it_is_told(tmp_path: Path) -> None:
    assert await obeyed(tmp_path, Drain(1.5)) == 1.5


@pytest.mark.parametrize("commands", [(), (Probe(),), (OpenVHost("v", ""),)], ids=["nothing", "a probe", "a vhost"])
async def test_without_a_supervisor_it_drains_whatever_it_was_told_last(
    tmp_path: Path, commands: tuple[Command, ...]
) -> None:
    place = tmp_path / "vhosts" / "1"
    place.mkdir(parents=True)
    told = [OpenVHost("v", str(place)) if isinstance(command, OpenVHost) else command for command in commands]

    assert await obeyed(tmp_path, *told) == DRAIN_SECONDS
