"""An AMQP client: opens a connection, asks and is answered, and says in one sentence what went wrong.

What it does in several steps is a generator of questions that is sent the answers, so that it can be done at once
(`perform`) or while others wait for theirs. Hot loops take its `socket` and do without it.
"""

import select
import socket
import struct
import time
from collections.abc import Generator, Sequence
from typing import Any, Final, TypeVar

import click
from pamqp import base, commands

from ipc.errors import ConnectionRefusal
from ipc.wire.amqp import frames, methods
from runtime.cli.perf.target import Target

Answer = TypeVar("Answer", bound=base.Frame)

Steps = Generator[tuple[bytes, int], bytes, None]
"""Yields encoded requests, each with class and method of its answer, whose payload it is sent."""

FRAME_BYTES_MAX: Final = 128 * 1024  # asked for, however much the broker offers
RECEIVE_BYTES: Final = 64 * 1024
PATIENCE_SECONDS: Final = 30.0  # for any answer
GOODBYE_SECONDS: Final = 5.0  # for connection.close-ok, deliveries under way included
CHANNEL: Final = 1

_CLOSE_OK: Final = methods.frame(0, commands.Connection.CloseOk())
_GOODBYE: Final = methods.frame(0, commands.Connection.Close(200, "bye", 0, 0))
_OPEN_CHANNEL: Final = methods.frame(CHANNEL, commands.Channel.Open())
_CHANNEL_CLOSE_OK: Final = methods.frame(CHANNEL, commands.Channel.CloseOk())

_PROPERTIES: Final[dict[str, Any]] = {
    "product": "ebbmq perf",
    "capabilities": {
        "publisher_confirms": True,
        "basic.nack": True,
        "consumer_cancel_notify": True,
        "authentication_failure_close": True,
    },
}
_NOTICES: Final = {commands.Connection.Blocked.index, commands.Connection.Unblocked.index}


class Refused(click.ClickException):
    """The broker cannot be reached or will not do what the load needs; the message is one sentence."""


