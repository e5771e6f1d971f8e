"""The template and the shards it forks, as real processes; this test plays the supervisor."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from pamqp import commands

from ipc.link import Link, LinkClosed, link_pair
from ipc.messages.commands import (
    AdoptClient,
    AskMemory,
    AskReclaimable,
    AskStatus,
    CloseVHost,
    Compact,
    Drain,
    Level,
    NegotiatedClient,
    OpenVHost,
    Permissions,
    PermissionsChanged,
    RulesChanged,
    SpawnShard,
    Start,
)
from ipc.messages.fingerprint import fingerprint
from ipc.messages.reports import (
    ChildEnded,
    Drained,
    Hello,
    Reclaimable,
    Reclaimed,
    ShardReport,
    ShardSpawned,
    TemplateReport,
    VHostClosed,
    VHostFailed,
    VHostOpened,
)
from ipc.messages.rules import Policy, Rules
from ipc.settings import MainSettings, Settings
from ipc.wire.amqp import methods
from tests.protocols.conversation import EVERYTHING, Content, content, parse

PATIENCE_SECONDS = 20


class Template:
    """A template process and our end of its link."""

    def __init__(self) -> None:
        ours, theirs = link_pair()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "shards.host.template", str(theirs.fileno())], pass_fds=[theirs.fileno()]
        )
        theirs.close()
        self.link: Link[Any] = Link(ours, TemplateReport)

    async def hear(self) -> Any:
        with trio.fail_after(PATIENCE_SECONDS):
            return (await self.link.receive())[0]

    async def spawn(self, number: int) -> "Shard":
        ours, theirs = link_pair()
        await self.link.send(SpawnShard(number), [theirs.fileno()])
        theirs.close()
        return Shard(Link(ours, ShardReport))


class Shard:
    """Our end of a shard's link."""

    def __init__(self, link: Link[Any]) -> None:
        self.link = link

    async def hear(self) -> Any:
        with trio.fail_after(PATIENCE_SECONDS):
            return (await self.link.receive())[0]

    async def start(self, directory: Path, *vhosts: str) -> None:
        assert isinstance(await self.hear(), Hello)
        await self.link.send(Start(0, Settings(main=MainSettings(log_level="error")), str(directory)))
        for name in vhosts:
            place = directory / name.replace("/", "default")
            place.mkdir(exist_ok=True)
            await self.link.send(OpenVHost(name, str(place)))
            assert isinstance(await self.hear(), VHostOpened)

    async def adopt(self, vhost: str = "/", unread: bytes = b"", permissions: Permissions = EVERYTHING) -> "Client":
        ours, theirs = socket.socketpair()
        facts = NegotiatedClient(
            name="test",
            user="guest",
            tags=(),
            vhost=vhost,
            permissions=permissions,
            frame_max=131072,
            channel_max=100,
            heartbeat_seconds=0,
            mechanism="PLAIN",
            client_properties=b"\0\0\0\0",
            capabilities=frozenset(),
            unread=unread,
        )
        await self.link.send(AdoptClient(facts), [theirs.fileno()])
        theirs.close()
        return Client(ours)


class Client:
    """A client that speaks frames over a real socket."""

    def __init__(self, end: socket.socket) -> None:
        self.stream = trio.SocketStream(trio.socket.from_stdlib_socket(end))
        self._wire = b""

    async def say(self, *asked: methods.Method) -> None:
        await self.stream.send_all(b"".join(methods.frame(1, method) for method in asked))

    async def hear(self, kind: type) -> Any:
        """The next thing of this kind; what comes before it is dropped."""
        with trio.fail_after(PATIENCE_SECONDS):
            while True:
                try:
                    heard = [thing for _, thing in parse(self._wire, 131072)]
                except AssertionError:  # cut in the middle of a frame or message
                    heard = []
                if any(isinstance(thing, kind) for thing in heard):
                    self._wire = b""
                    return next(thing for thing in heard if isinstance(thing, kind))
                data = await self.stream.receive_some()
                assert data, "the shard has closed the socket"
                self._wire += data


@asynccontextmanager
async def template() -> AsyncIterator[Template]:
    made = Template()
    try:
        assert isinstance(await made.hear(), Hello)
        yield made
    finally:
        made.link.close()
        with trio.move_on_after(PATIENCE_SECONDS, shield=True):
            await trio.to_thread.run_sync(made.process.wait)


