"""Asks the broker that runs on a data directory, for one command."""

from collections.abc import Iterator
from contextlib import contextmanager

import click
import msgspec

from ipc.data_directory import DataDirectory
from ipc.errors import ControlFailed, ExitCode
from ipc.messages.control import Silent
from runtime.cli.accounts import settings_of
from runtime.control.client import Answered, Control, conversation
from runtime.supervisor.data_lock import owner


@contextmanager
def running_broker(config: str | None, data_dir: str | None) -> Iterator[Control]:
    """The broker that uses this data directory. Raises ControlFailed."""
    paths = DataDirectory(settings_of(config, data_dir).main.data_dir)
    try:
        with conversation(paths) as control:
            yield control
    except ControlFailed as failed:
        if failed.exit_code is not ExitCode.NO_BROKER or (pid := owner(paths)) is None:
            raise
        sentence = f"process {pid} uses data directory {paths.root}, but it has no control socket: see its log"
        raise ControlFailed(failed.exit_code, sentence) from failed


def print_json(answered: Answered) -> None:
    """One document: every line of the answer, as the broker said it."""
    lines = [*answered.replies, answered.end]
    click.echo(msgspec.json.format(msgspec.json.encode(lines), indent=2).decode())


def complain_of(silent: tuple[Silent, ...]) -> None:
    """Name the shards that are missing in what was printed, and end with ANSWER_INCOMPLETE if there are any."""
    for shard in silent:
        click.echo(f"shard {shard.shard} is missing: {shard.reason}", err=True)
    if silent:
        raise click.exceptions.Exit(ExitCode.ANSWER_INCOMPLETE)
