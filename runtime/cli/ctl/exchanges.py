"""Exchanges."""

from typing import Final

import click

from runtime.cli.ctl.command import command
from runtime.cli.ctl.context import Ctl
from runtime.cli.ctl.queues import json_object

_NAME: Final = click.argument("name")


@command(click.argument("columns", nargs=-1))
def list_exchanges(ctl: Ctl, columns: tuple[str, ...]) -> None:
    """List exchanges of the virtual host."""
    ctl.output.note(f"Listing exchanges for vhost {ctl.vhost} ...")
    ctl.output.rows(ctl.api.get("exchanges", ctl.vhost), columns or ("name", "type"))


@command(
    click.argument("kind"),
    _NAME,
    click.option("--durable", is_flag=True),
    click.option("--auto-delete", is_flag=True),
    click.option("--internal", is_flag=True),
    click.option("--delayed", is_flag=True),
    click.option("--alternate-exchange"),
    click.option("--arguments", default="{}", help="More arguments, as JSON."),
)
def create_exchange(
    ctl: Ctl,
    kind: str,
    name: str,
    durable: bool,
    auto_delete: bool,
    internal: bool,
    delayed: bool,
    alternate_exchange: str | None,
    arguments: str,
) -> None:
    """Declare exchange NAME of type KIND in the virtual host."""
    ctl.output.note(f'Creating exchange "{name}" ...')
    given = json_object(arguments)
    if delayed:
        given["x-delayed-exchange"] = True
    if alternate_exchange:
        given["alternate-exchange"] = alternate_exchange
    body = {"type": kind, "durable": durable, "auto_delete": auto_delete, "internal": internal, "arguments": given}
    ctl.api.put("exchanges", ctl.vhost, name, body=body)


@command(_NAME)
def delete_exchange(ctl: Ctl, name: str) -> None:
    """Delete exchange NAME with its bindings."""
    ctl.output.note(f'Deleting exchange "{name}" ...')
    ctl.api.delete("exchanges", ctl.vhost, name)
