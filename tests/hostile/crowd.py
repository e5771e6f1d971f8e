"""Many connections of one attacker, which never wait: what the kernel does not take is dropped."""

import socket
import struct
import time
from collections.abc import Iterable, Iterator
from itertools import cycle
from typing import Final, Self

from tests.clients.raw_client import RawClient

_SOURCES: Final = cycle([f"127.0.0.{last}" for last in range(2, 12)])  # one address has ports for 28,000 only


class Attacker:
    """A socket that is written to without care for what comes back."""

    def __init__(self, opened: socket.socket) -> None:
        self._socket = opened
        opened.setblocking(False)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # no TIME_WAIT of ours

    def send(self, data: bytes | memoryview) -> int:
        """Bytes the kernel took; 0 when it has no room, or the broker has hung up."""
        try:
            return self._socket.send(data)
        except OSError:
            return 0

    def flood(self, data: bytes, *, seconds: float) -> int:
        """Send all of it again and again, for so long; the bytes that were taken."""
        deadline, taken, rest = time.monotonic() + seconds, 0, memoryview(data)
        while time.monotonic() < deadline:
            count = self.send(rest)
            taken += count
            rest = rest[count:] or memoryview(data)
            if not count:
                time.sleep(0.001)
        return taken

    def insist(self, data: bytes, *, seconds: float) -> int:
        """Send all of it once, however long the kernel wants to be asked; the bytes that were taken in time."""
        deadline, rest = time.monotonic() + seconds, memoryview(data)
        while rest and time.monotonic() < deadline:
            count = self.send(rest)
            rest = rest[count:]
            if not count:
                time.sleep(0.001)
        return len(data) - len(rest)

    def heard(self) -> bytes | None:
        """What came; None when nothing has, empty when the broker has hung up."""
        try:
            return self._socket.recv(1 << 16)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def close(self) -> None:
        self._socket.close()


class Crowd:
    """Attackers, closed together."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._attackers: list[Attacker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for attacker in self._attackers:
            attacker.close()

    def __iter__(self) -> Iterator[Attacker]:
        return iter(self._attackers)

    def gather(self, count: int) -> list[Attacker]:
        """So many more, connected to the kernel and to nobody else."""
        new = [Attacker(self._connected()) for _ in range(count)]
        self._attackers += new
        return new

    def enrol(self, count: int, *, channels: Iterable[int] = (1,)) -> list[Attacker]:
        """So many more, who have behaved up to `channel.open-ok`."""
        new = []
        for _ in range(count):
            client = RawClient(self._port).open()
            client.open_channel(*channels)
            new.append(Attacker(client.detach()))
        self._attackers += new
        return new

    def _connected(self) -> socket.socket:
        opened = socket.socket()
        opened.bind((next(_SOURCES), 0))
        opened.setblocking(False)
        opened.connect_ex(("127.0.0.1", self._port))
        return opened
