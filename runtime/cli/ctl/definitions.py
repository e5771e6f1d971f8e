"""Definitions: everything a broker is set up with, out to a file and in from one."""

import json
import sys
from pathlib import Path

import click
from rich.console import Console

from runtime.cli.ctl.command import command
from runtime.cli.ctl.context import Ctl

_OF_VHOST = click.option("--vhost-only", is_flag=True, help="Only of the virtual host given by -p.")


@command(click.argument("file", default="-"), _OF_VHOST)
def export_definitions(ctl: Ctl, file: str, vhost_only: bool) -> None:
    """Write definitions to FILE, or to standard output for `-`."""
    where = ("definitions", ctl.vhost) if vhost_only else ("definitions",)
    with Console(stderr=True).status("Exporting definitions ..."):
        found = ctl.api.get(*where)
    written = json.dumps(found, indent=2, ensure_ascii=False) + "\n"
    if file == "-":
        click.echo(written, nl=False)
    else:
        Path(file).write_text(written)
        ctl.output.note(f"Exported definitions to {file}")


@command(click.argument("file", default="-"), _OF_VHOST)
def import_definitions(ctl: Ctl, file: str, vhost_only: bool) -> None:
    """Take over definitions from FILE, or from standard input for `-`; what is there already stays."""
    try:
        read = sys.stdin.read() if file == "-" else Path(file).read_text()
        definitions = json.loads(read)
    except (OSError, ValueError) as fault:
        raise click.ClickException(f"{file}: {fault}") from fault
    where = ("definitions", ctl.vhost) if vhost_only else ("definitions",)
    with Console(stderr=True).status("Importing definitions ..."):
        ctl.api.post(*where, body=definitions)
    ctl.output.note("Imported definitions")
