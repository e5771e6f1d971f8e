"""Questions with a yes or a no, for scripts: a check that does not pass ends with rabbitmqctl's code, 69."""

import socket
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit

import click
import httpx

from ipc.errors import ControlFailed, ExitCode
from runtime.cli.ctl.client import ApiRefused
from runtime.cli.ctl.columns import COLUMNS
from runtime.cli.ctl.command import command
from runtime.cli.ctl.context import NO_MEANING, Ctl
from runtime.cli.ctl.server import alarms_of, listeners_of, node_of

_CONNECT_SECONDS: Final = 5.0
_WITHIN: Final = click.option("--within", type=click.IntRange(min=0), default=4, show_default=True, help="How soon.")
_UNIT: Final = click.option(
    "--unit",
    type=click.Choice(("days", "weeks", "months", "years")),
    default="weeks",
    show_default=True,
    help="What --within counts.",
)


def _check(ctl: Ctl, *path: str) -> dict[str, Any]:
    """Raises ControlFailed (UNAVAILABLE) with what the broker says where it does not pass."""
    try:
        found: dict[str, Any] = ctl.api.get("health", "checks", *path)
    except ApiRefused as refused:
        if refused.status != httpx.codes.SERVICE_UNAVAILABLE:
            raise
        raise ControlFailed(ExitCode.UNAVAILABLE, refused.message) from refused
    return found


@command()
def alarms(ctl: Ctl) -> None:
    """List alarms that are raised; publishers wait while there are any."""
    node = node_of(ctl)
    ctl.output.rows([{"node": node["name"], "resource": name} for name in alarms_of(node)], ("node", "resource"))


@command()
def check_alarms(ctl: Ctl) -> None:
    """Check that no alarm is raised."""
    _check(ctl, "alarms")
    ctl.output.note("No alarms are raised")


@command()
def check_local_alarms(ctl: Ctl) -> None:
    """Check that no alarm is raised; all of them are local."""
    _check(ctl, "local-alarms")
    ctl.output.note("No alarms are raised")


@command(_WITHIN, _UNIT)
def check_certificate_expiration(ctl: Ctl, within: int, unit: str) -> None:
    """Check that no certificate of a listener ends soon; there are none."""
    _check(ctl, "certificate-expiration", str(within), unit)
    ctl.output.note(f"No certificates are expiring within {within} {unit}")


@command()
def check_if_node_is_mirror_sync_critical(ctl: Ctl) -> None:
    """Check that no queue would lose its last mirror: none has any."""
    _check(ctl, "node-is-mirror-sync-critical")
    ctl.output.note("There is one node, and the check does not apply")


@command()
def check_if_node_is_quorum_critical(ctl: Ctl) -> None:
    """Check that no queue would lose its quorum: none has any."""
    _check(ctl, "node-is-quorum-critical")
    ctl.output.note("There is one node, and the check does not apply")


@command()
def check_port_connectivity(ctl: Ctl) -> None:
    """Check that every port the broker listens on can be connected to from here."""
    named = urlsplit(ctl.remote_uri).hostname if ctl.remote_uri else None
    ports: list[str] = []
    for listener in listeners_of(ctl):
        host = named or _reachable(listener["ip_address"])
        try:
            socket.create_connection((host, listener["port"]), timeout=_CONNECT_SECONDS).close()
        except OSError as fault:
            sentence = f"cannot connect to {listener['protocol']} at {host}, port {listener['port']}: {fault}"
            raise ControlFailed(ExitCode.UNAVAILABLE, sentence) from fault
        ports.append(str(listener["port"]))
    ctl.output.note(f"Successfully connected to ports {', '.join(dict.fromkeys(ports))}")


def _reachable(address: str) -> str:
    """Whoever listens everywhere does so on loopback."""
    found = ip_address(address)
    if not found.is_unspecified:
        return address
    return "127.0.0.1" if found.version == 4 else "::1"


@command(click.argument("port", type=click.IntRange(1, 65535)))
def check_port_listener(ctl: Ctl, port: int) -> None:
    """Check that the broker listens on PORT."""
    _check(ctl, "port-listener", str(port))
    ctl.output.note(f"A listener for port {port} is running")


@command(click.argument("protocol"))
def check_protocol_listener(ctl: Ctl, protocol: str) -> None:
    """Check that the broker listens for PROTOCOL: amqp, http."""
    _check(ctl, "protocol-listener", protocol)
    ctl.output.note(f"A listener for protocol {protocol} is running")


@command()
def check_running(ctl: Ctl) -> None:
    """Check that the broker serves clients."""
    _check(ctl, "ready")
    ctl.output.note("The broker is fully booted and running")


@command()
def check_virtual_hosts(ctl: Ctl) -> None:
    """Check that every virtual host is open."""
    _check(ctl, "virtual-hosts")
    ctl.output.note("All virtual hosts are running")


@command()
def node_health_check(ctl: Ctl) -> None:
    """Check that the broker serves clients and no alarm is raised; superseded by the others."""
    _check(ctl, "ready")
    _check(ctl, "alarms")
    ctl.output.note("Health check passed")


@command()
def is_running(ctl: Ctl) -> None:
    """Say whether the broker serves clients."""
    click.echo("The broker is fully booted and running" if _is_ready(ctl) else "The broker does not serve clients")


@command()
def is_booting(ctl: Ctl) -> None:
    """Say whether the broker is about to serve clients."""
    click.echo("The broker has booted" if _is_ready(ctl) else "The broker is booting, or about to end")


def _is_ready(ctl: Ctl) -> bool:
    try:
        _check(ctl, "ready")
    except ControlFailed as failed:
        if failed.exit_code is not ExitCode.UNAVAILABLE:
            raise
        return False
    return True


@command(
    COLUMNS,
    click.option("--local", is_flag=True, help=f"{NO_MEANING}: queues are where the broker is."),
    click.option(
        "--queue-timeout",
        type=click.IntRange(min=1),
        metavar="MILLISECONDS",
        help=f"{NO_MEANING}: a shard has five seconds to answer.",
    ),
)
def list_unresponsive_queues(ctl: Ctl, columns: tuple[str, ...], local: bool, queue_timeout: int | None) -> None:
    """List queues of the virtual host that do not answer: none, unless their shard is silent, which fails (1)."""
    ctl.output.note(f"Listing unresponsive queues for vhost {ctl.vhost} ...")
    for _queue in ctl.api.listing("queues", ctl.vhost):
        pass
    ctl.output.rows([], columns or ("name",))
