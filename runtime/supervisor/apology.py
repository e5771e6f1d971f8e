"""What HTTP clients are told while the management process cannot be started: 503, instead of being left to wait.

A few clients a listener at a time, and each for a few seconds: whoever asks slowly holds up others who would hear
nothing better. Requests are not understood here; one answer is right for all of them.
"""

import os
import socket
from collections.abc import Iterable
from typing import Final

import msgspec
import trio

from ipc.limits import APOLOGIES_AT_ONCE, APOLOGY_SECONDS_MAX, HTTP_HEADER_BYTES_MAX
from runtime.decisions.security_headers import SECURITY_HEADERS

End = socket.socket | trio.socket.SocketType

REASON: Final = "the management API cannot be started at the moment, the broker's log says why"
_RETRY_SECONDS: Final = 5
_PAUSE_SECONDS: Final = 0.1  # when accepting fails, for lack of descriptors for example
_READ_BYTES: Final = 16 * 1024


def _answer() -> tuple[bytes, bytes]:
    body = msgspec.json.encode({"error": "unavailable", "reason": REASON})
    headers = {
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Retry-After": str(_RETRY_SECONDS),
        "Connection": "close",
        **SECURITY_HEADERS,
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 503 Service Unavailable\r\n{lines}\r\n".encode(), body


_HEAD, _BODY = _answer()


async def apologise(ends: Iterable[End]) -> None:
    """To everybody who comes there, until cancelled; whoever is being told then is told to the end."""
    async with trio.open_nursery() as nursery:
        for end in ends:
            listening = socket.socket(fileno=os.dup(end.fileno()))
            listening.setblocking(False)  # noqa: FBT003 - the socket's own signature
            nursery.start_soon(_apologise_at, listening)


async def _apologise_at(listening: socket.socket) -> None:
    free = trio.Semaphore(APOLOGIES_AT_ONCE)
    with trio.socket.from_stdlib_socket(listening) as listener:
        async with trio.open_nursery() as nursery:
            while True:
                await free.acquire()
                try:
                    client, _address = await listener.accept()
                except OSError:
                    free.release()
                    await trio.sleep(_PAUSE_SECONDS)
                else:
                    nursery.start_soon(_see, client, free)


async def _see(client: trio.socket.SocketType, free: trio.Semaphore) -> None:
    with client, trio.move_on_after(APOLOGY_SECONDS_MAX, shield=True):
        try:
            await _tell(client)
        except OSError:
            pass  # it did not stay to hear
    free.release()


async def _tell(client: trio.socket.SocketType) -> None:
    asked = b""
    while b"\r\n\r\n" not in asked and len(asked) < HTTP_HEADER_BYTES_MAX:
        piece = await client.recv(_READ_BYTES)
        if not piece:
            return
        asked += piece
    words = memoryview(_HEAD if asked.startswith(b"HEAD ") else _HEAD + _BODY)
    while words:
        words = words[await client.send(words) :]
    client.shutdown(trio.socket.SHUT_WR)
    while await client.recv(_READ_BYTES):  # else what is still on its way would have the kernel take our answer back
        pass
