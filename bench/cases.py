"""The matrix: each case with what the load tool is asked for and what EbbMQ must reach, and who is compared."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

from msgspec import Struct, structs

from bench.measures import LATENCIES, Measure
from bench.participants import COMPILED, EBBMQ, INTERPRETED, ONE_SHARD, RABBITMQ, TWO_SHARDS, VHOSTS, Participant
from bench.targets import KEEPS_UP, Target, at_least, at_most, times
from bench.topic_bindings import BINDINGS, KEYS, MANY_KEYS, ONE_KEY, many_keys, one_key

Preparation = Callable[[int], AbstractContextManager[None]]
"""What stands in the broker on this port while the case runs."""


class Case(Struct, frozen=True, kw_only=True):
    """`arguments` are those of `ebbmq perf`, without target, duration and format; `{queue}` is a name new in each run.

    A name that came back would bring what a run before left in it, should that have failed.
    """

    name: str
    title: str
    arguments: str
    counts: Measure = Measure.CONSUMED  # what the ratio compares and CPU seconds are divided by
    shows: tuple[Measure, ...] = ()  # where that is not enough
    targets: tuple[Target, ...] = ()
    prepare: Preparation | None = None
    fill: str = ""  # arguments of a run before that leaves its messages standing; this run takes as many
    vhosts: tuple[str, ...] = ("/",)  # one load tool on each

    @property
    def shown(self) -> tuple[Measure, ...]:
        return self.shows or (self.counts,)

    @property
    def is_latency(self) -> bool:
        return self.shown[0] in LATENCIES


class Comparison(Struct, frozen=True, kw_only=True):
    """Two participants who take turns; targets are the second one's."""

    title: str
    base: Participant
    subject: Participant
    cases: tuple[Case, ...]


CHURNERS: Final = 8
"""At once: a client alone spends its time waiting for two processes to wake each other up."""

_PLAIN: Final = "throughput -u {queue} -x 1 -y 1"
_SMALL: Final = Case(
    name="16B",
    title="16 B, 1 publisher 1 consumer, auto-ack",
    arguments=f"{_PLAIN} -s 16",
    targets=(times(8), at_most(Measure.CPU, 0.9)),
)
_MEDIUM: Final = Case(
    name="1KiB",
    title="1 KiB, same",
    arguments=f"{_PLAIN} -s 1024",
    targets=(times(7), at_most(Measure.CPU, 2.5)),
)
_SMALL_CONFIRMED: Final = Case(
    name="16B-confirmed",
    title="16 B persistent, confirm window 1000, prefetch 1000, ack every 100",
    arguments=f"{_PLAIN} -s 16 -p -c 1000 -P 1000 -a 100",
    targets=(times(12), at_most(Measure.CPU, 2.0)),
)
_MEDIUM_CONFIRMED: Final = Case(
    name="1KiB-confirmed",
    title="1 KiB persistent, window 100, prefetch 100, ack every 10",
    arguments=f"{_PLAIN} -s 1024 -p -c 100 -P 100 -a 10",
    targets=(times(4), at_most(Measure.CPU, 8)),
)

