"""The dashboard and the alert rules: they ask for metrics that there are."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import yaml
from prometheus_client import CollectorRegistry, generate_latest

from ipc.messages import control
from runtime.management.figures import Figures
from runtime.management.metrics.families import Collected, Scrape, broker_families

CONF = Path(__file__).parents[2] / "conf"
METRIC = re.compile(r"\b(?:rabbitmq|ebbmq)_[a-z_]+\b")


def exposed() -> set[str]:
    """Names of everything that a scrape of a broker tells that has been through all of it."""
    reading = control.Reading(rss=1, pss=1, private=1)
    averages = control.Averages(avg10=0.0, avg60=0.0, avg300=0.0, total=0)
    scrape = Scrape(
        node="ebbmq@here",
        cluster="here",
        started_at=0.0,
        figures=Figures.of([]),
        status=control.Broker("0", 1, "/", "ready", 1.0, 1, (), "system", None),
        counters=control.Counters(
            passes=(control.PassCount("SIGUSR1", "release", 1),),
            freed_bytes_by_kind={"dict": 1},
            slice_seconds_longest=0.0,
            failures=0,
            unanswered=0,
            pressure_source="system",
            pressure_level=None,
            pressure_file=None,
            some=averages,
            full=averages,
        ),
        memory=[
            control.ShardMemory(0, 1, reading, {"queues": 1}, {}, 1, 0.0, 0.0, 0.0, 0.0),
            control.ProcessMemory("supervisor", 1, reading),
        ],
        descriptors=1,
        descriptors_max=1,
    )
    registry = CollectorRegistry()
    registry.register(Collected(broker_families(scrape)))
    text = generate_latest(registry).decode()
    return {line.split("{")[0].split(" ")[0] for line in text.splitlines() if not line.startswith("#")}


def expressions_of(found: object) -> Iterator[str]:
    """Everything that stands under `expr`, however deep."""
    if isinstance(found, dict):
        for name, value in found.items():
            if name == "expr":
                yield value
            else:
                yield from expressions_of(value)
    elif isinstance(found, list):
        for value in found:
            yield from expressions_of(value)


def test_every_panel_asks_for_metrics_that_there_are() -> None:
    dashboard = json.loads((CONF / "grafana" / "ebbmq.json").read_text())
    asked = {name for expression in expressions_of(dashboard) for name in METRIC.findall(expression)}

    assert len(asked) > 20
    assert asked <= exposed()


def test_every_alert_asks_for_metrics_that_there_are() -> None:
    rules = yaml.safe_load((CONF / "prometheus" / "alerts.yml").read_text())
    asked = {name for expression in expressions_of(rules) for name in METRIC.findall(expression)}

    assert len(asked) > 8
    assert asked <= exposed()
