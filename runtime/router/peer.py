"""One accepted socket while it is ours: bytes in and out without a stream object, and who is at the other end."""

import socket
from typing import Final

import trio

from ipc.limits import LINGER_BYTES_MAX

READ_BYTES: Final = 16 * 1024


class PeerGone(Exception):
    """The client hung up, or its network did."""


class Peer:
    """A non-blocking socket: every call is tried first and waited for only when the kernel says so."""

    __slots__ = ("_socket", "address", "name")

    def __init__(self, accepted: socket.socket) -> None:
        """Raises PeerGone when the client left before we asked for its address."""
        self._socket = accepted
        try:
            theirs, ours = accepted.getpeername(), accepted.getsockname()
        except OSError as fault:
            raise PeerGone from fault
        self.address: str = theirs[0]
        self.name = f"{_text(theirs)} -> {_text(ours)}"

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def receive_now(self) -> bytes:
        """What is there, which may be nothing; raises PeerGone at the end."""
        try:
            received = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return b""
        except OSError as fault:
            raise PeerGone from fault
        if not received:
            raise PeerGone
        return received

    def send_now(self, content: bytes | memoryview) -> int:
        """As much as the kernel takes, in bytes; raises PeerGone."""
        try:
            return self._socket.send(content)
        except BlockingIOError:
            return 0
        except OSError as fault:
            raise PeerGone from fault

    async def receive(self) -> bytes:
        """Some bytes; raises PeerGone instead of giving none."""
        while not (received := self.receive_now()):
            await trio.lowlevel.wait_readable(self._socket)
        return received

    async def send(self, content: bytes) -> None:
        """All of it; raises PeerGone."""
        unsent = memoryview(content)
        while unsent := unsent[self.send_now(unsent) :]:
            await trio.lowlevel.wait_writable(self._socket)

    async def linger(self) -> None:
        """End our side and read the client's out: after closing with bytes unread, a reset would drop our last word."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as fault:
            raise PeerGone from fault
        heard = 0
        while heard < LINGER_BYTES_MAX:
            heard += len(await self.receive())


def _text(address: tuple[str, int]) -> str:
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
