"""`ebbmq memory`: what the broker's memory is used for, what a pass would free, and what passes have freed."""

import functools
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

import click

from ipc.limits import ACCOUNT_NAMED_MAX, PASSES_REMEMBERED_MAX
from ipc.messages import control
from ipc.messages.control import LEVELS
from ipc.messages.reports import SORTS, Sort
from ipc.table import duration, largest_first, shown, size, table
from runtime.cli.accounts import located
from runtime.cli.asking import ask
from runtime.control.client import Answered

_KINDS_SHOWN: Final = 3
_SHARE_SHOWN_MIN: Final = 0.005  # of a kind that is named; --json has all of them
_PLURALS: Final[dict[Sort, str]] = {"vhost": "virtual hosts", "queue": "queues", "connection": "connections"}
_JSON: Final = click.option("--json", "as_json", is_flag=True, help="Print what the broker said, as JSON.")
_LEVEL: Final = click.Choice(tuple(LEVELS))


@click.group(invoke_without_command=True)
@click.option("--vhost", metavar="NAME", help="Count only what is for this virtual host.")
@click.option(
    "--top",
    type=click.IntRange(0, ACCOUNT_NAMED_MAX),
    default=10,
    show_default=True,
    help="How many queues, connections and virtual hosts are named, those that hold most.",
)
@click.option(
    "--dry-run", "dry_run", type=_LEVEL, is_flag=False, flag_value="trim", help="What a pass would free; nothing is."
)
@click.option("--compact", type=_LEVEL, is_flag=False, flag_value="release", help="Run a pass now.")
@_JSON
@located
@click.pass_context
def memory(
    context: click.Context,
    vhost: str | None,
    top: int,
    dry_run: str | None,
    compact: str | None,
    as_json: bool,
    config: str | None,
    data_dir: str | None,
) -> None:
    """What the memory of a running broker is used for.

    Levels are trim (collections that outgrew their content), release (also cold pages of segments, and free pages of
    the allocator) and critical (also caches); --dry-run alone means trim, --compact alone release.
    """
    if context.invoked_subcommand is not None:
        return
    if dry_run is not None and compact is not None:
        raise click.UsageError("--dry-run and --compact exclude each other")
    request: control.Request
    if dry_run is not None:
        request, show = control.DryRun(dry_run), show_dry_run  # type: ignore[arg-type]  # click has checked it
    elif compact is not None:
        request, show = control.Compact(compact), show_pass  # type: ignore[arg-type]
    else:
        request, show = control.Memory(vhost, top), functools.partial(show_account, vhost=vhost)
    ask(request, show, as_json=as_json, config=config, data_dir=data_dir)


@memory.command("passes")
@click.option("--last", type=click.IntRange(1, PASSES_REMEMBERED_MAX), default=20, show_default=True, help="How many.")
@_JSON
@located
def passes(last: int, as_json: bool, config: str | None, data_dir: str | None) -> None:
    """List the last compaction passes, newest last."""
    ask(control.Passes(last), show_passes, as_json=as_json, config=config, data_dir=data_dir)


@memory.command("metrics")
@located
def metrics(config: str | None, data_dir: str | None) -> None:
    """Print counters of passes and how short memory is, as JSON."""
    ask(control.Metrics(), lambda _answered: None, as_json=True, config=config, data_dir=data_dir)


# the account ----------------------------------------------------------------------------------------------------------


def show_account(answered: Answered, *, vhost: str | None = None) -> None:
    """Processes, kinds, and the largest of each sort."""
    shards = answered.all(control.ShardMemory)
    kinds = Counter[str]()
    for shard in shards:
        kinds.update(shard.by_kind)
    if vhost is not None and not sum(shard.counts["vhost"] for shard in shards):
        raise click.ClickException(f"no shard that answered has a virtual host {shown(vhost)!r} open")
    if vhost is None:
        click.echo(_processes(shards, answered.all(control.ProcessMemory)) + "\n")
    whose = "all shards" if vhost is None else f"virtual host {shown(vhost)}"
    kinds = +kinds  # without those that nothing is held of
    total = sum(kinds.values())
    click.echo(table("lrr", [f"used for, in {whose}", "bytes", "share"], _kind_rows(kinds, total)))
    for sort in SORTS:
        held = [one for page in answered.all(control.Largest) if page.sort == sort for one in page.held]
        if held and not (sort == "vhost" and vhost is not None):
            count = sum(shard.counts[sort] for shard in shards)
            click.echo("\n" + _largest(f"largest of {count} {_PLURALS[sort]}", held, names_vhost=sort != "vhost"))


def _processes(shards: Sequence[control.ShardMemory], others: Sequence[control.ProcessMemory]) -> str:
    rows: list[Sequence[str]] = [(one.role, str(one.pid), *_sizes(one.reading), "", "") for one in others]
    for shard in shards:
        known = sum(shard.by_kind.values())
        beyond = shard.reading.private - known
        rows.append((f"shard {shard.shard}", str(shard.pid or "?"), *_sizes(shard.reading), size(known), size(beyond)))
    titles = ("process", "pid", "resident", "proportional", "private", "accounted for", "beyond it")
    return table("lrrrrrr", titles, rows)