async def test_a_message_goes_through_a_forked_shard_and_survives_its_death(tmp_path: Path) -> None:
    async with template() as forks:
        shard = await forks.spawn(0)
        spawned = await forks.hear()
        assert isinstance(spawned, ShardSpawned)
        await shard.start(tmp_path, "/")
        client = await shard.adopt()
        await client.hear(commands.Connection.OpenOk)
        await client.say(
            commands.Channel.Open(), commands.Queue.Declare(queue="q", durable=True), commands.Confirm.Select()
        )
        await client.hear(commands.Confirm.SelectOk)
        await client.stream.send_all(content("", "q", b"kept", properties=commands.Basic.Properties(delivery_mode=2)))
        await client.hear(commands.Basic.Ack)

        os.kill(spawned.pid, signal.SIGKILL)
        ended = await forks.hear()
        assert ended == ChildEnded(spawned.pid, -signal.SIGKILL)
        with pytest.raises(LinkClosed):
            await shard.hear()

        again = await forks.spawn(0)
        assert isinstance(await forks.hear(), ShardSpawned)
        await again.start(tmp_path, "/")
        reader = await again.adopt()
        await reader.hear(commands.Connection.OpenOk)
        await reader.say(commands.Channel.Open(), commands.Basic.Get(queue="q"))
        assert (await reader.hear(Content)).body == b"kept"


async def test_bytes_the_router_has_read_already_are_served_first(tmp_path: Path) -> None:
    async with template() as forks:
        shard = await forks.spawn(0)
        await shard.start(tmp_path, "/")
        early = methods.frame(1, commands.Channel.Open()) + methods.frame(1, commands.Queue.Declare(queue="early"))
        client = await shard.adopt(unread=early)
        assert (await client.hear(commands.Queue.DeclareOk)).queue == "early"


async def test_a_shard_drains_with_320_and_ends(tmp_path: Path) -> None:
    async with template() as forks:
        shard = await forks.spawn(0)
        pid = (await forks.hear()).pid
        await shard.start(tmp_path, "/")
        client = await shard.adopt()
        await client.hear(commands.Connection.OpenOk)

        await shard.link.send(Drain(5.0))

        close = await client.hear(commands.Connection.Close)
        assert close.reply_code == 320
        await client.stream.send_all(methods.frame(0, commands.Connection.CloseOk()))
        assert await shard.hear() == Drained(0, 1)
        assert await forks.hear() == ChildEnded(pid, 0)


async def test_a_shard_whose_supervisor_is_gone_drains_by_itself(tmp_path: Path) -> None:
    async with template() as forks:
        shard = await forks.spawn(0)
        pid = (await forks.hear()).pid
        await shard.start(tmp_path, "/")

        shard.link.close()

        assert await forks.hear() == ChildEnded(pid, 0)


async def test_a_pass_is_answered_and_clients_go_on(tmp_path: Path) -> None:
    async with template() as forks:
        shard = await forks.spawn(0)
        await shard.start(tmp_path, "/")
        client = await shard.adopt()
        await client.hear(commands.Connection.OpenOk)

        await shard.link.send(Compact(7, Level.CRITICAL, "test"))

        reclaimed = await shard.hear()
        assert isinstance(reclaimed, Reclaimed)
        assert (reclaimed.pass_number, reclaimed.level, reclaimed.trigger) == (7, Level.CRITICAL, "test")
        assert reclaimed.before.rss > 0
        assert reclaimed.steps > 5
        await client.say(commands.Channel.Open())
        await client.hear(commands.Channel.OpenOk)


async def test_questions_are_answered_and_clients_go_on(tmp_path: Path) -> None:
    async with template() as forks:
        shard = await forks.spawn(0)
        await shard.start(tmp_path, "/", "orders")
        client = await shard.adopt()
        await client.hear(commands.Connection.OpenOk)

        await shard.link.send(AskStatus(1))
        status = await shard.hear()
        assert (status.number, status.vhosts, status.queues, status.connections) == (1, 2, 0, 1)
        assert status.is_last

        await shard.link.send(AskMemory(2, vhost=None, top=1))
        vhosts, connections, account = [await shard.hear() for _ in range(3)]
        assert [(page.sort, len(page.holdings), page.is_last) for page in (vhosts, connections)] == [
            ("vhost", 1, False),
            ("connection", 1, False),
        ]
        assert connections.holdings[0].name == "test"
        assert account.is_last
        assert account.counts == {"vhost": 2, "queue": 0, "connection": 1}
        assert 0 < sum(account.by_kind.values()) < account.reading.rss

        await shard.link.send(AskReclaimable(3, Level.CRITICAL))
        reclaimable = await shard.hear()
        assert isinstance(reclaimable, Reclaimable)
        assert (reclaimable.number, reclaimable.level, reclaimable.is_last) == (3, Level.CRITICAL, True)
        await client.say(commands.Channel.Open())
        await client.hear(commands.Channel.OpenOk)


