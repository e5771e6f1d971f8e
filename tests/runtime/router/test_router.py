"""The router between real sockets: who is let through reaches a shard whole, who is not harms nobody."""

import os
import random
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog.testing
import trio
from msgspec import structs
from pamqp import commands, encode

from ipc.data_directory import DataDirectory
from ipc.link import Link, link_pair
from ipc.messages.commands import AdoptClient, NegotiatedClient, ShardCommand
from ipc.messages.reports import ShardReport
from ipc.settings import AmqpSettings, Settings, UserSettings
from ipc.wire.amqp import frames, methods
from ipc.wire.amqp.negotiation import CLOSE_OK_FRAME
from runtime.auth.directory import Directory
from runtime.auth.login_record import LoginRecord
from runtime.roster import Roster
from runtime.router import listening
from runtime.router.router import open_listeners, serve

HEARING = {"capabilities": {"authentication_failure_close": True}}
TUNE_OK = methods.frame(0, commands.Connection.TuneOk(2047, 131072, 60))


def start_ok(password: str = "guest", properties: dict[str, Any] | None = None) -> bytes:
    arguments = (
        encode.field_table(properties or {})
        + encode.short_string("PLAIN")
        + encode.long_string(f"\0guest\0{password}")
        + encode.short_string("en_US")
    )
    return frames.pack(frames.METHOD, 0, b"\x00\x0a\x00\x0b" + arguments)


def open_vhost(name: str = "/") -> bytes:
    return methods.frame(0, commands.Connection.Open(name))


def conversation(vhost: str = "/") -> bytes:
    """All a client says, without waiting for answers."""
    return frames.PROTOCOL_HEADER + start_ok() + TUNE_OK + open_vhost(vhost)


class Broker:
    """A served router, its directory, and the shard's end of the only link."""

    def __init__(self, directory: Directory, settings: Settings, port: int) -> None:
        self.directory = directory
        self.settings = settings
        self.port = port
        self.logs: list[Any] = []
        self.record = LoginRecord(lambda: self.settings.users)
        self.roster = Roster()
        self.shard = self.new_shard()

    def new_shard(self) -> "Link[ShardCommand]":
        ours, theirs = link_pair()
        for vhost in self.directory.vhosts():
            self.roster.place(vhost.name, 0)
            self.roster.opened(vhost.name, Link[ShardReport](ours, ShardReport))
        return Link(theirs, ShardCommand)

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    async def adopted(self) -> tuple[NegotiatedClient, socket.socket]:
        """The client the shard was given last."""
        command, descriptors = await self.shard.receive()
        assert isinstance(command, AdoptClient)
        (descriptor,) = descriptors
        return command.client, socket.socket(fileno=descriptor)

    def change(self, **amqp: Any) -> None:
        self.settings = structs.replace(self.settings, amqp=structs.replace(self.settings.amqp, **amqp))


@asynccontextmanager
async def running(directory: Directory, **amqp: Any) -> AsyncIterator[Broker]:
    settings = Settings(amqp=AmqpSettings(bind="127.0.0.1", port=0, **amqp))
    listeners = await open_listeners(listening.amqp(settings.amqp))
    broker = Broker(directory, settings, listeners[0].socket.getsockname()[1])
    with structlog.testing.capture_logs() as logs:
        broker.logs = logs
        async with trio.open_nursery() as nursery:
            await nursery.start(serve, listeners, broker.roster, directory, lambda: broker.settings, broker.record)
            with trio.fail_after(20):
                yield broker
            nursery.cancel_scope.cancel()
    assert [log for log in logs if "exc_info" in log] == []


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    directory = Directory.open(DataDirectory(tmp_path), UserSettings())
    async with running(directory) as broker:
        yield broker
    directory.close()


async def read_all(client: trio.SocketStream) -> bytes:
    return b"".join([piece async for piece in client])


