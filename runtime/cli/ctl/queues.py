"""Queues and bindings."""

import json
from typing import Any, Final

import click
from rich.progress import track

from runtime.cli.ctl.command import command
from runtime.cli.ctl.context import Ctl

_NAME: Final = click.argument("name")
_COLUMNS: Final = click.argument("columns", nargs=-1)


@command(
    _COLUMNS, click.option("--online", is_flag=True, hidden=True), click.option("--local", is_flag=True, hidden=True)
)
def list_queues(ctl: Ctl, columns: tuple[str, ...], online: bool, local: bool) -> None:
    """List queues of the virtual host; COLUMNS such as name, messages, consumers, state."""
    ctl.output.note(f"Listing queues for vhost {ctl.vhost} ...")
    wanted = columns or ("name", "messages")
    ctl.output.rows(ctl.api.listing("queues", ctl.vhost), wanted)


@command(
    _NAME,
    click.option("--durable", is_flag=True),
    click.option("--auto-delete", is_flag=True),
    click.option("--expires", type=int),
    click.option("--max-length", type=int),
    click.option("--message-ttl", type=int),
    click.option("--delivery-limit", type=int),
    click.option("--reject-on-overflow", is_flag=True),
    click.option("--dead-letter-exchange"),
    click.option("--dead-letter-routing-key"),
    click.option("--arguments", default="{}", help="More arguments, as JSON."),
)
def create_queue(
    ctl: Ctl, name: str, durable: bool, auto_delete: bool, reject_on_overflow: bool, arguments: str, **terms: Any
) -> None:
    """Declare queue NAME in the virtual host."""
    ctl.output.note(f'Creating queue "{name}" ...')
    given = {f"x-{term.replace('_', '-')}": value for term, value in terms.items() if value is not None}
    if reject_on_overflow:
        given["x-overflow"] = "reject-publish"
    body = {"durable": durable, "auto_delete": auto_delete, "arguments": given | json_object(arguments)}
    ctl.api.put("queues", ctl.vhost, name, body=body)


@command(_NAME, click.option("-e", "--if-empty", is_flag=True), click.option("-u", "--if-unused", is_flag=True))
def delete_queue(ctl: Ctl, name: str, if_empty: bool, if_unused: bool) -> None:
    """Delete queue NAME with its messages."""
    ctl.output.note(f"Deleting queue '{name}' on vhost '{ctl.vhost}' ...")
    conditions = {"if-empty": if_empty, "if-unused": if_unused}
    query = {condition: "true" for condition, wanted in conditions.items() if wanted}
    ctl.api.delete("queues", ctl.vhost, name, query=query)


@command(click.argument("names", nargs=-1, required=True))
def purge_queue(ctl: Ctl, names: tuple[str, ...]) -> None:
    """Drop all ready messages of queues."""
    for name in track(names, "Purging", transient=True, disable=len(names) == 1):
        ctl.output.note(f"Purging queue '{name}' in vhost '{ctl.vhost}' ...")
        ctl.api.delete("queues", ctl.vhost, name, "contents")


@command(_NAME)
def pause_queue(ctl: Ctl, name: str) -> None:
    """Have queue NAME hand nothing out, also after a restart."""
    ctl.api.put("queues", ctl.vhost, name, "pause")


@command(_NAME)
def resume_queue(ctl: Ctl, name: str) -> None:
    """Let queue NAME go on."""
    ctl.api.put("queues", ctl.vhost, name, "resume")


@command(_NAME)
def restart_queue(ctl: Ctl, name: str) -> None:
    """Have queue NAME opened again, if it is closed."""
    ctl.api.put("queues", ctl.vhost, name, "restart")


@command(_COLUMNS)
def list_bindings(ctl: Ctl, columns: tuple[str, ...]) -> None:
    """List bindings of the virtual host."""
    ctl.output.note(f"Listing bindings for vhost {ctl.vhost}...")
    default = ("source_name", "destination_name", "destination_kind", "routing_key", "arguments")
    ctl.output.rows(ctl.api.get("bindings", ctl.vhost), columns or default)


def json_object(text: str) -> dict[str, Any]:
    """Raises click.UsageError for what is none."""
    try:
        decoded = json.loads(text)
    except ValueError as fault:
        raise click.UsageError(f"{text!r} is no JSON: {fault}") from fault
    if not isinstance(decoded, dict):
        raise click.UsageError(f"{text!r} is no JSON object")
    return decoded