async def test_a_vhost_can_be_closed_and_its_clients_are_told(tmp_path: Path) -> None:
    async with template() as forks:
        shard = await forks.spawn(0)
        await shard.start(tmp_path, "/", "other")
        closing, staying = await shard.adopt("other"), await shard.adopt("/")
        await closing.hear(commands.Connection.OpenOk)
        await staying.hear(commands.Connection.OpenOk)

        await shard.link.send(CloseVHost("other"))

        assert (await closing.hear(commands.Connection.Close)).reply_code == 320
        await closing.stream.send_all(methods.frame(0, commands.Connection.CloseOk()))
        assert await shard.hear() == VHostClosed("other")
        await staying.say(commands.Channel.Open())
        await staying.hear(commands.Channel.OpenOk)


async def test_changed_permissions_reach_clients_that_are_connected(tmp_path: Path) -> None:
    async with template() as forks:
        shard = await forks.spawn(0)
        await shard.start(tmp_path, "/")
        client = await shard.adopt()
        await client.say(commands.Channel.Open(), commands.Queue.Declare(queue="mine"))
        await client.hear(commands.Queue.DeclareOk)

        await shard.link.send(PermissionsChanged("guest", "/", None))
        await shard.link.send(Compact(1, Level.TRIM, "to know that the change was heard"))
        await shard.hear()

        await client.say(commands.Queue.Declare(queue="yours"))
        assert (await client.hear(commands.Channel.Close)).reply_code == 403


async def test_changed_rules_reach_queues_that_are_there_and_clients_that_come(tmp_path: Path) -> None:
    async with template() as forks:
        shard = await forks.spawn(0)
        await shard.start(tmp_path, "/")
        client = await shard.adopt()
        await client.say(commands.Channel.Open(), commands.Confirm.Select(), commands.Queue.Declare(queue="jobs"))
        await client.hear(commands.Queue.DeclareOk)

        full = Policy("full", "^jobs$", {"max-length": 0, "overflow": "reject-publish"})
        await shard.link.send(RulesChanged("/", Rules((full,), connections_max=1, queues_max=1)))
        await shard.link.send(RulesChanged("unknown", Rules((full,))))
        stranger = await shard.adopt()

        close = await stranger.hear(commands.Connection.Close)
        assert (close.reply_code, close.class_id, close.method_id) == (530, 10, 40)
        assert close.reply_text.endswith("refused for user 'guest': connection limit (1) is reached")
        await stranger.stream.send_all(methods.frame(0, commands.Connection.CloseOk()))
        assert await stranger.stream.receive_some() == b""
        await client.stream.send_all(content("", "jobs", b"one too many"))
        await client.hear(commands.Basic.Nack)
        await client.say(commands.Queue.Declare(queue="more"))
        assert (await client.hear(commands.Channel.Close)).reply_code == 406

        await shard.link.send(RulesChanged("/", Rules()))
        await (await shard.adopt()).hear(commands.Connection.OpenOk)


async def test_a_vhost_that_cannot_be_opened_is_reported_and_the_shard_lives(tmp_path: Path) -> None:
    async with template() as forks:
        shard = await forks.spawn(0)
        await shard.start(tmp_path)
        (tmp_path / "bad").mkdir()
        (tmp_path / "bad" / "definitions.sqlite").write_bytes(b"no database" * 500)

        await shard.link.send(OpenVHost("bad", str(tmp_path / "bad")))

        failed = await shard.hear()
        assert isinstance(failed, VHostFailed)
        assert failed.damaged
        await shard.link.send(OpenVHost("/", str(tmp_path)))
        assert isinstance(await shard.hear(), VHostOpened)


async def test_a_template_ends_with_its_supervisor() -> None:
    async with template() as forks:
        forks.link.close()
        with trio.fail_after(PATIENCE_SECONDS):
            assert await trio.to_thread.run_sync(forks.process.wait) == 0


async def test_all_processes_agree_on_the_messages() -> None:
    forks = Template()
    hello = await forks.hear()
    assert hello == Hello(fingerprint(), "template", forks.process.pid)
    forks.link.close()
    await trio.to_thread.run_sync(forks.process.wait)
