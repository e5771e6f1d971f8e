"""What memory is used for, and having it given back."""

from typing import Any, Final

import click

from ipc.messages.control import LEVELS
from ipc.table import duration, largest_first, size
from runtime.cli.ctl.command import command
from runtime.cli.ctl.context import Ctl
from runtime.cli.ctl.progress import progress
from runtime.cli.ctl.server import node_of
from runtime.cli.ctl.units import UNIT, in_unit

_LEVEL: Final = click.argument("level", type=click.Choice(list(LEVELS)), default="release")


@command(click.option("--top", type=int, default=10, show_default=True, help="How many of the largest are named."))
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


@command(UNIT)
def memory_breakdown(ctl: Ctl, unit: str | None) -> None:
    """Say what memory is used for as rabbitmq-diagnostics does: a line for each kind, largest first."""
    node = node_of(ctl)
    ctl.output.note(f"Reporting memory breakdown on node {node['name']}...")
    used = ctl.api.get("nodes", node["name"], "memory")["memory"]
    total = used["total"]["rss"]
    kinds = {kind: count for kind, count in used.items() if isinstance(count, int)}
    shares = {
        kind: {"bytes": count, "percentage": round(100 * count / max(total, 1), 2)} for kind, count in kinds.items()
    }
    if ctl.output.form == "json":
        ctl.output.document(shares)
        return
    for kind, share in sorted(shares.items(), key=lambda one: -one[1]["bytes"]):
        click.echo(f"{kind}: {in_unit(share['bytes'], unit)} ({share['percentage']}%)")


@command(_LEVEL)
def compact(ctl: Ctl, level: str) -> None:
    """Have memory given back now, at LEVEL (trim, release or critical), and say how much was."""
    _compact(ctl, level)


@command()
def gc_collect(ctl: Ctl) -> None:
    """Have memory given back like `compact release`: LavinMQ's word for it."""
    _compact(ctl, "release")


@command()
def force_gc(ctl: Ctl) -> None:
    """Have memory given back like `compact release`: rabbitmqctl's word for it."""
    _compact(ctl, "release")


def _compact(ctl: Ctl, level: str) -> None:
    with progress(f"Compacting at level {level}"):
        done = ctl.api.post("memory", "compact", body={"level": level})
    _show_pass(ctl, done)


def _show_pass(ctl: Ctl, done: dict[str, Any]) -> None:
    if ctl.output.form == "json":
        ctl.output.document(done)
        return
    rows = [
        {
            "process": one["role"] if one["shard"] is None else f"shard {one['shard']}",
            "before": size(one["before"]["private"]),
            "after": size(one["after"]["private"]),
            "freed of": largest_first(one["by_kind"], 4),
            "longest slice": duration(one["slice_seconds_longest"]),
        }
        for one in done["reclaimed"]
    ]
    ctl.output.rows(rows, ("process", "before", "after", "freed of", "longest slice"))
