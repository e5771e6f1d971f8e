"""A pump between real sockets, turned by hand: the world of its tests."""

import socket
import time
from itertools import count
from pathlib import Path

from pamqp import commands

from ipc.messages.commands import NegotiatedClient
from ipc.reactor import Reactor
from ipc.settings import ConnectionSettings, StoreSettings
from ipc.wire.amqp import methods
from shards.host.alarm import Alarm
from shards.host.bell import Bell
from shards.host.checkpointer import Checkpointer
from shards.host.deadlines import Deadlines
from shards.host.pump import Pump
from shards.host.syncer import Syncer
from shards.model.turn import Turn
from shards.model.vhosts import VHosts
from shards.protocols.amqp.connection import Connection
from shards.store.files import DiskFiles
from tests.protocols.conversation import EVERYTHING

READ_BYTES = 1 << 20


class Harbour:
    """One shard's pump with the vhost `/`; `now` is broker time and stands still until told."""

    def __init__(self, directory: Path, *, syncs: bool = False) -> None:
        self.now = 1_000_000
        self.turn = Turn()
        self.files = DiskFiles(64)
        names = count(1)
        settings = StoreSettings(durability="fsync" if syncs else "os")
        self.vhosts = VHosts(self.turn, self.files, settings, lambda: f"name-{next(names)}")
        self.sockets: list[socket.socket] = []  # the broker's ends
        directory.mkdir(parents=True, exist_ok=True)
        self.vhost, _report = self.vhosts.open("/", str(directory))
        self.bell = Bell()
        self.syncer = Syncer(self.turn, self.vhosts, self.files, self.bell, retry_seconds=0.01)
        self.deadlines = Deadlines(lambda: self.now)
        self.pump = Pump(
            self.turn,
            self.syncer,
            Checkpointer(self.turn, self.bell),
            Reactor(),
            self.bell,
            lambda: self.now,
            self.deadlines,
            Alarm(self.turn.agenda, self.bell, lambda: self.now),
            on_storage_error=self._refuse,
            stopwatch=time.thread_time,  # what others do on this machine is nobody's time here
        )

    def _refuse(self, fault: OSError) -> None:
        raise fault

    def connect(self, capabilities: frozenset[str] = frozenset(), *, heartbeat_seconds: int = 0) -> "Ship":
        ours, theirs = socket.socketpair()
        facts = NegotiatedClient(
            name="client",
            user="guest",
            tags=(),
            vhost="/",
            permissions=EVERYTHING,
            frame_max=131072,
            channel_max=2047,
            heartbeat_seconds=heartbeat_seconds,
            mechanism="PLAIN",
            client_properties=b"\0\0\0\0",
            capabilities=capabilities,
            unread=b"",
        )
        connection = Connection(
            facts,
            self.vhost,
            self.vhosts.access("guest", "/", EVERYTHING),
            self.turn,
            ConnectionSettings(),
            message_bytes_max=1 << 20,
            now=self.now,
        )
        self.vhost.connections[connection] = None
        self.sockets.append(theirs)
        self.pump.adopt(theirs, connection, self.now)
        ship = Ship(self, ours, connection)
        ship.say(commands.Channel.Open())
        return ship

    def close(self) -> None:
        self.pump.close()
        self.bell.close()


class Ship:
    """A client's end; `receive` gives what came since."""

    def __init__(self, harbour: Harbour, end: socket.socket, connection: Connection) -> None:
        self._harbour = harbour
        self.connection = connection
        self.socket = end
        end.setblocking(False)

    def say(self, method: methods.Method) -> bytes:
        """Say it and let the pump turn; what comes back."""
        self.socket.send(methods.frame(1, method))
        self._harbour.pump.turn()
        return self.receive()

    def fill(self, data: bytes) -> None:
        """Send as much of `data`, over and over, as the kernel takes; whole copies of it only."""
        try:
            while self.socket.send(data) == len(data):
                pass
        except BlockingIOError:
            return
        raise AssertionError("the kernel cut a publish in two")

    def receive(self) -> bytes:
        received = bytearray()
        try:
            while data := self.socket.recv(READ_BYTES):
                received += data
        except BlockingIOError:
            pass
        return bytes(received)
