"""The log: what was logged last and what comes, where it goes, and from which level on."""

import json
import signal
from collections import deque
from datetime import UTC, datetime
from typing import Any, Final, get_args

import click

from ipc.settings import LogLevel
from runtime.cli.ctl.command import command
from runtime.cli.ctl.context import NO_MEANING, Ctl

_LINES: Final = 50


@command(
    click.option("-N", "--number", type=click.IntRange(0), default=_LINES, help="How many lines. [default: 50]"),
)
def log_tail(ctl: Ctl, number: int) -> None:
    """Print the last lines of the log."""
    for line in deque(ctl.api.get("logs"), number):
        _print(ctl, line)


@command(
    click.option(
        "-d", "--duration", type=click.FloatRange(0, min_open=True), help="For so many seconds, and not more."
    ),
)
def log_tail_stream(ctl: Ctl, duration: float | None) -> None:
    """Print the last lines of the log, and those that come, until interrupted."""
    if duration is not None:
        signal.signal(signal.SIGALRM, _be_done)
        signal.setitimer(signal.ITIMER_REAL, duration)
    try:
        for identity, kind, data in ctl.api.events("livelog"):
            if kind == "lost":
                click.echo(f"({data} lines are lost)", err=True)
                continue
            severity, source, message = json.loads(data)
            at = datetime.fromtimestamp(int(identity.partition("-")[0]) / 1000, UTC)
            stamp = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
            _print(
                ctl, {"id": identity, "timestamp": stamp, "severity": severity, "source": source, "message": message}
            )
    except _Done:
        pass


class _Done(Exception):
    """The time is up."""


def _be_done(_number: int, _frame: object) -> None:
    raise _Done


def _print(ctl: Ctl, line: dict[str, Any]) -> None:
    if ctl.output.form == "json":
        click.echo(json.dumps(line))
    else:
        click.echo(f"{line['timestamp']} [{line['severity']}] {line['source']} - {line['message']}")


@command(click.option("-a", "--all", "_all", is_flag=True, help=f"{NO_MEANING}: there is one place."))
def log_location(ctl: Ctl, _all: bool) -> None:
    """Print where the log goes: a file, or standard error, which a service manager may keep."""
    location = ctl.api.get("log")["location"]
    ctl.output.document({"location": location}) if ctl.output.form == "json" else click.echo(location)


@command(click.argument("level", type=click.Choice(get_args(LogLevel))))
def set_log_level(ctl: Ctl, level: str) -> None:
    """Log from LEVEL on in all processes, until the broker is started or reads its settings again."""
    ctl.output.note(f"Setting log level to {level} ...")
    ctl.api.put("log", "level", body={"level": level})


@command()
def rotate_logs(ctl: Ctl) -> None:
    """Have the log file opened anew, after it was moved away; without one there is nothing to rotate."""
    ctl.api.post("log", "rotate")
    ctl.output.note("The log file was opened anew.")
