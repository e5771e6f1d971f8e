"""A conversation between two of our processes: one msgspec message a packet, descriptors beside it.

`AF_UNIX` `SOCK_SEQPACKET` keeps packet borders and reports the peer's death as end of file. Measured limits (packet
size, descriptors a packet, queue length) stand in `ipc/limits.py`. This is the only module of `ipc` that knows trio.
"""

import array
import os
import socket
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import msgspec
import trio

from ipc.limits import PACKET_BYTES_MAX, PACKET_DESCRIPTORS_MAX

Incoming = TypeVar("Incoming")

# The kernel stores the answer even for an empty ancillary buffer, so ask for as many as a packet may carry.
_ANCILLARY_BYTES = socket.CMSG_SPACE(PACKET_DESCRIPTORS_MAX * array.array("i").itemsize)


class LinkClosed(Exception):
    """The other process is gone."""


class PacketTooLarge(Exception):
    """A message encodes to more than `PACKET_BYTES_MAX`; large answers go in pages."""


def link_pair() -> tuple[socket.socket, socket.socket]:
    """Both ends of a new link, close-on-exec; hand one to `Link`, the other to a child."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


class PacketDecoder(Generic[Incoming]):
    """Makes a message of a packet; `incoming` is a union of message types."""

    def __init__(self, incoming: Any) -> None:
        self._decoder: msgspec.msgpack.Decoder[Incoming] = msgspec.msgpack.Decoder(incoming)

    def decode(self, packet: bytes) -> Incoming:
        """Raises msgspec.DecodeError, whatever is wrong: msgspec itself has other words for text and for depth."""
        try:
            return self._decoder.decode(packet)
        except (UnicodeDecodeError, RecursionError) as fault:
            raise msgspec.DecodeError(str(fault)) from fault


class Link(Generic[Incoming]):
    """One end of a conversation; `incoming` is the union of message types this end understands.

    Any number of tasks may send; one task receives.
    """

    def __init__(self, end: socket.socket, incoming: Any) -> None:
        self._socket = trio.socket.from_stdlib_socket(end)
        self._end = end  # the same socket, without the loop around it
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: PacketDecoder[Incoming] = PacketDecoder(incoming)
        self._sending = trio.Lock()

    async def send(self, message: msgspec.Struct, descriptors: Sequence[int] = ()) -> None:
        """Send one message; the descriptors are duplicated by the kernel and stay the caller's to close.

        Raises LinkClosed when the peer is gone, PacketTooLarge for a message that must be paged.
        """
        packet = self._encode(message)
        async with self._sending:
            self._refuse_if_closed()
            try:
                await self._socket.sendmsg([packet], _ancillary(descriptors))
            except (BrokenPipeError, ConnectionResetError, trio.ClosedResourceError) as gone:
                raise LinkClosed from gone

    def send_now(self, message: msgspec.Struct, descriptors: Sequence[int] = ()) -> bool:
        """The same without waiting: whether it could be sent. Who waits for `send` goes first."""
        packet = self._encode(message)
        self._refuse_if_closed()
        if self._sending.locked():
            return False
        try:
            self._end.sendmsg([packet], _ancillary(descriptors))
        except BlockingIOError:
            return False
        except (BrokenPipeError, ConnectionResetError) as gone:
            raise LinkClosed from gone
        return True

    def _encode(self, message: msgspec.Struct) -> bytes:
        packet = self._encoder.encode(message)
        if len(packet) > PACKET_BYTES_MAX:
            raise PacketTooLarge(f"{type(message).__name__} of {len(packet)} bytes")
        return packet

    async def receive(self) -> tuple[Incoming, list[int]]:
        """The next message and the descriptors that came with it, now the caller's to close.

        Raises LinkClosed at the end of the conversation and msgspec.DecodeError for what is not ours.
        """
        self._refuse_if_closed()
        try:
            packet, ancillary, _flags, _address = await self._socket.recvmsg(
                PACKET_BYTES_MAX, _ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC
            )
        except (ConnectionResetError, trio.ClosedResourceError) as gone:
            raise LinkClosed from gone
        descriptors = _descriptors(ancillary)
        if not packet:
            _close_all(descriptors)
            raise LinkClosed
        try:
            return self._decoder.decode(packet), descriptors
        except msgspec.DecodeError:
            _close_all(descriptors)
            raise

    def fileno(self) -> int:
        """The socket's descriptor, for who wants to know that something has come; -1 when closed."""
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def _refuse_if_closed(self) -> None:
        # trio tells those who wait while it closes; whoever comes later would get the kernel's EBADF.
        if self._socket.fileno() == -1:
            raise LinkClosed


def _ancillary(descriptors: Sequence[int]) -> list[tuple[int, int, bytes]]:
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors).tobytes())] if descriptors else []


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    found = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(payload[: len(payload) - len(payload) % found.itemsize])
    return list(found)


def _close_all(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
