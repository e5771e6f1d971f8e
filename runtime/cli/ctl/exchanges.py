"""Exchanges."""

from typing import Final

import click

from runtime.cli.ctl.columns import COLUMNS
from runtime.cli.ctl.command import command
from runtime.cli.ctl.completion import EXCHANGE
from runtime.cli.ctl.context import Ctl
from runtime.cli.ctl.queues import json_object

_NAME: Final = click.argument("name", type=EXCHANGE)


@command(COLUMNS)
def list_exchanges(ctl: Ctl, columns: tuple[str, ...]) -> None:
    """List exchanges of the virtual host."""
    ctl.output.note(f"Listing exchanges for vhost {ctl.vhost} ...")
    ctl.output.rows(ctl.api.get("exchanges", ctl.vhost), columns or ("name", "type"))


@command(
    click.argument("kind"),
    _NAME,
    click.option("--durable", is_flag=True, help="It is there after a restart."),
    click.option("--auto-delete", is_flag=True, help="It goes with its last binding."),
    click.option("--internal", is_flag=True, help="Clients cannot publish to it."),
    click.option("--delayed", is_flag=True, help="Messages may wait in it, as their header x-delay says."),
    click.option("--alternate-exchange", metavar="NAME", help="Where messages go that it cannot route."),
    click.option("--persist-messages", type=int, metavar="COUNT", help="LavinMQ's x-persist-messages, passed on."),
    click.option("--persist-ms", type=int, metavar="MILLISECONDS", help="LavinMQ's x-persist-ms, passed on."),
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
    persist_messages: int | None,
    persist_ms: int | None,
    arguments: str,
) -> None:
    """Declare exchange NAME of type KIND (direct, fanout, topic, headers, x-…) in the virtual host."""
    ctl.output.note(f'Creating exchange "{name}" ...')
    given = json_object(arguments)
    if delayed:
        given["x-delayed-exchange"] = True
    if alternate_exchange:
        given["alternate-exchange"] = alternate_exchange
    terms = {"x-persist-messages": persist_messages, "x-persist-ms": persist_ms}
    given |= {term: value for term, value in terms.items() if value is not None}
    body = {"type": kind, "durable": durable, "auto_delete": auto_delete, "internal": internal, "arguments": given}
    ctl.api.put("exchanges", ctl.vhost, name, body=body)


@command(_NAME)
def delete_exchange(ctl: Ctl, name: str) -> None:
    """Delete exchange NAME with its bindings."""
    ctl.output.note(f'Deleting exchange "{name}" ...')
    ctl.api.delete("exchanges", ctl.vhost, name)
