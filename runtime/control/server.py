"""Listens on the control socket: reads requests, has them answered, and lets no client take more than its share.

A client gets `hello` at once, then an answer a request, in order. What is no request is refused and the conversation
goes on; a line without end, silence, and a client that does not read are the end of it.
"""

import socket
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

import msgspec
import structlog
import trio
from structlog.typing import FilteringBoundLogger

from ipc.limits import (
    BACKUP_SECONDS_MAX,
    CONTROL_ANSWER_SECONDS_MAX,
    CONTROL_CLIENTS_MAX,
    CONTROL_IDLE_SECONDS,
    CONTROL_REQUEST_BYTES_MAX,
    CONTROL_SEND_SECONDS_MAX,
)
from ipc.lines import Lines, LineTooLong
from ipc.messages.control import BackUp, ControlRequest, Hello, Refused, Reply, Request

_log: Final[FilteringBoundLogger] = structlog.get_logger("control")

_SECONDS_MAX: Final[Mapping[type[Request], float]] = MappingProxyType({BackUp: BACKUP_SECONDS_MAX})

Say: TypeAlias = Callable[[Reply], Awaitable[None]]
Answer: TypeAlias = Callable[[ControlRequest, Say], Awaitable[None]]
"""Says all lines of an answer, `end` or `refused` included."""


_requests: Final[msgspec.json.Decoder[ControlRequest]] = msgspec.json.Decoder(ControlRequest)


def read_request(line: bytes) -> ControlRequest:
    """Raises msgspec.MsgspecError, whatever is wrong: msgspec itself has other words for text and for depth."""
    try:
        return _requests.decode(line)
    except (UnicodeDecodeError, RecursionError) as fault:
        raise msgspec.DecodeError(str(fault)) from fault


class ControlServer:
    """Everybody who is connected to the control socket."""

    def __init__(self, hello: Hello, answer: Answer) -> None:
        self._hello = hello
        self._answer = answer
        self._clients = 0
        self._encoder = msgspec.json.Encoder()

    async def serve(self, end: socket.socket) -> None:
        """Until cancelled; `end` is closed then."""
        await trio.serve_listeners(self.receive, [trio.SocketListener(trio.socket.from_stdlib_socket(end))])

    async def receive(self, stream: trio.abc.Stream) -> None:
        """Converse with one client to the end; whatever happens stays here."""
        self._clients += 1
        try:
            async with stream:
                await self._converse(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            pass  # gone, or does not read what it asked for
        except Exception:  # noqa: BLE001 - the outermost loop of a client
            _log.exception("control conversation failed")
        finally:
            self._clients -= 1

    async def _converse(self, stream: trio.abc.Stream) -> None:
        async def say(reply: Reply) -> None:
            with trio.fail_after(CONTROL_SEND_SECONDS_MAX):
                await stream.send_all(self._encoder.encode(reply) + b"\n")

        if self._clients > CONTROL_CLIENTS_MAX:
            await say(Refused("busy", f"{CONTROL_CLIENTS_MAX} others are connected already"))
            return
        await say(self._hello)
        lines = Lines(CONTROL_REQUEST_BYTES_MAX)
        while True:
            data: bytes | bytearray = b""
            with trio.move_on_after(CONTROL_IDLE_SECONDS) as patience:
                data = await stream.receive_some(CONTROL_REQUEST_BYTES_MAX)
            if patience.cancelled_caught:
                await say(Refused("too-slow", f"nothing was asked for {CONTROL_IDLE_SECONDS:g} seconds"))
                return
            if not data:
                return
            try:
                requests = lines.feed(data)
            except LineTooLong:
                await say(Refused("too-large", f"a request has {CONTROL_REQUEST_BYTES_MAX} bytes at most"))
                return
            for request in requests:
                await self._serve(request, say)

    async def _serve(self, line: bytes, say: Say) -> None:
        """Answer one request, or say why not."""
        try:
            request = read_request(line)
        except msgspec.MsgspecError as fault:
            await say(Refused("bad-request", str(fault)))
            return
        try:
            with trio.fail_after(seconds := _SECONDS_MAX.get(type(request), CONTROL_ANSWER_SECONDS_MAX)):
                await self._answer(request, say)
        except trio.TooSlowError:
            await say(Refused("too-slow", f"no answer within {seconds:g} seconds"))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise
        except Exception as fault:  # noqa: BLE001 - one request that fails is told to whoever asked, and logged
            _log.exception("control request failed", request=type(request).__name__)
            await say(Refused("failed", f"the broker has a defect, see its log: {fault}"))