REACH: Final = Comparison(
    title="Beside RabbitMQ",
    base=RABBITMQ,
    subject=EBBMQ,
    cases=(
        _SMALL,
        _MEDIUM,
        Case(
            name="16KiB",
            title="16 KiB, same",
            arguments=f"{_PLAIN} -s 16384",
            targets=(times(2), at_most(Measure.CPU, 25)),
        ),
        _SMALL_CONFIRMED,
        _MEDIUM_CONFIRMED,
        Case(
            name="1KiB-window-1",
            title="1 KiB persistent, window 1, prefetch 100, ack every 10",
            arguments=f"{_PLAIN} -s 1024 -p -c 1 -P 100 -a 10",
            targets=(times(2.5),),
        ),
        Case(
            name="50x50",
            title="50 publishers, 50 consumers, one queue, 16 B",
            arguments="throughput -u {queue} -x 50 -y 50 -s 16",
            counts=Measure.TOTAL,
            shows=(Measure.PUBLISHED, Measure.CONSUMED),
            targets=(KEEPS_UP, times(1, Measure.TOTAL)),
        ),
        Case(
            name="latency",
            title="latency at 10,000/s, 1 KiB",
            arguments=f"{_PLAIN} -s 1024 -r 10000 -l",
            shows=(Measure.MEDIAN_MS, Measure.P99_MS),
            targets=(at_most(Measure.MEDIAN_MS, 0.3), at_most(Measure.P99_MS, 1.5)),
        ),
        Case(
            name="connection-churn-8",
            title=f"connections opened and closed, {CHURNERS} clients at it",
            arguments=f"connection-churn -x {CHURNERS}",
            counts=Measure.CHURNED,
            targets=(at_least(Measure.CHURNED, 2_500),),
        ),
        Case(
            name="connection-churn",
            title="the same, one client",
            arguments="connection-churn",
            counts=Measure.CHURNED,
            targets=(at_least(Measure.CHURNED, 2_500),),
        ),
        Case(
            name="channel-churn-8",
            title=f"channels opened and closed, {CHURNERS} clients at it",
            arguments=f"channel-churn -x {CHURNERS}",
            counts=Measure.CHURNED,
            targets=(at_least(Measure.CHURNED, 15_000),),
        ),
        Case(
            name="channel-churn",
            title="the same, one client",
            arguments="channel-churn",
            counts=Measure.CHURNED,
            targets=(at_least(Measure.CHURNED, 15_000),),
        ),
        Case(
            name="transient-queue-churn",
            title="transient queues declared and deleted",
            arguments="queue-churn --only transient",
            counts=Measure.CHURNED,
            targets=(at_least(Measure.CHURNED, 5_000),),
        ),
        Case(
            name="durable-queue-churn",
            title="durable queues declared and deleted",
            arguments="queue-churn --only durable",
            counts=Measure.CHURNED,
            targets=(at_least(Measure.CHURNED, 800),),
        ),
        Case(
            name="publish-only",
            title="16 B, publish only",
            arguments="throughput -u {queue} -x 1 -y 0 -s 16",
            counts=Measure.PUBLISHED,
        ),
        Case(
            name="consume-only",
            title="16 B, consume only, auto-ack",
            arguments="throughput -u {queue} -x 0 -y 1 -s 16",
            fill="throughput -u {queue} -x 1 -y 0 -s 16 --keep",
        ),
        Case(
            name="fan-out",
            title="16 B, fan-out to 4 queues with a consumer each: deliveries",
            arguments="throughput -x 1 -y 4 -s 16 -e amq.fanout --queue-pattern {queue}-% --queue-pattern-to 4",
        ),
        Case(
            name="topic-one-key",
            title=f"16 B, topic exchange with {BINDINGS:,} bindings, one routing key",
            arguments=f"throughput -x 1 -y 1 -s 16 {ONE_KEY}",
            prepare=one_key,
        ),
        Case(
            name="topic-many-keys",
            title=f"16 B, the same with {KEYS} routing keys to as many queues in turn",
            arguments=f"throughput -x 1 -y 1 -s 16 {MANY_KEYS}",
            prepare=many_keys,
        ),
    ),
)


def _for_report(case: Case, name: str, vhosts: tuple[str, ...] = ("/",)) -> Case:
    """The same load in a comparison that has no targets."""
    title = case.title.replace(", same", ", 1 publisher 1 consumer, auto-ack")
    return structs.replace(case, name=f"{name}-{case.name}", title=title, targets=(), vhosts=vhosts)


SPEEDS: Final = Comparison(
    title="Interpreted against compiled",
    base=INTERPRETED,
    subject=COMPILED,
    cases=tuple(_for_report(case, "interpreted") for case in (_SMALL, _MEDIUM, _SMALL_CONFIRMED, _MEDIUM_CONFIRMED)),
)

SHARDS: Final = Comparison(
    title="4 vhosts, each with such a load: one shard against two",
    base=ONE_SHARD,
    subject=TWO_SHARDS,
    cases=tuple(_for_report(case, "4-vhosts", VHOSTS) for case in (_SMALL, _MEDIUM_CONFIRMED)),
)

COMPARISONS: Final = (REACH, SPEEDS, SHARDS)
