"""Connections, channels and consumers."""

import time
from typing import Final

import click
import httpx

from runtime.cli.ctl.client import ApiRefused
from runtime.cli.ctl.columns import COLUMNS
from runtime.cli.ctl.command import command
from runtime.cli.ctl.completion import CONNECTION, USER
from runtime.cli.ctl.context import Ctl
from runtime.cli.ctl.progress import progress

_REASON: Final = click.argument("reason", required=False, default="Closed by an operator")


@command(COLUMNS)
def list_connections(ctl: Ctl, columns: tuple[str, ...]) -> None:
    """List connections; COLUMNS such as user, peer_host, peer_port, state, channels, recv_oct."""
    ctl.output.note("Listing connections ...")
    ctl.output.rows(ctl.api.listing("connections"), columns or ("user", "peer_host", "peer_port", "state"))


@command(COLUMNS)
def list_channels(ctl: Ctl, columns: tuple[str, ...]) -> None:
    """List channels of all connections."""
    ctl.output.note("Listing channels ...")
    default = ("pid", "user", "consumer_count", "messages_unacknowledged")
    ctl.output.rows(ctl.api.listing("channels"), columns or default)


@command(COLUMNS)
def list_consumers(ctl: Ctl, columns: tuple[str, ...]) -> None:
    """List consumers of the virtual host."""
    ctl.output.note(f"Listing consumers in vhost {ctl.vhost} ...")
    default = ("queue_name", "channel_pid", "consumer_tag", "ack_required", "prefetch_count", "active", "arguments")
    ctl.output.rows(ctl.api.get("consumers", ctl.vhost), columns or default)


@command(click.argument("name", type=CONNECTION), _REASON)
def close_connection(ctl: Ctl, name: str, reason: str) -> None:
    """Close the connection NAME, and tell its client the REASON."""
    ctl.output.note(f"Closing connection {name}, reason: {reason}...")
    ctl.api.delete("connections", name, headers={"X-Reason": reason})


@command(
    _REASON,
    click.option("--global", "everywhere", is_flag=True, help="Those to all virtual hosts."),
    click.option("--limit", type=click.IntRange(min=0), default=0, help="At most so many; 0: all."),
    click.option(
        "--per-connection-delay",
        "delay_ms",
        type=click.IntRange(min=0),
        default=0,
        metavar="MILLISECONDS",
        help="Wait so long after each.",
    ),
)
def close_all_connections(ctl: Ctl, reason: str, everywhere: bool, limit: int, delay_ms: int) -> None:
    """Close all connections to the virtual host, and tell their clients the REASON."""
    where = ("connections",) if everywhere else ("vhosts", ctl.vhost, "connections")
    whose = "all vhosts" if everywhere else f"vhost {ctl.vhost}"
    ctl.output.note(f"Closing all connections in {whose}, reason: {reason}...")
    names = [one["name"] for one in ctl.api.listing(*where)][: limit or None]
    closed = 0
    with progress("Closing connections", len(names)) as advance:
        for done, name in enumerate(names, start=1):
            closed += _close(ctl, name, reason)
            advance(done)
            if delay_ms and done < len(names):
                time.sleep(delay_ms / 1000)
    ctl.output.note(f"Closed {closed} connections")


def _close(ctl: Ctl, name: str, reason: str) -> bool:
    """Whether it was still there."""
    try:
        ctl.api.delete("connections", name, headers={"X-Reason": reason})
    except ApiRefused as refused:
        if refused.status != httpx.codes.NOT_FOUND:
            raise
        return False
    return True


@command(click.argument("user", type=USER), _REASON)
def close_all_user_connections(ctl: Ctl, user: str, reason: str) -> None:
    """Close all connections of USER, and tell their clients the REASON."""
    ctl.output.note(f"Closing connections of user {user}, reason: {reason}...")
    ctl.api.delete("connections", "username", user, headers={"X-Reason": reason})
