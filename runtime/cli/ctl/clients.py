"""Connections, channels and consumers."""

from typing import Final

import click

from runtime.cli.ctl.command import command
from runtime.cli.ctl.context import Ctl

_COLUMNS: Final = click.argument("columns", nargs=-1)
_REASON: Final = click.argument("reason", required=False, default="Closed by an operator")


@command(_COLUMNS)
def list_connections(ctl: Ctl, columns: tuple[str, ...]) -> None:
    """List connections; COLUMNS such as user, peer_host, peer_port, state, channels, recv_oct."""
    ctl.output.note("Listing connections ...")
    ctl.output.rows(ctl.api.listing("connections"), columns or ("user", "peer_host", "peer_port", "state"))


@command(_COLUMNS)
def list_channels(ctl: Ctl, columns: tuple[str, ...]) -> None:
    """List channels of all connections."""
    ctl.output.note("Listing channels ...")
    default = ("name", "user", "consumer_count", "messages_unacknowledged")
    ctl.output.rows(ctl.api.listing("channels"), columns or default)


@command(_COLUMNS)
def list_consumers(ctl: Ctl, columns: tuple[str, ...]) -> None:
    """List consumers of the virtual host."""
    ctl.output.note(f"Listing consumers in vhost {ctl.vhost} ...")
    default = ("queue_name", "channel_pid", "consumer_tag", "ack_required", "prefetch_count", "active", "arguments")
    ctl.output.rows(ctl.api.get("consumers", ctl.vhost), columns or default)


@command(click.argument("name"), _REASON)
def close_connection(ctl: Ctl, name: str, reason: str) -> None:
    """Close the connection NAME, and tell its client why."""
    ctl.output.note(f"Closing connection {name}, reason: {reason}...")
    ctl.api.delete("connections", name, headers={"X-Reason": reason})


@command(_REASON, click.option("--limit", type=int, help="At most so many."))
def close_all_connections(ctl: Ctl, reason: str, limit: int | None) -> None:
    """Close all connections to the virtual host."""
    names = [one["name"] for one in ctl.api.listing("vhosts", ctl.vhost, "connections")][:limit]
    ctl.output.note(f"Closing {len(names)} connections in vhost {ctl.vhost}, reason: {reason}...")
    for name in names:
        ctl.api.delete("connections", name, headers={"X-Reason": reason})


@command(click.argument("user"), _REASON)
def close_all_user_connections(ctl: Ctl, user: str, reason: str) -> None:
    """Close all connections of USER."""
    ctl.output.note(f"Closing connections of user {user}, reason: {reason}...")
    ctl.api.delete("connections", "username", user, headers={"X-Reason": reason})
