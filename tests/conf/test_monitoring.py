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
        attempts=[],
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


# What panels of RabbitMQ's overview ask for in 3.10, 3.13 and 4.3, without what leaves three of them empty here.
RABBITMQS_OVERVIEW = (
    "build_info",
    "channel_consumers",
    "channels",
    "channels_closed_total",
    "channels_opened_total",
    "connections",
    "connections_closed_total",
    "connections_opened_total",
    "disk_space_available_bytes",
    "disk_space_available_limit_bytes",
    "erlang_uptime_seconds",
    "global_consumers",
    "global_messages_acknowledged_total",
    "global_messages_confirmed_total",
    "global_messages_delivered_consume_auto_ack_total",
    "global_messages_delivered_consume_manual_ack_total",
    "global_messages_delivered_get_auto_ack_total",
    "global_messages_delivered_get_manual_ack_total",
    "global_messages_delivered_total",
    "global_messages_get_empty_total",
    "global_messages_received_total",
    "global_messages_redelivered_total",
    "global_messages_routed_total",
    "global_messages_unroutable_dropped_total",
    "global_messages_unroutable_returned_total",
    "identity_info",
    "process_max_fds",
    "process_max_tcp_sockets",
    "process_open_fds",
    "process_open_tcp_sockets",
    "process_resident_memory_bytes",
    "queue_messages_ready",
    "queue_messages_unacked",
    "queues",
    "queues_created_total",
    "queues_declared_total",
    "queues_deleted_total",
    "resident_memory_limit_bytes",
)


def test_rabbitmqs_own_dashboard_finds_what_it_asks_for() -> None:
    assert {f"rabbitmq_{name}" for name in RABBITMQS_OVERVIEW} <= exposed()


def test_every_alert_asks_for_metrics_that_there_are() -> None:
    rules = yaml.safe_load((CONF / "prometheus" / "alerts.yml").read_text())
    asked = {name for expression in expressions_of(rules) for name in METRIC.findall(expression)}

    assert len(asked) > 8
    assert asked <= exposed()
