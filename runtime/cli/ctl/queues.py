"""Queues and bindings."""

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

import click

from runtime.cli.ctl.client import Document
from runtime.cli.ctl.columns import COLUMNS, ONE_BY_ONE
from runtime.cli.ctl.command import command
from runtime.cli.ctl.completion import QUEUE
from runtime.cli.ctl.context import NO_MEANING, Ctl
from runtime.cli.ctl.progress import progress

_NEW: Final = click.argument("name")
_NAME: Final = click.argument("name", type=QUEUE)


@command(
    COLUMNS,
    click.option("--online", is_flag=True, help=f"{NO_MEANING}: queues are where the broker is."),
    click.option("--local", is_flag=True, help=f"{NO_MEANING}, likewise."),
    click.option("--offline", is_flag=True, help="List those whose node is away: none."),
)
def list_queues(ctl: Ctl, columns: tuple[str, ...], online: bool, local: bool, offline: bool) -> None:
    """List queues of the virtual host; COLUMNS such as name, messages, consumers, state."""
    ctl.output.note(f"Listing queues for vhost {ctl.vhost} ...")
    wanted = columns or ("name", "messages")
    ctl.output.rows([] if offline else _queues(ctl, wanted), wanted)


def _queues(ctl: Ctl, columns: Sequence[str]) -> Iterable[Document]:
    """One request for five hundred; one each where a column can be had in no other way."""
    listed = ctl.api.listing("queues", ctl.vhost)
    if ONE_BY_ONE.isdisjoint(columns):
        yield from listed
        return
    for queue in listed:
        # It may have been deleted since.
        if (found := ctl.api.find("queues", ctl.vhost, queue["name"])) is not None:
            yield found


@command(
    _NEW,
    click.option("--durable", is_flag=True, help="It is there after a restart."),
    click.option("--auto-delete", is_flag=True, help="It goes with its last consumer."),
    click.option("--expires", type=int, metavar="MILLISECONDS", help="It goes when nobody used it for so long."),
    click.option("--max-length", type=int, metavar="COUNT", help="How many messages it holds."),
    click.option("--message-ttl", type=int, metavar="MILLISECONDS", help="How long a message stays."),
    click.option("--delivery-limit", type=int, metavar="COUNT", help="How often a message is handed out."),
    click.option("--reject-on-overflow", is_flag=True, help="Refuse what is too much, instead of dropping the oldest."),
    click.option("--dead-letter-exchange", metavar="NAME", help="Where messages go that it drops."),
    click.option("--dead-letter-routing-key", metavar="KEY", help="With this routing key, instead of their own."),
    click.option("--stream-queue", is_flag=True, help="Of LavinMQ's type stream, which the broker refuses."),
    click.option("--arguments", default="{}", help="More arguments, as JSON."),
)
def create_queue(
    ctl: Ctl,
    name: str,
    durable: bool,
    auto_delete: bool,
    reject_on_overflow: bool,
    stream_queue: bool,
    arguments: str,
    **terms: Any,
) -> None:
    """Declare queue NAME in the virtual host."""
    ctl.output.note(f'Creating queue "{name}" ...')
    given = {f"x-{term.replace('_', '-')}": value for term, value in terms.items() if value is not None}
    if reject_on_overflow:
        given["x-overflow"] = "reject-publish"
    if stream_queue:
        given["x-queue-type"] = "stream"
    body = {"durable": durable, "auto_delete": auto_delete, "arguments": given | json_object(arguments)}
    ctl.api.put("queues", ctl.vhost, name, body=body)


@command(
    _NAME,
    click.option("-e", "--if-empty", is_flag=True, help="Only if it holds no message."),
    click.option("-u", "--if-unused", is_flag=True, help="Only if it has no consumer."),
)
def delete_queue(ctl: Ctl, name: str, if_empty: bool, if_unused: bool) -> None:
    """Delete queue NAME with its messages."""
    ctl.output.note(f"Deleting queue '{name}' on vhost '{ctl.vhost}' ...")
    conditions = {"if-empty": if_empty, "if-unused": if_unused}
    query = {condition: "true" for condition, wanted in conditions.items() if wanted}
    ctl.api.delete("queues", ctl.vhost, name, query=query)


@command(click.argument("names", nargs=-1, type=QUEUE, required=True))
def purge_queue(ctl: Ctl, names: tuple[str, ...]) -> None:
    """Drop all ready messages of the queues NAMES."""
    with progress("Purging", len(names) if len(names) > 1 else None) as advance:
        for done, name in enumerate(names, start=1):
            ctl.output.note(f"Purging queue '{name}' in vhost '{ctl.vhost}' ...")
            ctl.api.delete("queues", ctl.vhost, name, "contents")
            advance(done)


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


@command(COLUMNS)
def list_bindings(ctl: Ctl, columns: tuple[str, ...]) -> None:
    """List bindings of the virtual host."""
    ctl.output.note(f"Listing bindings for vhost {ctl.vhost}...")
    default = ("source_name", "source_kind", "destination_name", "destination_kind", "routing_key", "arguments")
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
