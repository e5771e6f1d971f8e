"""Plays a conversation written down as bytes and says after each step what came of it: a line of bytes out and state.

A conversation is a row of steps, and the file format of the corpus:

```
kind u8, client u8, length u32 little-endian, length bytes
```
Anything may stand in a file: what makes no step ends it, and a step that makes no sense now is passed by.
"""

import struct
import zlib
from array import array
from collections.abc import Iterable, Iterator
from enum import IntEnum
from pathlib import Path
from typing import Final, NamedTuple

from ipc.messages.commands import Level
from ipc.settings import ConnectionSettings, StoreSettings
from shards.compaction.cascade import cascade
from shards.compaction.compactable import Compactable, Offload
from shards.protocols.amqp.connection import ConnectionState
from shards.store.files import DiskFiles
from tests.compaction.policies import POLICY
from tests.protocols.conversation import Client, World

CLIENTS: Final = 3
STEPS_MAX: Final = 2000
HELD_BACK_BYTES_MAX: Final = 4 * 1024 * 1024  # what a client has sent and the broker does not want to read yet
MILLISECONDS_MAX: Final = 3_600_000

_STEP = struct.Struct("<BBI")


class Kind(IntEnum):
    """What happens; `data` of the step in brackets."""

    RECEIVE = 0  # bytes arrive, in this turn (the bytes)
    TURN = 1  # the turn ends: deliveries, confirms, files
    ADVANCE = 2  # time passes (milliseconds, u32)
    READS = 3  # the client begins to read (1) or ceases to (0)
    LOSE = 4  # the socket is gone; another client takes the place
    RESTART = 5  # the shard ends at once, and begins again with what is on disk
    COMPACT = 6  # a compaction pass (its level)


class Step(NamedTuple):
    kind: int
    client: int
    data: bytes = b""


class Setting(NamedTuple):
    """The first byte of a conversation chooses one: frames, outboxes and segments small and large."""

    frame_max: int
    outbox_bytes: int
    segment_bytes: int
    message_bytes_max: int


SETTINGS: Final = (
    Setting(131072, 1 << 20, 8 << 20, 1 << 20),
    Setting(4096, 8192, 1 << 16, 100_000),
    Setting(4096, 1 << 20, 1 << 16, 1 << 20),
    Setting(131072, 65536, 1 << 18, 600_000),
)


def pack(setting: int, steps: Iterable[Step]) -> bytes:
    return bytes((setting,)) + b"".join(_STEP.pack(kind, client, len(data)) + data for kind, client, data in steps)


def unpack(script: bytes) -> tuple[int, list[Step]]:
    steps: list[Step] = []
    at = 1
    while at + _STEP.size <= len(script) and len(steps) < STEPS_MAX:
        kind, client, size = _STEP.unpack_from(script, at)
        at += _STEP.size
        steps.append(Step(kind, client % CLIENTS, script[at : at + size]))
        at += size
    return (script[0] if script else 0) % len(SETTINGS), steps


class RepeatableFiles(DiskFiles):
    """The disk, without chance: files are the same each time."""

    __slots__ = ("_salt",)

    def __init__(self) -> None:
        super().__init__(descriptors_open_max=64)
        self._salt = 0

    def nonce(self) -> int:
        self._salt += 1
        return self._salt


