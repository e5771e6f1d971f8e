"""Descriptors that become ready when memory is short: kernel pressure files, event files, and what systemd passes on.

The kernel's rules, all of them measured:

* a trigger's window is a multiple of 2 s for whoever lacks CAP_SYS_RESOURCE, which includes root in a container;
* `/proc` overwrites the last byte of what is written, so a trigger ends in NUL or loses a digit;
* one trigger a descriptor, and it lives as long as the descriptor;
* a pressure file is always readable: only POLLPRI says something, and POLLERR that the trigger or the cgroup is gone;
* a plain file never polls as anything but ready: epoll refuses it, which is how it is recognised;
* a FIFO is opened for reading and writing, because without a writer it would be ready for ever; then what we write
  comes back to us and has to be swallowed.
"""

import os
import select
import socket
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

from ipc.limits import PRESSURE_PIPE_BYTES_MAX
from ipc.messages.commands import Level

SOME_TRIGGER: Final = b"some 200000 2000000\0"  # systemd's own: somebody waited for memory for 200 ms within 2 s
FULL_TRIGGER: Final = b"full 100000 2000000\0"  # everybody did, for 100 ms


class SourceUnavailable(Exception):
    """This machine, or this file, cannot report pressure; the text says why."""


class SourceGone(Exception):
    """It could, and no longer can: reopen it or take the next."""


class Source(Protocol):
    """A descriptor to poll for `mask`, and what it means when it is ready."""

    name: str
    mask: int

    def fileno(self) -> int: ...

    def read(self, events: int) -> Level | None:
        """The least that is called for, or None for a false alarm; raises SourceGone."""

    def close(self) -> None: ...


class TriggerFile:
    """A pressure file of `/proc` or a cgroup with one trigger; never read."""

    mask = select.POLLPRI

    def __init__(self, name: str, path: str | Path, trigger: bytes, floor: Level = Level.TRIM) -> None:
        self.name = name
        self._floor = floor
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as fault:
            raise SourceUnavailable(f"{path}: {fault.strerror}") from fault
        try:
            _must_be_pollable(self._descriptor, path)
            if trigger:
                os.write(self._descriptor, trigger)
        except OSError as fault:
            self.close()
            raise SourceUnavailable(f"{path} takes no trigger {trigger!r}: {fault.strerror}") from fault
        except SourceUnavailable:
            self.close()
            raise

    def fileno(self) -> int:
        return self._descriptor

    def read(self, events: int) -> Level | None:
        if events & (select.POLLERR | select.POLLNVAL):
            raise SourceGone(f"{self.name}: the kernel withdrew the trigger")
        return self._floor

    def close(self) -> None:
        os.close(self._descriptor)


class EventsFile:
    """A cgroup's `memory.events`: counters of what happened at its limits; polls as POLLPRI until read again."""

    mask = select.POLLPRI
    _ALARMING: Final = ("high", "max", "oom")

    def __init__(self, path: str | Path) -> None:
        self.name = "cgroup"
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as fault:
            raise SourceUnavailable(f"{path}: {fault.strerror}") from fault
        self._counted = self._count()

    def fileno(self) -> int:
        return self._descriptor

    def read(self, events: int) -> Level | None:
        # kernfs signals POLLERR beside POLLPRI for every change, so here it is no alarm; a removed file cannot be read.
        before, self._counted = self._counted, self._count()
        return Level.RELEASE if self._counted > before else None

    def close(self) -> None:
        os.close(self._descriptor)

    def _count(self) -> int:
        try:
            text = os.pread(self._descriptor, 4096, 0).decode()
        except OSError as fault:
            raise SourceGone(f"memory.events: {fault.strerror}") from fault
        counters = dict(line.split() for line in text.splitlines())
        return sum(int(counters.get(name, 0)) for name in self._ALARMING)


class Fifo:
    """A named pipe somebody writes to when memory is short."""

    mask = select.POLLIN

    def __init__(self, path: str | Path, greeting: bytes) -> None:
        self.name = "systemd"
        self._own_bytes = 0
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as fault:
            raise SourceUnavailable(f"{path}: {fault.strerror}") from fault
        try:
            if greeting:
                self._own_bytes = os.write(self._descriptor, greeting)
        except OSError as fault:
            self.close()
            raise SourceUnavailable(f"{path}: {fault.strerror}") from fault

    def fileno(self) -> int:
        return self._descriptor

    def read(self, events: int) -> Level | None:
        try:
            received = len(os.read(self._descriptor, PRESSURE_PIPE_BYTES_MAX))
        except BlockingIOError:
            return None
        own = min(received, self._own_bytes)
        self._own_bytes -= own
        return Level.TRIM if received > own else None

    def close(self) -> None:
        os.close(self._descriptor)


class StreamSocket:
    """An `AF_UNIX` stream whose other end writes when memory is short and hangs up when it stops watching."""

    mask = select.POLLIN

    def __init__(self, path: str | Path, greeting: bytes) -> None:
        self.name = "systemd"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(1.0)
            self._socket.connect(str(path))
            self._socket.sendall(greeting)
            self._socket.settimeout(0)
        except OSError as fault:
            self.close()
            raise SourceUnavailable(f"{path}: {fault}") from fault

    def fileno(self) -> int:
        return self._socket.fileno()

    def read(self, events: int) -> Level | None:
        try:
            received = self._socket.recv(PRESSURE_PIPE_BYTES_MAX)
        except BlockingIOError:
            return None
        except OSError as fault:
            raise SourceGone(f"systemd's socket: {fault.strerror}") from fault
        if not received:
            raise SourceGone("systemd hung up")
        return Level.TRIM

    def close(self) -> None:
        self._socket.close()


def systemd_source(path: str, greeting: bytes) -> Source:
    """What `MEMORY_PRESSURE_WATCH` names, by what kind of file it is; raises SourceUnavailable."""
    try:
        mode = os.stat(path).st_mode
    except OSError as fault:
        raise SourceUnavailable(f"{path}: {fault.strerror}") from fault
    if stat.S_ISFIFO(mode):
        return Fifo(path, greeting)
    if stat.S_ISSOCK(mode):
        return StreamSocket(path, greeting)
    if stat.S_ISREG(mode):
        return TriggerFile("systemd", path, greeting)
    raise SourceUnavailable(f"{path} is neither a file nor a FIFO nor a socket")


def wait_for_any(sources: Sequence[Source], wake: int) -> list[tuple[Source, int]]:
    """Block until some are ready, and say with which events; empty when `wake` became readable instead."""
    poll = select.poll()
    poll.register(wake, select.POLLIN)
    by_descriptor = {source.fileno(): source for source in sources}
    for descriptor, source in by_descriptor.items():
        poll.register(descriptor, source.mask)
    return [(by_descriptor[descriptor], events) for descriptor, events in poll.poll() if descriptor != wake]


def _must_be_pollable(descriptor: int, path: str | Path) -> None:
    with select.epoll() as epoll:
        try:
            epoll.register(descriptor, select.EPOLLPRI)
        except PermissionError as fault:
            raise SourceUnavailable(f"{path} is a plain file and will never report anything") from fault
