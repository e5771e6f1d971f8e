"""`ebbmq backup` and `ebbmq restore`: a copy of everything a running broker keeps, and a data directory made of it."""

import os
from pathlib import Path

import click

from ipc.data_directory import DataDirectory
from ipc.messages import control
from ipc.table import duration, shown, size
from runtime.cli.accounts import located, settings_of
from runtime.cli.asking import ask
from runtime.control.client import Answered
from runtime.supervisor import restoring


@click.command()
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print what the broker said, as JSON.")
@located
def backup(target: Path, as_json: bool, config: str | None, data_dir: str | None) -> None:
    """Copy all a running broker keeps to the directory TARGET, which is new or empty.

    The broker writes it, with its own rights, and its clients are served meanwhile. Everything that was confirmed
    before the command began is in it, and each virtual host is as it was at one moment. It is complete when this
    command says so.
    """
    request = control.BackUp(os.path.abspath(target))
    ask(request, show, as_json=as_json, config=config, data_dir=data_dir)


def show(answered: Answered) -> None:
    for made in answered.all(control.Backup):
        linked = f", {made.files_linked} of them linked" if made.files_linked else ""
        click.echo(
            f"backed up {made.vhosts} virtual hosts to {shown(made.target)}: {size(made.bytes)} in {made.files} files"
            f"{linked}, in {duration(made.seconds)}; clients waited {duration(made.cut_seconds_longest)} at most"
        )


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@located
def restore(source: Path, config: str | None, data_dir: str | None) -> None:
    """Make a data directory of the backup in SOURCE; no broker may use it, and it has to be new or empty.

    Checksums are verified before anything is written. The backup stays as it is.
    """
    paths = DataDirectory(settings_of(config, data_dir).main.data_dir)
    found = restoring.restore(source, paths)
    click.echo(
        f"restored {len(found.vhosts)} virtual hosts to {shown(str(paths.root))}: {size(found.bytes)} in "
        f"{len(found.files)} files, as they were at {found.began_at:%Y-%m-%d %H:%M:%S} UTC or later"
    )
