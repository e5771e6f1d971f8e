"""Asks the broker that runs on a data directory, for one command."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
import msgspec

from ipc.data_directory import DataDirectory
from ipc.errors import ControlFailed, ExitCode
from ipc.messages import control
from runtime.cli.accounts import settings_of
from runtime.control.client import Answered, Control, conversation
from runtime.supervisor.data_lock import owner


@contextmanager
def running_broker(config: str | None, data_dir: str | None) -> Iterator[Control]:
    """The broker that uses this data directory. Raises ControlFailed."""
    paths = DataDirectory(settings_of(config, data_dir).main.data_dir)
    try:
        with conversation(paths) as broker:
            yield broker
    except ControlFailed as failed:
        if failed.exit_code is not ExitCode.NO_BROKER or (pid := owner(paths)) is None:
            raise
        sentence = f"process {pid} uses data directory {paths.root}, but it has no control socket: see its log"
        raise ControlFailed(failed.exit_code, sentence) from failed


def ask(
    request: control.Request,
    show: Callable[[Answered], None],
    *,
    as_json: bool,
    config: str | None,
    data_dir: str | None,
    require: Callable[[Answered], None] = lambda _answered: None,
) -> None:
    """Print what the broker answers, as JSON or as `show` does.

    Raises ControlFailed, as `require` may when it has seen what was said.
    """
    with running_broker(config, data_dir) as broker:
        answered = broker.ask(request)
    if as_json:
        _print_json(answered)
    else:
        show(answered)
    require(answered)
    require_all(answered.end.silent)


def _print_json(answered: Answered) -> None:
    """One document: every line of the answer, as the broker said it."""
    lines = [*answered.replies, answered.end]
    click.echo(msgspec.json.format(msgspec.json.encode(lines), indent=2).decode())


def require_all(silent: tuple[control.Silent, ...]) -> None:
    """Raises ControlFailed (ANSWER_INCOMPLETE), which names the shards that are missing in what was printed."""
    if silent:
        missing = "; ".join(f"shard {shard.shard} is missing: {shard.reason}" for shard in silent)
        raise ControlFailed(ExitCode.ANSWER_INCOMPLETE, missing)
