"""The beginning and the end of a broker, and waiting for either."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from ipc.data_directory import DataDirectory
from ipc.errors import ControlFailed, ExitCode
from ipc.messages import control
from runtime.cli.ctl.client import ApiRefused
from runtime.cli.ctl.command import command
from runtime.cli.ctl.context import Ctl
from runtime.cli.ctl.progress import Advance, is_watched, progress
from runtime.control.client import conversation
from runtime.supervisor.data_lock import owner

_PATIENCE_SECONDS: Final = 300.0
_POLL_SECONDS: Final = 0.25
_ASK_SECONDS: Final = 10.0

_SECONDS: Final = click.option(
    "--seconds",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="How long to wait, as --timeout says. [default: 300]",
)
_PID_FILE: Final = click.argument("pid_file", required=False)


def _patience(ctl: Ctl, seconds: float | None = None) -> float:
    if seconds is not None:
        return seconds
    return ctl.timeout_seconds or _PATIENCE_SECONDS


# the beginning --------------------------------------------------------------------------------------------------------


@command(_SECONDS)
def await_startup(ctl: Ctl, seconds: float | None) -> None:
    """Wait until clients may come."""
    _await_ready(ctl, _patience(ctl, seconds))


@command(click.argument("count", type=click.IntRange(min=1)))
def await_online_nodes(ctl: Ctl, count: int) -> None:
    """Wait until COUNT nodes serve clients; more than one there will never be."""
    if count > 1:
        raise ControlFailed(ExitCode.UNAVAILABLE, "a broker is one node here, and no others join it.")
    _await_ready(ctl, _patience(ctl))


@command(
    _PID_FILE,
    click.option("-P", "--pid", type=int, metavar="PID", help="Wait for the broker that is this process."),
)
def wait(ctl: Ctl, pid_file: str | None, pid: int | None) -> None:
    """Wait until the process in PID_FILE, or with --pid, serves clients; fail when it ends before that."""
    if (pid_file is None) == (pid is None):
        raise click.UsageError("name either a file with a number of a process or --pid")
    deadline = time.monotonic() + _patience(ctl)
    if pid_file is not None:
        pid = _read_pid(Path(pid_file), deadline)
    assert pid is not None
    ctl.output.note(f"Waiting for pid {pid} ...")
    _await_ready(ctl, deadline - time.monotonic(), lambda: _require_alive(pid))
    if not ctl.remote_uri and (found := owner(ctl.paths)) != pid:
        raise click.ClickException(f"the broker on data directory {ctl.paths.root} is process {found}, not {pid}")


def _read_pid(path: Path, deadline: float) -> int:
    """Whoever starts writes the file, if it does not stand there already."""
    while True:
        try:
            return int(path.read_text())
        except (OSError, ValueError) as fault:
            if time.monotonic() > deadline:
                raise ControlFailed(ExitCode.NO_BROKER, f"no number of a process in {path}: {fault}") from fault
        time.sleep(_POLL_SECONDS)


def _require_alive(pid: int) -> None:
    if not Path(f"/proc/{pid}").exists():
        raise click.ClickException(f"process {pid} is not running")


def _await_ready(ctl: Ctl, seconds: float, look: Callable[[], None] = lambda: None) -> None:
    """`look` raises when there is nothing to wait for any more."""
    deadline = time.monotonic() + seconds
    ctl.timeout_seconds = max(min(seconds, _ASK_SECONDS), _POLL_SECONDS)
    with progress("Waiting for the broker"):
        while True:
            look()
            try:
                ctl.api.get("health", "checks", "ready")
                return
            except (ControlFailed, ApiRefused) as fault:
                if time.monotonic() > deadline:
                    raise ControlFailed(ExitCode.NO_BROKER, f"the broker is not ready: {fault}") from fault
            time.sleep(_POLL_SECONDS)


# the end --------------------------------------------------------------------------------------------------------------


@command(_SECONDS)
def drain(ctl: Ctl, seconds: float | None) -> None:
    """End the broker in order, and wait until it is gone: clients are told, everything is written."""
    _end(ctl, _patience(ctl, seconds))


@command(
    _PID_FILE,
    _SECONDS,
    click.option("--idempotent", is_flag=True, help="End with 0 where no broker runs."),
)
def stop(ctl: Ctl, pid_file: str | None, seconds: float | None, idempotent: bool) -> None:
    """End the broker like drain; PID_FILE is not looked at."""
    if idempotent and not ctl.remote_uri and owner(ctl.paths) is None:
        ctl.output.note(f"No broker runs on data directory {ctl.paths.root}")
        return
    _end(ctl, _patience(ctl, seconds))


@command(click.option("--wait/--no-wait", "waits", default=True, help="Until it is gone. [default: --wait]"))
def shutdown(ctl: Ctl, waits: bool) -> None:
    """End the broker like drain."""
    _end(ctl, _patience(ctl) if waits else None)


@command()
def stop_app(ctl: Ctl) -> None:
    """Do nothing: there is no application apart from the process."""
    ctl.output.note("There is no application apart from the process; see `drain`.")


@command()
def start_app(ctl: Ctl) -> None:
    """Do nothing: there is no application apart from the process."""
    ctl.output.note("There is no application apart from the process.")


def _end(ctl: Ctl, seconds: float | None) -> None:
    """Have it drained; None: do not wait for it."""
    if ctl.remote_uri:
        raise click.UsageError("a broker is ended by a signal, and so only from its own machine")
    paths = ctl.paths
    pid = owner(paths)
    if pid is None:
        raise ControlFailed(ExitCode.NO_BROKER, f"no broker runs on data directory {paths.root}")
    connections = _connections(paths) if is_watched() else None
    descriptor = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGTERM)
    finally:
        os.close(descriptor)
    if seconds is not None:
        with progress("Draining connections" if connections else "Draining", connections) as advance:
            _await_end(paths, pid, seconds, _leaving(paths, connections, advance))


def _await_end(paths: DataDirectory, pid: int, seconds: float, look: Callable[[], None]) -> None:
    deadline = time.monotonic() + seconds
    while owner(paths) == pid:
        if time.monotonic() > deadline:
            raise ControlFailed(ExitCode.ANSWER_INCOMPLETE, f"process {pid} has not ended yet")
        look()
        time.sleep(_POLL_SECONDS)


def _leaving(paths: DataDirectory, connections: int | None, advance: Advance) -> Callable[[], None]:
    """Tells how many of the connections are gone; shards that have ended answer for nobody."""
    if not connections:
        return lambda: None
    return lambda: advance(connections - (_connections(paths) or 0))


def _connections(paths: DataDirectory) -> int | None:
    """Over the control socket, which answers to the end; None: nobody says."""
    try:
        with conversation(paths) as broker:
            return sum(shard.connections for shard in broker.ask(control.Status()).all(control.Shard))
    except ControlFailed:
        return None
