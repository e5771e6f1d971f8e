"""Attempts to log in as families of metrics, by RabbitMQ's names: summed up, by protocol, or by source."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

from prometheus_client.core import CounterMetricFamily, Metric

from ipc.messages.control import LoginAttempt

_COUNTS: Final[tuple[tuple[str, str, Callable[[LoginAttempt], int]], ...]] = (
    ("", "Total number of authorization attempts", lambda row: row.succeeded + row.failed),
    ("_succeeded", "Total number of successful authentication attempts", lambda row: row.succeeded),
    ("_failed", "Total number of failed authentication attempts", lambda row: row.failed),
)


class AttemptFamily(NamedTuple):
    """Told apart by `labels`: the label, and the field that stands in it."""

    name: str
    by_source: bool
    labels: Mapping[str, str]


SUM: Final = AttemptFamily("auth_attempts", by_source=False, labels=MappingProxyType({}))

ATTEMPT_FAMILIES: Final[Mapping[str, AttemptFamily]] = MappingProxyType(
    {
        "auth_attempt_metrics": AttemptFamily("auth_attempts", by_source=False, labels={"protocol": "protocol"}),
        "auth_attempt_detailed_metrics": AttemptFamily(
            "auth_attempts_detailed",
            by_source=True,
            labels={"remote_address": "address", "username": "user", "protocol": "protocol"},
        ),
    }
)


def attempt_families(rows: Sequence[LoginAttempt], family: AttemptFamily, prefix: str) -> Iterator[Metric]:
    """Three counters, with a sample for each combination of labels."""
    for suffix, what, count in _COUNTS:
        metric = CounterMetricFamily(f"{prefix}{family.name}{suffix}", what, labels=list(family.labels))
        counted: dict[tuple[str, ...], int] = {} if family.labels else {(): 0}
        for row in rows:
            place = tuple(str(getattr(row, field)) for field in family.labels.values())
            counted[place] = counted.get(place, 0) + count(row)
        for place, number in counted.items():
            metric.add_metric(list(place), number)
        yield metric
