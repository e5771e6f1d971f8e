"""Pressure sources against real descriptors: what systemd may pass on, and what the kernel offers here."""

import os
import select
import socket
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipc.messages.commands import Level
from runtime.pressure.averages import SYSTEM_PRESSURE
from runtime.pressure.chain import open_best
from runtime.pressure.sources import (
    SOME_TRIGGER,
    EventsFile,
    Fifo,
    Source,
    SourceGone,
    SourceUnavailable,
    StreamSocket,
    TriggerFile,
    systemd_source,
)

needs_pressure = pytest.mark.skipif(
    not os.access(SYSTEM_PRESSURE, os.W_OK), reason=f"this kernel has no writable {SYSTEM_PRESSURE}"
)


def events_of(source: Source, seconds: float = 0) -> int:
    """What poll says about it; 0 for nothing."""
    poll = select.poll()
    poll.register(source.fileno(), source.mask)
    return next((events for _, events in poll.poll(seconds * 1000)), 0)


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "pressure"
    os.mkfifo(path)
    return path


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        listening.listen(1)
        yield listening


def test_a_fifo_reports_what_others_write(fifo: Path) -> None:
    source = systemd_source(str(fifo), b"")
    assert isinstance(source, Fifo)
    assert events_of(source) == 0

    fifo.write_bytes(b"!")

    assert source.read(events_of(source)) is Level.TRIM
    assert events_of(source) == 0
    source.close()


def test_a_fifo_swallows_exactly_what_we_wrote_ourselves(fifo: Path) -> None:
    source = Fifo(fifo, b"hello")

    assert source.read(events_of(source)) is None
    fifo.write_bytes(b"!")
    assert source.read(events_of(source)) is Level.TRIM
    source.close()


def test_what_others_wrote_behind_our_own_bytes_is_heard(fifo: Path) -> None:
    source = Fifo(fifo, b"hello")
    fifo.write_bytes(b"!")

    assert source.read(events_of(source)) is Level.TRIM
    source.close()


def test_a_fifo_is_quiet_after_its_writers_left(fifo: Path) -> None:
    source = Fifo(fifo, b"")
    fifo.write_bytes(b"!")
    source.read(events_of(source))

    assert events_of(source, seconds=0.02) == 0
    source.close()


def test_a_stream_socket_is_greeted_and_reports_until_it_hangs_up(listening: socket.socket) -> None:
    source = systemd_source(listening.getsockname(), b"some 200000 2000000\0")
    assert isinstance(source, StreamSocket)
    theirs, _ = listening.accept()
    assert theirs.recv(100) == b"some 200000 2000000\0"
    assert events_of(source) == 0

    theirs.send(b"!")
    assert source.read(events_of(source)) is Level.TRIM
    theirs.close()
    with pytest.raises(SourceGone):
        source.read(events_of(source))
    source.close()


def test_a_plain_file_is_unavailable_because_it_would_never_report(tmp_path: Path) -> None:
    path = tmp_path / "plain"
    path.write_bytes(b"")

    with pytest.raises(SourceUnavailable, match="plain file"):
        systemd_source(str(path), SOME_TRIGGER)
    assert path.read_bytes() == b""


@pytest.mark.parametrize("path", ["/nonexistent", "/dev/zero", "/tmp"])
def test_other_paths_are_unavailable(path: str) -> None:
    with pytest.raises(SourceUnavailable):
        systemd_source(path, b"")


@needs_pressure
def test_the_kernel_takes_our_triggers_and_stays_quiet_without_pressure() -> None:
    source = TriggerFile("system", SYSTEM_PRESSURE, b"some 1999999 2000000\0")

    assert not events_of(source) & select.POLLERR
    source.close()


@needs_pressure
@pytest.mark.parametrize("trigger", [b"some 200000 2000000", b"nonsense\0", b"some 3000000 2000000\0"])
def test_a_trigger_the_kernel_refuses_is_reported(trigger: bytes) -> None:
    """The first lacks its NUL: `/proc` would overwrite its last digit."""
    with pytest.raises(SourceUnavailable, match="takes no trigger"):
        TriggerFile("system", SYSTEM_PRESSURE, trigger)


@needs_pressure
def test_a_pressure_file_without_a_trigger_is_gone_at_once() -> None:
    source = TriggerFile("system", SYSTEM_PRESSURE, b"")

    with pytest.raises(SourceGone):
        source.read(events_of(source, seconds=1))
    source.close()


def test_only_counters_that_grow_are_an_alarm(tmp_path: Path) -> None:
    path = tmp_path / "memory.events"
    path.write_text("low 0\nhigh 3\nmax 0\noom 0\noom_kill 0\n")
    source = EventsFile(path)

    assert source.read(select.POLLPRI | select.POLLERR) is None
    path.write_text("low 9\nhigh 3\nmax 0\noom 0\noom_kill 0\n")
    assert source.read(select.POLLPRI | select.POLLERR) is None
    path.write_text("low 9\nhigh 4\nmax 0\noom 0\noom_kill 0\n")
    assert source.read(select.POLLPRI | select.POLLERR) is Level.RELEASE
    source.close()


# the chain ------------------------------------------------------------------------------------------------------------


def test_systemd_comes_first(fifo: Path) -> None:
    greeting = b64encode(b"hi").decode()

    opened = open_best("auto", {"MEMORY_PRESSURE_WATCH": str(fifo), "MEMORY_PRESSURE_WRITE": greeting})

    assert (opened.name, opened.reasons) == ("systemd", [])
    assert opened.sources[0].read(select.POLLIN) is None
    opened.close()


@pytest.mark.parametrize("wanted", ["auto", "systemd"])
def test_systemd_may_switch_it_off(wanted: str) -> None:
    opened = open_best(wanted, {"MEMORY_PRESSURE_WATCH": "/dev/null"})

    assert (opened.name, opened.sources) == ("none", [])


def test_the_settings_may_switch_it_off(fifo: Path) -> None:
    assert open_best("none", {"MEMORY_PRESSURE_WATCH": str(fifo)}).name == "none"


def test_polling_needs_nothing() -> None:
    opened = open_best("poll", {})

    assert (opened.name, opened.sources, opened.reasons) == ("poll", [], [])


@pytest.mark.parametrize(
    "environment",
    [{}, {"MEMORY_PRESSURE_WATCH": "/nonexistent"}, {"MEMORY_PRESSURE_WATCH": "/tmp", "MEMORY_PRESSURE_WRITE": "?"}],
)
def test_the_next_best_is_taken_and_says_why(environment: dict[str, str]) -> None:
    opened = open_best("auto", environment)

    assert opened.name in ("cgroup", "system", "poll")
    assert opened.reasons[0].startswith("systemd: ")
    opened.close()


@needs_pressure
def test_a_wanted_source_is_where_the_chain_begins() -> None:
    opened = open_best("system", {})

    assert (opened.name, opened.reasons) == ("system", [])
    assert [source.mask for source in opened.sources] == [select.POLLPRI] * 2
    opened.close()