class Closed(Refused):
    """The broker closed a channel or the connection; `code` is its reply code, 0 when it only hung up."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class Garbled(Refused):
    """What came is no AMQP 0-9-1."""


def encoded(kind: type[base.Frame], channel: int = CHANNEL, **fields: Any) -> bytes:
    """A method frame with any names.

    Raises Refused for names that are too long and arguments that no table can hold.
    """
    method = methods.make(kind, **fields)
    try:
        return methods.frame(channel, method)
    except (TypeError, ValueError, OverflowError, struct.error) as fault:
        raise Refused(f"{method.name} cannot be encoded: {fault}") from fault


class Greeting:
    """What every connection to a target says; encoded once, because churn says it thousands of times."""

    def __init__(self, target: Target) -> None:
        self.target = target
        start_ok = commands.Connection.StartOk(_PROPERTIES, "PLAIN", f"\0{target.user}\0{target.password}", "en_US")
        self.start_ok = methods.frame(0, start_ok)
        self.open = encoded(commands.Connection.Open, 0, virtual_host=target.vhost)
        try:
            found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        except OSError as fault:
            raise Refused(f"cannot connect to {target}: {fault.strerror}") from fault
        self.addresses = tuple((family, address) for family, _, _, _, address in found)


class Client:
    """One connection: to the kernel when constructed, to the broker after `opening()`."""

    __slots__ = ("_greeting", "_has_lost_channel", "_received", "frame_max", "socket")

    def __init__(self, greeting: Greeting) -> None:
        self._greeting = greeting
        self._received = b""
        self._has_lost_channel = False
        self.frame_max = FRAME_BYTES_MAX
        self.socket = _connect(greeting)

    def opening(self) -> Steps:
        greeting = self._greeting
        target = greeting.target
        try:
            yield frames.PROTOCOL_HEADER, commands.Connection.Start.index
        except (Closed, Garbled) as fault:
            raise Refused(f"{target} does not speak AMQP 0-9-1") from fault
        try:
            tune = yield greeting.start_ok, commands.Connection.Tune.index
        except Closed as closed:
            reason = f": {closed.message}" if closed.code else ""
            raise Refused(f"{target} refused the login of user '{target.user}'{reason}") from closed
        channel_max, frame_max, _heartbeat_seconds = struct.unpack_from(">HIH", tune, 4)
        self.frame_max = min(frame_max or FRAME_BYTES_MAX, FRAME_BYTES_MAX)
        # A load tool that is too busy to send heartbeats must not be cut off for it.
        tune_ok = commands.Connection.TuneOk(channel_max, self.frame_max, 0)
        try:
            yield methods.frame(0, tune_ok) + greeting.open, commands.Connection.OpenOk.index
        except Closed as closed:
            reason = f": {closed.message}" if closed.code else ""
            raise Refused(f"{target} refused virtual host '{target.vhost}' to user '{target.user}'{reason}") from closed

    def opening_channel(self) -> Steps:
        yield _OPEN_CHANNEL, commands.Channel.OpenOk.index

    def closing(self) -> Steps:
        yield _GOODBYE, commands.Connection.CloseOk.index
        self.socket.close()

    @property
    def target(self) -> Target:
        return self._greeting.target

    def _reopen_channel(self) -> None:
        self._has_lost_channel = False
        self.send(_CHANNEL_CLOSE_OK)
        self.perform(self.opening_channel())

    def close(self) -> None:
        """Say goodbye and hang up; never raises."""
        close_all([self])

    # asking -----------------------------------------------------------------------------------------------------------

    def perform(self, steps: Steps) -> None:
        """All of them, waiting for each answer."""
        try:
            request, wanted = next(steps)
            while True:
                try:
                    answer = self.ask(request, wanted)
                except Refused as fault:
                    request, wanted = steps.throw(fault)
                else:
                    request, wanted = steps.send(answer)
        except StopIteration:
            pass

    def call(self, kind: type[base.Frame], answer: type[Answer], **fields: Any) -> Answer:
        """Ask on channel 1, which is opened again if it was lost.

        Raises Closed when the broker closes the channel or the connection instead.
        """
        if self._has_lost_channel:
            self._reopen_channel()
        payload = self.ask(encoded(kind, **fields), answer.index)
        method = methods.decode(payload)
        assert isinstance(method, answer)
        return method

    def ask(self, request: bytes, answer: int) -> bytes:
        """Send what is encoded; the payload of the answer, `answer` being its class and method. Raises Refused."""
        self.request(request)
        while True:
            payload = self.find_answer(answer)
            if payload is not None:
                return payload
            self.receive()

    def request(self, request: bytes) -> None:
        """Send what will be answered."""
        try:
            self.socket.sendall(request)
        except OSError:
            pass  # the broker's reasons may still be there to read; if they are not, reading says so

    def send(self, request: bytes) -> None:
        """Say what has no answer."""
        try:
            self.socket.sendall(request)
        except OSError as fault:
            raise Closed(f"the connection to {self.target} broke: {fault.strerror}") from fault

    def find_answer(self, wanted: int) -> bytes | None:
        """The payload of this method, if it was received. Raises Refused for most others."""
        while (payload := self._next_method()) is not None:
            if int.from_bytes(payload[:4], "big") == wanted:
                return payload
            self.take(payload)
        return None

    def _next_method(self) -> bytes | None:
        while True:
            buffer = self._received
            try:
                frame = frames.scan(buffer, 0, self.frame_max)
            except ConnectionRefusal as fault:
                raise Garbled(f"{self.target} sent what is no AMQP 0-9-1: {fault.text}") from fault
            if frame is None:
                return None
            self._received = buffer[frame.end + 1 :]
            if frame.kind == frames.METHOD:
                return buffer[frame.start : frame.end]

    def take(self, payload: bytes) -> None:
        """Make sense of a method nobody asked for. Raises Refused unless it is a mere notice."""
        try:
            method = methods.decode(payload)
        except ConnectionRefusal as fault:
            raise Garbled(f"{self.target} sent what is no AMQP 0-9-1: {fault.text}") from fault
        if method.index in _NOTICES:
            return
        if isinstance(method, (commands.Channel.Close, commands.Connection.Close)):
            self._has_lost_channel = isinstance(method, commands.Channel.Close)
            raise Closed(f"the broker said {method.reply_code} {method.reply_text}", method.reply_code or 0)
        if isinstance(method, commands.Basic.Cancel):
            raise Closed("the broker cancelled a consumer: its queue is gone")
        raise Refused(f"the broker sent {method.name} out of turn")

    def receive(self) -> None:
        """Wait for more. Raises Refused when there will be none."""
        try:
            received = self.socket.recv(RECEIVE_BYTES)
        except BlockingIOError as fault:
            raise Refused(f"{self.target} did not answer within {PATIENCE_SECONDS:.0f} s") from fault
        except OSError:
            received = b""
        if not received:
            raise Closed(f"{self.target} closed the connection")
        self._received += received


def open_client(greeting: Greeting) -> Client:
    """A connection with channel 1. Raises Refused."""
    client = open_connection(greeting)
    client.perform(client.opening_channel())
    return client


def open_connection(greeting: Greeting) -> Client:
    client = Client(greeting)
    try:
        client.perform(client.opening())
    except BaseException:
        client.socket.close()
        raise
    return client


def close_all(clients: Sequence[Client]) -> None:
    """Say goodbye, so that everything sent is taken in, and hang up; never raises.

    Together, because a broker under load takes its time: they may have to read what it still delivers, and wait until
    it has read what they published.
    """
    farewells = {client.socket.fileno(): Farewell(client) for client in clients}
    poller = select.poll()
    for descriptor in farewells:
        poller.register(descriptor, select.POLLIN | select.POLLOUT)
    deadline = time.monotonic() + GOODBYE_SECONDS
    while farewells and (seconds := deadline - time.monotonic()) > 0:
        for descriptor, events in poller.poll(seconds * 1000):
            farewell = farewells[descriptor]
            farewell.proceed(events)
            if farewell.is_over:
                poller.unregister(descriptor)
                del farewells[descriptor]
            elif farewell.is_said:
                poller.modify(descriptor, select.POLLIN)
    for client in clients:
        client.socket.close()


class Farewell:
    """Of one connection: connection.close on its way out, connection.close-ok somewhere behind what still comes in."""

    def __init__(self, client: Client) -> None:
        self._socket = client.socket
        self._unsent = _GOODBYE
        self._tail = b""
        self.is_over = False

    @property
    def is_said(self) -> bool:
        return not self._unsent

    def proceed(self, events: int) -> None:
        try:
            if self._unsent and events & select.POLLOUT:
                self._unsent = self._unsent[self._socket.send(self._unsent, socket.MSG_DONTWAIT) :]
            if events & ~select.POLLOUT:
                received = self._socket.recv(RECEIVE_BYTES, socket.MSG_DONTWAIT)
                self._tail = (self._tail + received)[-len(_CLOSE_OK) :]
                self.is_over = not received or self._tail == _CLOSE_OK
        except BlockingIOError:
            pass
        except OSError:
            self.is_over = True


def set_patience(opened: socket.socket, seconds: float) -> None:
    """How long a call of this blocking socket may take before it raises BlockingIOError.

    The kernel's own time-out: Python's would cost one more system call for each call.
    """
    timeout = struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeout)


def _connect(greeting: Greeting) -> socket.socket:
    fault: OSError | None = None
    for family, address in greeting.addresses:
        opened = socket.socket(family, socket.SOCK_STREAM)
        try:
            set_patience(opened, PATIENCE_SECONDS)
            opened.connect(address)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BlockingIOError:
            opened.close()
            raise Refused(f"cannot connect to {greeting.target}: no answer within {PATIENCE_SECONDS:.0f} s") from None
        except OSError as failed:
            opened.close()
            fault = failed
        else:
            return opened
    assert fault is not None
    raise Refused(f"cannot connect to {greeting.target}: {fault.strerror or fault}")