async def closing_words(client: trio.SocketStream) -> tuple[int, str]:
    """Code and text of the `connection.close` that ends what the server says."""
    received = b""
    while b"\x00\x0a\x00\x32" not in received:
        piece = await client.receive_some()
        assert piece, received
        received += piece
    await client.send_all(CLOSE_OK_FRAME)
    assert await client.receive_some() == b""
    close = methods.decode(received[received.index(b"\x00\x0a\x00\x32") : -1])
    fields: dict[str, Any] = dict(close)
    return fields["reply_code"], fields["reply_text"]


# let through ----------------------------------------------------------------------------------------------------------


async def test_a_client_reaches_the_shard_with_all_it_said(broker: Broker) -> None:
    client = await broker.connect()
    await client.send_all(conversation() + b"and more")

    adopted, its_socket = await broker.adopted()

    with its_socket:
        port = client.socket.getsockname()[1]
        assert adopted.name == f"127.0.0.1:{port} -> 127.0.0.1:{broker.port}"
        assert (adopted.user, adopted.vhost, adopted.unread) == ("guest", "/", b"and more")
        its_socket.send(b"from the shard")
        received = await client.receive_some()
        while not received.endswith(b"from the shard"):
            received += await client.receive_some()
        assert its_socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


async def test_a_client_may_say_it_byte_by_byte(broker: Broker) -> None:
    client = await broker.connect()
    for byte in conversation():
        await client.send_all(bytes((byte,)))

    adopted, its_socket = await broker.adopted()

    its_socket.close()
    assert adopted.user == "guest"


async def test_the_shard_holds_the_only_socket_afterwards(broker: Broker) -> None:
    client = await broker.connect()
    await client.send_all(conversation())
    _, its_socket = await broker.adopted()

    its_socket.close()

    await read_all(client)


async def test_a_client_waits_for_a_shard_that_restarts(broker: Broker) -> None:
    broker.roster.closed("/")
    client = await broker.connect()
    await client.send_all(conversation())
    await trio.sleep(0.05)

    broker.shard = broker.new_shard()

    adopted, its_socket = await broker.adopted()
    its_socket.close()
    assert adopted.vhost == "/"


async def test_a_shard_that_dies_at_the_hand_over_is_followed_by_the_next(broker: Broker) -> None:
    broker.shard.close()
    client = await broker.connect()
    await client.send_all(conversation())
    await trio.sleep(0.05)

    broker.shard = broker.new_shard()

    _, its_socket = await broker.adopted()
    its_socket.close()


# refused --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n\r\n", b"AMQP\x00\x01\x00\x00", b"\x16\x03\x01" + bytes(500)])
async def test_a_foreign_header_gets_ours_and_the_end(broker: Broker, said: bytes) -> None:
    client = await broker.connect()
    await client.send_all(said)

    assert await read_all(client) == frames.PROTOCOL_HEADER


async def test_a_wrong_password_is_told(broker: Broker) -> None:
    client = await broker.connect()
    await client.send_all(frames.PROTOCOL_HEADER + start_ok("wrong", HEARING))

    code, text = await closing_words(client)

    assert code == 403
    assert "Login was refused" in text


async def test_a_wrong_password_is_not_told_to_clients_that_cannot_hear_it(broker: Broker) -> None:
    client = await broker.connect()
    await client.send_all(frames.PROTOCOL_HEADER + start_ok("wrong"))

    assert b"\x00\x0a\x00\x32" not in await read_all(client)


async def test_a_vhost_that_does_not_exist_is_not_allowed(broker: Broker) -> None:
    client = await broker.connect()
    await client.send_all(conversation("nowhere"))

    assert await closing_words(client) == (530, "NOT_ALLOWED - vhost 'nowhere' not found")


async def test_a_vhost_without_permission_is_not_allowed(broker: Broker) -> None:
    broker.directory.add_vhost("private")
    client = await broker.connect()
    await client.send_all(conversation("private"))

    assert await closing_words(client) == (530, "NOT_ALLOWED - access to vhost 'private' refused for user 'guest'")


