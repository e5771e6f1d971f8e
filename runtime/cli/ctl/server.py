"""The broker itself: how it is, what is in force, and what of that can be changed while it runs."""

import json
from typing import Any, Final

import click

from ipc.errors import ControlFailed, ExitCode
from ipc.table import duration
from runtime.cli.ctl.columns import COLUMNS
from runtime.cli.ctl.command import command
from runtime.cli.ctl.context import Ctl
from runtime.cli.ctl.units import UNIT, Size, in_unit

_PURPOSES: Final = {"amqp": "AMQP 0-9-1", "http": "HTTP API"}
_ALARMS: Final = (("memory", "mem_alarm"), ("disk", "disk_free_alarm"))


def node_of(ctl: Ctl) -> dict[str, Any]:
    """What the API says of the one node there is."""
    (node,) = ctl.api.get("nodes")
    return dict(node)


def alarms_of(node: dict[str, Any]) -> list[str]:
    """Those that are raised."""
    return [name for name, key in _ALARMS if node[key]]


def listeners_of(ctl: Ctl) -> list[dict[str, Any]]:
    return list(ctl.api.get("overview")["listeners"])


def _like_rabbitmqs(listener: dict[str, Any]) -> dict[str, Any]:
    """A listener under the names that rabbitmqctl's JSON has."""
    return {
        "node": listener["node"],
        "interface": listener["ip_address"],
        "port": listener["port"],
        "protocol": listener["protocol"],
        "purpose": _PURPOSES.get(listener["protocol"], listener["protocol"]),
    }


def _told(listeners: list[dict[str, Any]]) -> list[str]:
    """`amqp [::1]:5672`."""
    return [f"{one['protocol']} {_bracketed(one['ip_address'])}:{one['port']}" for one in listeners]


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


# how it is ------------------------------------------------------------------------------------------------------------


@command(UNIT)
def status(ctl: Ctl, unit: str | None) -> None:
    """Say how the broker is: processes, alarms, memory pressure, what it holds."""
    node, overview = node_of(ctl), ctl.api.get("overview")
    stalled = ctl.api.get("memory", "metrics").get("some") or {}
    if ctl.output.form == "json":
        ctl.output.document(_status_document(ctl, node, overview, stalled))
        return
    facts = {
        "node": node["name"],
        "version": overview["product_version"],
        "pid": node["os_pid"],
        "uptime": duration(node["uptime"] / 1000),
        "data directory": node["db_dir"],
        "listeners": _told(overview["listeners"]),
        "alarms": alarms_of(node),
        "memory": f"{in_unit(node['mem_used'], unit)} of {in_unit(node['mem_limit'], unit)}",
        "disk free": f"{in_unit(node['disk_free'], unit)}, alarm below {in_unit(node['disk_free_limit'], unit)}",
        "descriptors": f"{node['fd_used']} of {node['fd_total']}",
        "memory pressure": f"{node['pressure_level'] or 'none'}, watched by {node['pressure_source']}",
        "stalled (10/60/300 s)": " ".join(f"{stalled.get(name, 0):.2f} %" for name in ("avg10", "avg60", "avg300")),
        **overview["object_totals"],
        **{name: overview["queue_totals"][name] for name in ("messages", "messages_ready", "messages_unacknowledged")},
    }
    ctl.output.document(facts)


def _status_document(ctl: Ctl, node: dict[str, Any], overview: dict[str, Any], stalled: Any) -> dict[str, Any]:
    """rabbitmqctl's keys as far as there is a truth behind them, and all that the API says."""
    alarms = settings_of_broker(ctl, node)["alarms"]
    absolute, share = alarms["memory_bytes_max"], alarms["memory_share_max"]
    objects = overview["object_totals"]
    return {
        "pid": int(node["os_pid"]),
        "os": "Linux",
        "product_name": overview["product_name"],
        "product_version": overview["product_version"],
        "rabbitmq_version": overview["rabbitmq_version"],
        "uptime": node["uptime"] // 1000,
        "is_under_maintenance": node["being_drained"],
        "alarms": alarms_of(node),
        "data_directory": node["db_dir"],
        "config_files": node["config_files"],
        "log_files": node["log_files"],
        "active_plugins": node["enabled_plugins"],
        "listeners": [_like_rabbitmqs(one) for one in overview["listeners"]],
        "memory": ctl.api.get("nodes", node["name"], "memory")["memory"],
        "vm_memory_calculation_strategy": "rss",
        "vm_memory_high_watermark_setting": {"absolute": absolute} if absolute else {"relative": share},
        "vm_memory_high_watermark_limit": node["mem_limit"],
        "disk_free": node["disk_free"],
        "disk_free_limit": node["disk_free_limit"],
        "file_descriptors": {
            "total_limit": node["fd_total"],
            "total_used": node["fd_used"],
            "sockets_limit": node["sockets_total"],
            "sockets_used": node["sockets_used"],
        },
        "processes": {"limit": node["proc_total"], "used": node["proc_used"]},
        "run_queue": node["run_queue"],
        "totals": {
            "virtual_host_count": len(ctl.api.get("vhosts")),
            "connection_count": objects["connections"],
            "queue_count": objects["queues"],
        },
        "node": node,
        "overview": overview,
        "pressure": stalled,
    }


