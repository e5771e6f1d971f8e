"""Definitions: everything a broker is set up with, out to a file and in from one."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Final

import click

from ipc.errors import ControlFailed
from runtime.cli.ctl.client import Api, ApiRefused
from runtime.cli.ctl.command import command
from runtime.cli.ctl.context import NO_MEANING, Ctl
from runtime.cli.ctl.progress import Advance, is_watched, progress

_OF_VHOST: Final = click.option("--vhost-only", is_flag=True, help="Only of the virtual host given by -p.")
_COUNTED: Final = ("exchanges", "queues")  # sections of a file that the broker says the numbers of
_LOOK_SECONDS: Final = 0.5


@command(click.argument("file", default="-"), _OF_VHOST)
def export_definitions(ctl: Ctl, file: str, vhost_only: bool) -> None:
    """Write definitions to FILE, or to standard output for `-`, as JSON."""
    where = ("definitions", ctl.vhost) if vhost_only else ("definitions",)
    if file != "-":
        ctl.output.note(f'Exporting definitions in JSON to a file at "{file}" ...')
    with progress("Exporting definitions, bytes") as advance:
        found = json.loads(ctl.api.read(*where, advance=advance))
    written = json.dumps(found, indent=2, ensure_ascii=False) + "\n"
    if file == "-":
        click.echo(written, nl=False)
        return
    try:
        Path(file).write_text(written)
    except OSError as fault:
        raise click.ClickException(f"{file}: {fault.strerror}") from fault


@command(
    click.argument("file", default="-"),
    _OF_VHOST,
    click.option(
        "--skip-if-unchanged", is_flag=True, help=f"{NO_MEANING}: what is there already stays and costs little."
    ),
)
def import_definitions(ctl: Ctl, file: str, vhost_only: bool, skip_if_unchanged: bool) -> None:
    """Take over definitions from FILE, or from standard input for `-`, all or nothing; what is there already stays."""
    try:
        read = sys.stdin.read() if file == "-" else Path(file).read_text()
        definitions = json.loads(read)
    except (OSError, ValueError) as fault:
        raise click.ClickException(f"{file}: {fault}") from fault
    where = ("definitions", ctl.vhost) if vhost_only else ("definitions",)
    ctl.output.note(f"Importing definitions in JSON from {'standard input' if file == '-' else file} ...")
    total = sum(len(definitions.get(section, ())) for section in _COUNTED) if isinstance(definitions, dict) else 0
    with progress("Importing definitions", total) as advance, _watching(ctl, advance):
        ctl.api.post(*where, body=definitions)
    ctl.output.note("Imported definitions")


@contextmanager
def _watching(ctl: Ctl, advance: Advance) -> Iterator[None]:
    """While the broker is busy with what it was sent, ask it how many things there are."""
    if not is_watched():
        yield
        return
    over = Event()
    api = ctl.reach()
    watch = Thread(target=_count, args=(api, advance, over))
    watch.start()
    try:
        yield
    finally:
        over.set()
        watch.join()
        api.close()


def _count(api: Api, advance: Advance, over: Event) -> None:
    """Tell how many more there are than at the beginning, until it is `over`."""
    before: int | None = None
    while not over.wait(_LOOK_SECONDS):
        try:
            totals = api.get("overview")["object_totals"]
        except (ControlFailed, ApiRefused):
            return  # whoever imports is told why
        count = sum(totals[section] for section in _COUNTED)
        before = count if before is None else before
        advance(count - before)
