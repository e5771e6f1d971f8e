"""Asks a running broker over its control socket, as commands do: one request, and its answer line by line."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

import msgspec

from ipc.data_directory import DataDirectory
from ipc.errors import ControlFailed, ExitCode
from ipc.limits import CONTROL_ANSWER_SECONDS_MAX, CONTROL_REPLY_BYTES_MAX, KIB
from ipc.lines import Lines, LineTooLong
from ipc.messages.control import PROTOCOL, ControlReply, End, Hello, Progress, Refused, Reply, Request
from runtime.control.place import connect

Kind = TypeVar("Kind", bound=Reply)

_READ_BYTES: Final = 64 * KIB
_MARGIN_SECONDS: Final = 5.0  # the broker keeps its deadlines itself


class Answered(msgspec.Struct):
    """All lines of an answer, and who is missing in it."""

    replies: list[Reply]
    end: End

    def all(self, kind: type[Kind]) -> list[Kind]:
        """Its lines of one kind, in order."""
        return [reply for reply in self.replies if isinstance(reply, kind)]


class Control:
    """A conversation with a broker."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._lines = Lines(CONTROL_REPLY_BYTES_MAX)
        self._pending: list[bytes] = []
        self._decoder: msgspec.json.Decoder[ControlReply] = msgspec.json.Decoder(ControlReply)
        self._version = "of unknown version"
        self.hello = self._greeted()
        self._version = self.hello.version

    def ask(self, request: Request) -> Answered:
        """The whole answer, without signs of life that came before it. Raises ControlFailed."""
        try:
            self._end.sendall(msgspec.json.encode(request) + b"\n")
        except OSError as fault:
            raise _lost(fault) from fault
        replies: list[Reply] = []
        while not isinstance(reply := self._next(), End):
            if isinstance(reply, Refused):
                raise ControlFailed(ExitCode.FAILED, f"the broker refuses: {reply.text}")
            if not isinstance(reply, Progress):
                replies.append(reply)
        return Answered(replies, reply)

    def _greeted(self) -> Hello:
        reply = self._next()
        if isinstance(reply, Refused):
            raise ControlFailed(ExitCode.FAILED, f"the broker refuses: {reply.text}")
        if not isinstance(reply, Hello) or reply.protocol != PROTOCOL:
            raise ControlFailed(ExitCode.FAILED, "the broker speaks another protocol: use the ebbmq of its version")
        return reply

    def _next(self) -> ControlReply:
        try:
            while not self._pending:
                data = self._end.recv(_READ_BYTES)
                if not data:
                    raise ControlFailed(ExitCode.FAILED, "the broker ended the conversation")
                self._pending = self._lines.feed(data)[::-1]
            return self._decoder.decode(self._pending.pop())
        except OSError as fault:
            raise _lost(fault) from fault
        except (msgspec.MsgspecError, LineTooLong) as fault:
            raise ControlFailed(ExitCode.FAILED, f"the broker, {self._version}, is not understood: {fault}") from fault


@contextmanager
def conversation(paths: DataDirectory) -> Iterator[Control]:
    """With the broker that uses a data directory. Raises ControlFailed (NO_BROKER, CONTROL_DENIED, FAILED)."""
    try:
        end = connect(paths.control, seconds=CONTROL_ANSWER_SECONDS_MAX + _MARGIN_SECONDS)
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError) as fault:
        raise ControlFailed(ExitCode.NO_BROKER, f"no broker runs on data directory {paths.root}") from fault
    except PermissionError as fault:
        raise ControlFailed(
            ExitCode.CONTROL_DENIED, f"{paths.control} is for the user the broker runs as, and for root"
        ) from fault
    except OSError as fault:
        raise _lost(fault) from fault
    with end:
        yield Control(end)


def _lost(fault: OSError) -> ControlFailed:
    return ControlFailed(ExitCode.FAILED, f"the broker does not answer: {fault}")