@command()
def cluster_status(ctl: Ctl) -> None:
    """Say which nodes there are: one."""
    node, overview = node_of(ctl), ctl.api.get("overview")
    name = node["name"]
    found = overview["listeners"]
    ctl.output.document(
        {
            "cluster_name": overview["cluster_name"],
            "disk_nodes": [name],
            "ram_nodes": [],
            "running_nodes": [name],
            "partitions": {},
            "alarms": alarms_of(node),
            "listeners": {name: list(map(_like_rabbitmqs, found))} if ctl.output.form == "json" else _told(found),
            "maintenance_status": {name: "draining" if node["being_drained"] else "not under maintenance"},
            "versions": {name: overview["product_version"]},
            "feature_flags": [],
        }
    )


@command()
def ping(ctl: Ctl) -> None:
    """Say whether the broker answers."""
    ctl.output.note("Will ping the broker ...")
    ctl.api.get("whoami")
    ctl.output.note("Ping succeeded")


@command()
def server_version(ctl: Ctl) -> None:
    """Print the version of the broker."""
    click.echo(ctl.api.get("overview")["product_version"])


@command()
def list_listeners(ctl: Ctl) -> None:
    """List where clients may come."""
    ctl.output.rows(listeners_of(ctl), ("node", "protocol", "ip_address", "port"))


@command()
def listeners(ctl: Ctl) -> None:
    """Say where clients may come, as rabbitmq-diagnostics does."""
    found = [_like_rabbitmqs(one) for one in listeners_of(ctl)]
    if ctl.output.form == "json":
        ctl.output.document({"listeners": found, "node": node_of(ctl)["name"], "result": "ok"})
        return
    for one in found:
        host = _bracketed(one["interface"])
        click.echo(f"Interface: {host}, port: {one['port']}, protocol: {one['protocol']}, purpose: {one['purpose']}")


@command()
def shards(ctl: Ctl) -> None:
    """List shards, with their virtual hosts, queues and connections."""
    ctl.output.rows(node_of(ctl)["shards"], ("shard", "pid", "vhosts", "queues", "connections", "uptime"))


@command()
def restart_vhost(ctl: Ctl) -> None:
    """Say whether the virtual host runs; a shard that ended is started again by itself."""
    ctl.api.get("queues", ctl.vhost, page=1, page_size=1)
    ctl.output.note(f"Vhost '{ctl.vhost}' is already running")


@command(COLUMNS)
def list_feature_flags(ctl: Ctl, columns: tuple[str, ...]) -> None:
    """List what RabbitMQ's nodes have to agree on: nothing here."""
    ctl.output.note("Listing feature flags ...")
    ctl.output.rows(ctl.api.get("feature-flags"), columns or ("name", "state"))


@command(click.option("--by-source", is_flag=True, help="By address and user as well, where that is tracked."))
def list_node_auth_attempt_stats(ctl: Ctl, by_source: bool) -> None:
    """List how many logged in or tried to, by protocol."""
    name = node_of(ctl)["name"]
    ctl.output.note(f'Listing authentication attempts for node "{name}" ...')
    found = ctl.api.get("auth", "attempts", name, *(("source",) if by_source else ()))
    columns = ("protocol", "auth_attempts", "auth_attempts_failed", "auth_attempts_succeeded")
    ctl.output.rows(found, (*(("remote_address", "username") if by_source else ()), *columns))


