"""Puts the load of one case on a broker with `ebbmq perf`, the same tool for every broker, and reads what it says."""

import itertools
import json
import subprocess
from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any, Final
from urllib.parse import quote

from msgspec import Struct

from bench import process_tree
from bench.cases import Case
from bench.fresh_broker import COMMAND, ROOT, environment
from bench.measures import MILLION, Measure, Outcome
from bench.participants import Running
from bench.wire import Wire

FILL_SECONDS_SHARE: Final = 0.4  # of a run's duration; emptying is slower than filling
SENTENCE_LENGTH_MAX: Final = 500
OVERTIME_SECONDS_MAX: Final = 90.0  # beyond the duration, for coming and going
IDLE_SECONDS_MAX: Final = 15.0

_numbers = itertools.count(1)
_MEASURES: Final = {  # by the key the load tool's summary has it under
    "avg_pub_rate": Measure.PUBLISHED,
    "avg_consume_rate": Measure.CONSUMED,
    "avg_rate": Measure.CHURNED,
}
_LATENCIES: Final = {"latency_p50_us": Measure.MEDIAN_MS, "latency_p99_us": Measure.P99_MS}
_US_PER_MS: Final = 1_000
_COUNTS: Final = {
    Measure.PUBLISHED: ("published",),
    Measure.CONSUMED: ("consumed",),
    Measure.TOTAL: ("published", "consumed"),
    Measure.CHURNED: ("operations",),
}


class LoadFailed(Exception):
    """The load tool did not come to its end; the message is its own."""


class Run(Struct, frozen=True):
    """What one run showed, and the load tool's remarks that it, or the machine, was the limit."""

    outcome: Outcome
    notes: tuple[str, ...]


def run(case: Case, broker: Running, seconds: float) -> Run:
    """One run of the case, once the broker has come to rest. Raises LoadFailed."""
    queue = f"bench-{next(_numbers)}"
    arguments = _filled_in(case.arguments, queue)
    with case.prepare(broker.port) if case.prepare else nullcontext():
        if case.fill:
            (summary,) = _for_seconds(
                broker.port, _filled_in(case.fill, queue), case.vhosts, seconds * FILL_SECONDS_SHARE
            )
            arguments += ["-D", str(summary["published"])]
        process_tree.await_idle(broker.root, seconds_max=IDLE_SECONDS_MAX)
        before = process_tree.cpu_seconds(broker.root)
        try:
            summaries = _for_seconds(broker.port, arguments, case.vhosts, seconds)
            cpu = process_tree.cpu_seconds(broker.root) - before
        finally:
            _delete(broker.port, case.vhosts, queue)
    return Run(_outcome(case, summaries, cpu), tuple(filter(None, (summary.get("note") for summary in summaries))))


def _filled_in(arguments: str, queue: str) -> list[str]:
    return arguments.replace("{queue}", queue).split()


def _delete(port: int, vhosts: tuple[str, ...], queue: str) -> None:
    """It is there where the load tool was to keep it or failed."""
    for vhost in vhosts:
        with Wire(port, vhost=vhost) as wire:
            wire.delete(queue)


def _outcome(case: Case, summaries: Iterable[dict[str, Any]], cpu: float) -> Outcome:
    """Rates and counts of load tools that ran side by side add up."""
    rates: dict[Measure, float] = {}
    count = 0
    for summary in summaries:
        for key, measure in _MEASURES.items():
            if key in summary:
                rates[measure] = rates.get(measure, 0) + summary[key]
        rates |= {measure: summary[key] / _US_PER_MS for key, measure in _LATENCIES.items() if key in summary}
        count += sum(summary[key] for key in _COUNTS[case.counts])
    if Measure.PUBLISHED in rates:
        rates[Measure.TOTAL] = rates[Measure.PUBLISHED] + rates[Measure.CONSUMED]
    if not count:
        raise LoadFailed("nothing went through")
    return rates | {Measure.CPU: cpu / count * MILLION}


def perf(port: int, arguments: list[str], *, seconds_max: float) -> dict[str, Any]:
    """One load tool on the vhost `/`, to the end its arguments say; its summary. Raises LoadFailed."""
    (summary,) = _side_by_side(port, arguments, ("/",), seconds_max)
    return summary


def _for_seconds(port: int, arguments: list[str], vhosts: tuple[str, ...], seconds: float) -> list[dict[str, Any]]:
    return _side_by_side(port, [*arguments, "--time", f"{seconds:g}"], vhosts, seconds + OVERTIME_SECONDS_MAX)


def _side_by_side(port: int, arguments: list[str], vhosts: tuple[str, ...], seconds_max: float) -> list[dict[str, Any]]:
    """A load tool on each vhost, all at the same time; their summaries."""
    scenario, *options = arguments
    started = []
    for vhost in vhosts:
        uri = f"amqp://guest:guest@127.0.0.1:{port}/{quote(vhost, safe='')}"
        command = [*COMMAND, "perf", scenario, "--uri", uri, "--json", "--quiet", *options]
        started.append(
            subprocess.Popen(
                command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        )
    try:
        return [_summary(process, seconds_max) for process in started]
    finally:
        for process in started:
            process.kill()  # no effect on those that have ended
            process.wait()


def _summary(process: "subprocess.Popen[str]", seconds_max: float) -> dict[str, Any]:
    try:
        out, err = process.communicate(timeout=seconds_max)
    except subprocess.TimeoutExpired as late:
        raise LoadFailed(f"the load tool did not end within {seconds_max:.0f} s") from late
    if process.returncode:
        raise LoadFailed(
            " ".join(err.split())[-SENTENCE_LENGTH_MAX:] or f"the load tool ended with {process.returncode}"
        )
    summary: dict[str, Any] = json.loads(out.splitlines()[-1])
    if "note" in summary:
        return summary
    (only,) = summary.values()  # a churn's summary has one part for each kind of thing churned
    assert isinstance(only, dict)
    return only
