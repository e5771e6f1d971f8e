"""The broker itself: how it is, what its memory is used for, and how to end it."""

import os
import signal
import time
from typing import Any, Final

import click
from rich.console import Console

from ipc.errors import ControlFailed, ExitCode
from ipc.messages.control import LEVELS
from ipc.table import duration, largest_first, size
from ipc.version import VERSION
from runtime.cli.ctl.client import ApiRefused
from runtime.cli.ctl.command import command
from runtime.cli.ctl.context import Ctl
from runtime.supervisor.data_lock import owner

_POLL_SECONDS: Final = 0.25
_LEVEL: Final = click.argument("level", type=click.Choice(list(LEVELS)), default="release")


def _node(ctl: Ctl) -> dict[str, Any]:
    (node,) = ctl.api.get("nodes")
    return dict(node)


@command()
def status(ctl: Ctl) -> None:
    """Say how the broker is: processes, alarms, memory pressure, what it holds."""
    node, overview = _node(ctl), ctl.api.get("overview")
    stalled = ctl.api.get("memory", "metrics").get("some") or {}
    facts = {
        "node": node["name"],
        "version": overview["product_version"],
        "pid": node["os_pid"],
        "uptime": duration(node["uptime"] / 1000),
        "data directory": node["db_dir"],
        "listeners": [f"{one['protocol']} {one['ip_address']}:{one['port']}" for one in overview["listeners"]],
        "alarms": [name for name, key in (("memory", "mem_alarm"), ("disk", "disk_free_alarm")) if node[key]],
        "memory": f"{size(node['mem_used'])} of {size(node['mem_limit'])}",
        "disk free": f"{size(node['disk_free'])}, alarm below {size(node['disk_free_limit'])}",
        "descriptors": f"{node['fd_used']} of {node['fd_total']}",
        "memory pressure": f"{node['pressure_level'] or 'none'}, watched by {node['pressure_source']}",
        "stalled (10/60/300 s)": " ".join(f"{stalled.get(name, 0):.2f} %" for name in ("avg10", "avg60", "avg300")),
        **overview["object_totals"],
        **{name: overview["queue_totals"][name] for name in ("messages", "messages_ready", "messages_unacknowledged")},
    }
    if ctl.output.form == "json":
        ctl.output.document({"node": node, "overview": overview, "pressure": stalled})
    else:
        ctl.output.document(facts)


@command()
def cluster_status(ctl: Ctl) -> None:
    """Say which nodes there are: one."""
    node, overview = _node(ctl), ctl.api.get("overview")
    ctl.output.document(
        {
            "cluster_name": overview["cluster_name"],
            "disk_nodes": [node["name"]],
            "running_nodes": [node["name"]],
            "partitions": {},
            "alarms": [name for name, key in (("memory", "mem_alarm"), ("disk", "disk_free_alarm")) if node[key]],
            "versions": {node["name"]: overview["product_version"]},
        }
    )


@command()
def ping(ctl: Ctl) -> None:
    """Say whether the broker answers."""
    ctl.output.note("Will ping the broker ...")
    ctl.api.get("whoami")
    ctl.output.note("Ping succeeded")


@command()
def alarms(ctl: Ctl) -> None:
    """List alarms that are raised; publishers wait while there are any."""
    node = _node(ctl)
    raised = [name for name, key in (("memory", "mem_alarm"), ("disk", "disk_free_alarm")) if node[key]]
    ctl.output.rows([{"node": node["name"], "resource": name} for name in raised], ("node", "resource"))


@command()
def list_listeners(ctl: Ctl) -> None:
    """List where clients may come."""
    found = ctl.api.get("overview")["listeners"]
    ctl.output.rows(found, ("node", "protocol", "ip_address", "port"))


@command()
def shards(ctl: Ctl) -> None:
    """List shards, with their virtual hosts, queues and connections."""
    ctl.output.rows(_node(ctl)["shards"], ("shard", "pid", "vhosts", "queues", "connections", "uptime"))


@command(click.argument("cluster"))
def set_cluster_name(ctl: Ctl, cluster: str) -> None:
    """Name the cluster."""
    ctl.output.note(f"Setting cluster name to {cluster} ...")
    ctl.api.put("cluster-name", body={"name": cluster})


@command()
def version(ctl: Ctl) -> None:
    """Print the version of this command."""
    click.echo(VERSION)


# memory ---------------------------------------------------------------------------------------------------------------