class Stage:
    """A shard's core and its clients; `take` one step after the other, then `end`."""

    def __init__(self, directory: Path, setting: int) -> None:
        self._directory = directory
        self._setting = SETTINGS[setting]
        self._begin()

    def take(self, step: Step) -> str:
        """Do what the step says. Whatever escapes from the broker is part of the line: both speeds must agree on it."""
        try:
            fault = self._do(step)
        except Exception as escaped:  # noqa: BLE001 - that is what this is for
            fault = f"!{type(escaped).__name__}"
        return " ".join((f"{step.kind}", fault, *map(self._client_line, range(CLIENTS)), *self._state(step.kind)))

    def end(self) -> str:
        """Everything written, and what the directory holds then."""
        self.world.close()
        files = sorted(file for file in self._directory.rglob("*") if file.is_file() and "sqlite" not in file.name)
        return " ".join(
            ("end", *(f"{file.relative_to(self._directory)}:{digest(file.read_bytes())}" for file in files))
        )

    # steps ------------------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        setting = self._setting
        self.world = World(
            self._directory,
            files=RepeatableFiles(),
            settings=ConnectionSettings(
                outbox_bytes_high=setting.outbox_bytes, outbox_bytes_low=setting.outbox_bytes // 4
            ),
            store=StoreSettings(segment_bytes_max=setting.segment_bytes),
        )
        self.heard = [b""] * CLIENTS  # in the last step
        self.clients = [self._connect() for _ in range(CLIENTS)]
        self._held_back = [b""] * CLIENTS

    def _connect(self) -> Client:
        return self.world.client(
            frame_max=self._setting.frame_max, message_bytes_max=self._setting.message_bytes_max, heartbeat=600
        )

    def _do(self, step: Step) -> str:
        client = self.clients[step.client]
        match step.kind:
            case Kind.RECEIVE:
                self._receive(step.client, step.data)
            case Kind.TURN:
                self.world.finish_turn()
            case Kind.ADVANCE:
                self.world.advance(int.from_bytes(step.data[:4], "little") % MILLISECONDS_MAX)
            case Kind.READS:
                client.reads = step.data[:1] != b"\0"
                self.world.finish_turn()
            case Kind.LOSE:
                client.disconnect()
                self.world.clients.remove(client)
                self.clients[step.client] = self._connect()
                self._held_back[step.client] = b""
            case Kind.RESTART:
                self.world.files.close()
                self._begin()
            case Kind.COMPACT:
                self._compact(Level(step.data[0] % len(Level) + 1) if step.data else Level.TRIM)
            case _:
                return "?"
        return "."

    def _receive(self, number: int, data: bytes) -> None:
        connection = self.clients[number].connection
        if connection.state is ConnectionState.CLOSED:
            return
        data = self._held_back[number] + data
        if not connection.wants_input:
            self._held_back[number] = data[:HELD_BACK_BYTES_MAX]
            return
        self._held_back[number] = b""
        # Bytes of exactly this size, so that whoever reads beyond them reads what is not his.
        with memoryview(bytes(connection.partial + data)) as view:
            connection.receive(view, self.world.now)

    def _compact(self, level: Level) -> None:
        for _label, freed in cascade(self.world.vhosts, level, POLICY):
            if isinstance(freed, Offload):
                freed.work()

    # what can be seen -------------------------------------------------------------------------------------------------

    def _client_line(self, number: int) -> str:
        client = self.clients[number]
        connection = client.connection
        self.heard[number] = heard = bytes(client.wire)
        waiting = bytes(connection.outbox.buffer)
        client.wire.clear()
        return f"[{connection.state.name} {digest(heard)} {digest(waiting)} {digest(connection.partial)}]"

    def _state(self, kind: int) -> Iterator[str]:
        if kind == Kind.RECEIVE:
            return
        for client in self.clients:
            for channel in client.connection.channels.values():
                confirms = channel.confirms is not None
                consumers = ",".join(channel.consumers)
                yield f"({channel.number} {channel.state.name} {len(channel.ledger)} {confirms} {consumers})"
        for queue in self.world.vhost.queues():
            yield f"<{queue.name} {queue.ready_count} {queue.unacknowledged_count}>"
        yield self._memory()

    def _memory(self) -> str:
        """A digest of every typed array that owners of memory declare: ledgers, positions, whatever comes."""
        found = bytearray()
        for owner in below(self.world.vhosts):
            for name in owner._declared_collections:
                collection = getattr(owner, name, None)
                if isinstance(collection, array | bytearray):
                    found += f"{type(owner).__name__}.{name}".encode() + bytes(collection)
        return digest(found)


def below(owner: Compactable) -> Iterator[Compactable]:
    yield owner
    for child in owner.children():
        yield from below(child)


def digest(data: bytes | bytearray) -> str:
    return f"{len(data)}:{zlib.crc32(data):08x}" if data else "0"


def play(script: bytes, directory: Path) -> Iterator[str]:
    """Every line of a conversation."""
    setting, steps = unpack(script)
    stage = Stage(directory, setting)
    for step in steps:
        yield stage.take(step)
    yield stage.end()
