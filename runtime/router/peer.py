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

    async def receive(self) -> bytes:
        """Some bytes; raises PeerGone instead of giving none."""
        while True:
            try:
                received = self._socket.recv(READ_BYTES)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._socket)
                continue
            except OSError as fault:
                raise PeerGone from fault
            if not received:
                raise PeerGone
            return received

    async def send(self, content: bytes) -> None:
        """All of it; raises PeerGone."""
        unsent = memoryview(content)
        while unsent:
            try:
                unsent = unsent[self._socket.send(unsent) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._socket)
            except OSError as fault:
                raise PeerGone from fault

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