@command(click.option("--top", type=int, default=10, help="How many of the largest are named."))
def memory(ctl: Ctl, top: int) -> None:
    """Say what memory is used for, by process and kind, and who holds most."""
    found = ctl.api.get("memory", top=top)
    if ctl.output.form == "json":
        ctl.output.document(found)
        return
    processes = [{"process": one["role"], **one} for one in found["processes"]]
    processes += [{"process": f"shard {one['shard']}", **one} for one in found["shards"]]
    rows = [
        {
            "process": one["process"],
            "pid": one["pid"],
            "resident": size(one["reading"]["rss"]),
            "private": size(one["reading"]["private"]),
            "used for": largest_first(one.get("by_kind", {}), 4),
        }
        for one in processes
    ]
    ctl.output.rows(rows, ("process", "pid", "resident", "private", "used for"))
    for sort, held in found["largest"].items():
        if held:
            ctl.output.note(f"\nlargest of {sort}s")
            largest = [{"vhost": one["vhost"], "name": one["name"], "size": size(one["size_bytes"])} for one in held]
            ctl.output.rows(largest, ("vhost", "name", "size"))


@command(_LEVEL)
def compact(ctl: Ctl, level: str) -> None:
    """Have memory given back now, at LEVEL, and say how much was."""
    with Console(stderr=True).status(f"Compacting at level {level} ..."):
        done = ctl.api.post("memory", "compact", body={"level": level})
    _show_pass(ctl, done)


@command()
def gc_collect(ctl: Ctl) -> None:
    """LavinMQ's word for the same at level release."""
    _show_pass(ctl, ctl.api.post("memory", "compact", body={"level": "release"}))


def _show_pass(ctl: Ctl, done: dict[str, Any]) -> None:
    if ctl.output.form == "json":
        ctl.output.document(done)
        return
    rows = [
        {
            "process": "supervisor" if one["shard"] is None else f"shard {one['shard']}",
            "before": size(one["before"]["private"]),
            "after": size(one["after"]["private"]),
            "freed of": largest_first(one["by_kind"], 4),
            "longest slice": duration(one["slice_seconds_longest"]),
        }
        for one in done["reclaimed"]
    ]
    ctl.output.rows(rows, ("process", "before", "after", "freed of", "longest slice"))


# beginning and end ----------------------------------------------------------------------------------------------------


@command(click.option("--seconds", type=float, default=300.0, help="How long to wait. [default: 300]"))
def await_startup(ctl: Ctl, seconds: float) -> None:
    """Wait until clients may come."""
    deadline = time.monotonic() + seconds
    with Console(stderr=True).status("Waiting for the broker ..."):
        while True:
            try:
                ctl.api.get("health", "checks", "ready")
                return
            except (ControlFailed, ApiRefused) as fault:
                if time.monotonic() > deadline:
                    raise ControlFailed(ExitCode.NO_BROKER, f"the broker is not ready: {fault}") from fault
            time.sleep(_POLL_SECONDS)


@command(click.option("--seconds", type=float, default=300.0, help="How long to wait for its end. [default: 300]"))
def drain(ctl: Ctl, seconds: float) -> None:
    """End the broker in order, and wait until it is gone: clients are told, everything is written."""
    _end(ctl, seconds)


@command(click.option("--seconds", type=float, default=300.0, help="How long to wait for its end. [default: 300]"))
def stop(ctl: Ctl, seconds: float) -> None:
    """rabbitmqctl's word for the same."""
    _end(ctl, seconds)


def _end(ctl: Ctl, seconds: float) -> None:
    if ctl.uri:
        raise click.UsageError("a broker is ended by a signal, and so only from its own machine")
    pid = owner(ctl.paths)
    if pid is None:
        raise ControlFailed(ExitCode.NO_BROKER, f"no broker runs on data directory {ctl.paths.root}")
    descriptor = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        deadline = time.monotonic() + seconds
        with Console(stderr=True).status("Draining ..."):
            while owner(ctl.paths) == pid:
                if time.monotonic() > deadline:
                    raise ControlFailed(ExitCode.ANSWER_INCOMPLETE, f"process {pid} has not ended yet")
                time.sleep(_POLL_SECONDS)
    finally:
        os.close(descriptor)


@command()
def stop_app(ctl: Ctl) -> None:
    """Nothing: there is no application apart from the process."""
    ctl.output.note("There is no application apart from the process; see `drain`.")


@command()
def start_app(ctl: Ctl) -> None:
    """Nothing, likewise."""
    ctl.output.note("There is no application apart from the process.")