async def test_a_vhost_that_cannot_be_opened_is_down(broker: Broker) -> None:
    broker.roster.failed("/", "damaged")
    client = await broker.connect()
    await client.send_all(conversation())

    assert await closing_words(client) == (541, "INTERNAL_ERROR - vhost '/' is down")


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (b"\x01\x00\x00\xff\xff\xff\xff", 501),
        (frames.pack(frames.BODY, 0, b"body"), 505),
        (open_vhost(), 503),
        (frames.pack(frames.METHOD, 0, b"\x00\x0a\x00\x0b\xff\xff\xff\xff"), 502),
        (frames.pack(frames.METHOD, 0, b"\x00\x63\x00\x01"), 540),
    ],
)
async def test_broken_rules_are_told_with_their_code(broker: Broker, said: bytes, code: int) -> None:
    client = await broker.connect()
    await client.send_all(frames.PROTOCOL_HEADER + said)

    assert (await closing_words(client))[0] == code


# dropped --------------------------------------------------------------------------------------------------------------


async def test_a_silent_client_is_dropped(broker: Broker) -> None:
    broker.change(negotiation_seconds=0.1)
    silent = await broker.connect()
    slow = await broker.connect()
    await slow.send_all(frames.PROTOCOL_HEADER)

    assert await read_all(silent) == b""
    assert (await read_all(slow)).startswith(b"\x01\x00\x00")


async def test_more_half_open_clients_than_allowed_are_dropped_and_the_others_served(broker: Broker) -> None:
    broker.change(half_open_max=2)
    waiting = [await broker.connect() for _ in range(2)]
    await trio.sleep(0.05)

    assert await read_all(await broker.connect()) == b""

    await waiting[0].send_all(conversation())
    _, its_socket = await broker.adopted()
    its_socket.close()
    await trio.sleep(0.05)
    another = await broker.connect()
    await another.send_all(frames.PROTOCOL_HEADER)
    assert (await another.receive_some()).startswith(b"\x01\x00\x00")


async def test_the_accept_loop_outlives_a_shortage_of_descriptors(broker: Broker) -> None:
    late = trio.socket.socket()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        await late.connect(("127.0.0.1", broker.port))
        await trio.sleep(0.1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    await late.send(frames.PROTOCOL_HEADER)

    assert (await late.recv(1000)).startswith(b"\x01\x00\x00")
    late.close()
    assert [log["event"] for log in broker.logs] == ["cannot accept connections"]


async def test_garbage_costs_nothing_and_harms_nobody(broker: Broker) -> None:
    """No descriptor is left behind, and a client that behaves is served in between."""
    chance = random.Random(3)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(60):
        garbled = bytearray(conversation())
        for _ in range(chance.randint(1, 3)):
            garbled[chance.randrange(len(garbled) - len(open_vhost()))] = chance.randrange(256)
        client = await broker.connect()
        await client.send_all(bytes(garbled[: chance.randint(1, len(garbled) - len(open_vhost()))]))
        await client.aclose()

    good = await broker.connect()
    await good.send_all(conversation())
    _, its_socket = await broker.adopted()
    its_socket.close()
    await good.aclose()
    with trio.fail_after(5):
        while len(os.listdir("/proc/self/fd")) > before:
            await trio.sleep(0.01)


async def test_cancelling_stops_accepting_and_drops_who_negotiates(tmp_path: Path) -> None:
    directory = Directory.open(DataDirectory(tmp_path), UserSettings())
    async with running(directory) as broker:
        client = await broker.connect()
        await trio.sleep(0.05)

    assert await read_all(client) == b""
    with pytest.raises(OSError, match="all attempts"):
        await broker.connect()
    directory.close()


async def test_changed_settings_count_for_the_next_client(broker: Broker) -> None:
    broker.change(frame_max=8192)
    client = await broker.connect()
    await client.send_all(frames.PROTOCOL_HEADER + start_ok())
    tune = methods.frame(0, commands.Connection.Tune(2047, 8192, 60))

    received = b""
    while not received.endswith(tune):
        received += await client.receive_some()