@command()
def reset_node_auth_attempt_metrics(ctl: Ctl) -> None:
    """Count attempts to log in from 0 again."""
    name = node_of(ctl)["name"]
    ctl.output.note(f"Resetting auth attempt metrics on node {name} ...")
    ctl.api.delete("auth", "attempts", name)


# what is in force -----------------------------------------------------------------------------------------------------


def settings_of_broker(ctl: Ctl, node: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The settings that are in force, by section, without passwords."""
    return dict(ctl.api.get("nodes", node["name"], "settings"))


@command()
def environment(ctl: Ctl) -> None:
    """List the settings in force, from whatever source."""
    node = node_of(ctl)
    ctl.output.note(f"Settings of node {node['name']} ...")
    found = settings_of_broker(ctl, node)
    if ctl.output.form == "json":
        ctl.output.document(found)
        return
    for section, values in found.items():
        for name, value in values.items():
            click.echo(f"{section}.{name} = {json.dumps(value, ensure_ascii=False)}")


@command(click.argument("cluster"))
def set_cluster_name(ctl: Ctl, cluster: str) -> None:
    """Name the cluster CLUSTER."""
    ctl.output.note(f"Setting cluster name to {cluster} ...")
    ctl.api.put("cluster-name", body={"name": cluster})


@command(click.argument("flag"))
def enable_feature_flag(ctl: Ctl, flag: str) -> None:
    """Enable `all` flags, of which there are none; a FLAG by name is not known."""
    if flag != "all":
        raise ControlFailed(ExitCode.UNAVAILABLE, f"there is no feature flag {flag!r}: nothing waits to be enabled.")
    ctl.output.note("Enabling all feature flags ...")


@command(click.argument("limit"), click.argument("fraction", type=click.FloatRange(0, 1000), required=False))
def set_disk_free_limit(ctl: Ctl, limit: str, fraction: float | None) -> None:
    """Raise the disk alarm below LIMIT (1GB, 512MiB), or `mem_relative FRACTION` of memory, until the next start."""
    if (limit == "mem_relative") != (fraction is not None):
        raise click.UsageError("name a size like 1GB, or `mem_relative` and a fraction of memory")
    node = node_of(ctl)
    bytes_min = int(node["mem_total"] * fraction) if fraction is not None else Size().convert(limit, None, None)
    ctl.output.note(f"Setting disk free limit on {node['name']} to {bytes_min} bytes ...")
    ctl.api.put("nodes", node["name"], "alarms", body={"disk_free_bytes_min": bytes_min})


@command(click.argument("fraction"), click.argument("absolute", type=Size(), metavar="[SIZE]", required=False))
def set_vm_memory_high_watermark(ctl: Ctl, fraction: str, absolute: int | None) -> None:
    """Raise the memory alarm at FRACTION of memory, or at `absolute SIZE`, until the next start; at 0 it always is."""
    if (fraction == "absolute") != (absolute is not None):
        raise click.UsageError("name a fraction like 0.4, or `absolute` and a size like 1GB")
    node = node_of(ctl)
    ctl.output.note(f"Setting memory threshold on {node['name']} to {absolute or fraction} ...")
    ctl.api.put("nodes", node["name"], "alarms", body=_memory_limits(fraction, absolute))


def _memory_limits(fraction: str, absolute: int | None) -> dict[str, float]:
    """For settings 0 is no limit, for rabbitmqctl one that is always reached: a byte."""
    if absolute is not None:
        return {"memory_share_max": 0.0, "memory_bytes_max": max(absolute, 1)}
    try:
        share = float(fraction)
    except ValueError as fault:
        raise click.UsageError(f"{fraction!r} is no fraction of memory like 0.4") from fault
    if not 0 <= share <= 1:
        raise click.UsageError(f"a fraction of memory is 0 to 1, and not {fraction}")
    return {"memory_share_max": share, "memory_bytes_max": 0 if share else 1}


@command()
def suspend_listeners(ctl: Ctl) -> None:
    """Refuse AMQP clients that come from now on, until resume_listeners or the next start."""
    name = node_of(ctl)["name"]
    ctl.output.note(f"Will suspend client connection listeners on node {name}. It will no longer accept connections!")
    ctl.api.put("nodes", name, "listeners", "suspended")


@command()
def resume_listeners(ctl: Ctl) -> None:
    """Let AMQP clients come again."""
    name = node_of(ctl)["name"]
    ctl.output.note(f"Will resume client connection listeners on node {name}. It will now accept connections")
    ctl.api.put("nodes", name, "listeners", "open")