def _sizes(reading: control.Reading) -> tuple[str, str, str]:
    return size(reading.rss), size(reading.pss), size(reading.private)


def _kind_rows(kinds: Counter[str], total: int) -> Iterator[tuple[str, str, str]]:
    """Kinds that make a difference, the others together, and all of them."""
    small = {kind: count for kind, count in kinds.items() if count < _SHARE_SHOWN_MIN * total}
    for kind, count in kinds.most_common():
        if kind not in small:
            yield kind, size(count), f"{count / total:.0%}"
    if small:
        yield f"{len(small)} others", size(sum(small.values())), f"{sum(small.values()) / total:.0%}"
    yield "together", size(total), ""


def _largest(title: str, held: Sequence[control.Held], *, names_vhost: bool) -> str:
    rows = [
        (shown(one.name), shown(one.vhost), size(one.size_bytes), largest_first(one.by_kind, _KINDS_SHOWN))
        for one in held
    ]
    if names_vhost:
        return table("llrl", (title, "vhost", "bytes", "used for"), rows)
    return table("lrl", (title, "bytes", "used for"), [(name, count, kinds) for name, _vhost, count, kinds in rows])


# dry runs and passes --------------------------------------------------------------------------------------------------


def show_dry_run(answered: Answered) -> None:
    """What a pass would free, by kind and by vhost."""
    shards = answered.all(control.Reclaimable)
    kinds, vhosts = Counter[str](), Counter[str]()
    for shard in shards:
        kinds.update(shard.by_kind)
        vhosts.update(shard.by_vhost)
    for level in sorted({shard.level for shard in shards}):
        beyond = "" if level == "trim" else ", and what the allocator gives back"
        click.echo(f"a pass of level {level} would free {size(sum(kinds.values()))}{beyond}")
    _show_freed(kinds, vhosts)
    failures = sum(shard.failures for shard in shards)
    if failures:
        click.echo(f"{failures} steps failed for want of memory")


def show_pass(answered: Answered) -> None:
    """One pass, with memory before and after."""
    for done in answered.all(control.Pass):
        click.echo(f"pass {done.number} of level {done.level} took {duration(done.seconds or 0)}")
    reports = answered.all(control.Reclaimed)
    rows = [
        (
            _process(report),
            size(report.before.pss),
            size(report.after.pss),
            size(report.before.pss - report.after.pss),
            size(sum(report.by_kind.values())),
            duration(report.slice_seconds_longest),
            str(report.failures),
        )
        for report in reports
    ]
    titles = ("process", "before", "after", "came back", "freed in it", "longest slice", "failures")
    click.echo(table("lrrrrrr", titles, rows))
    kinds, vhosts = Counter[str](), Counter[str]()
    for report in reports:
        kinds.update(report.by_kind)
        vhosts.update(report.by_vhost)
    _show_freed(kinds, vhosts)


def _show_freed(kinds: Counter[str], vhosts: Counter[str]) -> None:
    if any(kinds.values()):
        click.echo(
            "\n" + table("lr", ["freed of", "bytes"], [(kind, size(count)) for kind, count in kinds.most_common()])
        )
    if any(vhosts.values()):
        rows = [(shown(vhost), size(count)) for vhost, count in vhosts.most_common()]
        click.echo("\n" + table("lr", ["freed for virtual host", "bytes"], rows))


def show_passes(answered: Answered) -> None:
    """A line a pass."""
    rows = [_pass_row(done, reports) for done, reports in _grouped(answered.replies)]
    if not rows:
        click.echo("no passes since the broker was started")
        return
    titles = ("began", "level", "trigger", "pass", "took", "longest slice", "freed", "before", "after", "failures")
    click.echo(table("lllrrrrrrr", titles, rows))


def _grouped(replies: Sequence[control.Reply]) -> list[tuple[control.Pass, list[control.Reclaimed]]]:
    groups: list[tuple[control.Pass, list[control.Reclaimed]]] = []
    for reply in replies:
        if isinstance(reply, control.Pass):
            groups.append((reply, []))
        elif isinstance(reply, control.Reclaimed):
            groups[-1][1].append(reply)
    return groups


def _pass_row(done: control.Pass, reports: Sequence[control.Reclaimed]) -> tuple[str, ...]:
    began = datetime.fromtimestamp(done.began_at, UTC)
    failures = sum(report.failures for report in reports)
    missing = f", {len(done.unanswered)} silent" if done.unanswered else ""
    return (
        f"{began:%Y-%m-%d %H:%M:%S}Z",
        done.level,
        done.trigger,
        str(done.number),
        "under way" if done.seconds is None else duration(done.seconds),
        duration(max((report.slice_seconds_longest for report in reports), default=0.0)),
        size(sum(sum(report.by_kind.values()) for report in reports)),
        size(sum(report.before.pss for report in reports)),
        size(sum(report.after.pss for report in reports)),
        f"{failures}{missing}",
    )


def _process(report: control.Reclaimed) -> str:
    return report.role if report.shard is None else f"shard {report.shard}"
