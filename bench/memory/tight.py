"""A broker short of memory: 256 MiB for it and a neighbour, publishers that fill, consumers that are slow.

`python -m bench.memory.tight [--shards 2] [--limit 256] [--eat 128] [--seconds 60]` prints a markdown table. The broker
lives in a cgroup with that limit and without swap, and so does a process that eats memory in steps, holds it for a
while and lets go of it, again and again. Publishers are faster than consumers all the while, with persistent, confirmed
messages from 100 B to 1 MiB; in the end everything is consumed and compared with what was confirmed. What makes the
load runs outside of the group. Not for RabbitMQ: it knows neither pressure nor passes, and how soon one becomes the
other is what is measured.
"""

import argparse
import itertools
import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from math import inf
from typing import Any, Final

from msgspec import Struct

from bench.fresh_broker import FreshBroker, fresh_broker
from bench.memory.eater import Eater, EaterKilled
from bench.memory.group import Group, limited_group
from bench.memory.numbered import PATIENCE_SECONDS, Consumer, Publisher, Verdict
from bench.memory.readings import MEGABYTE, megabytes
from bench.memory.recorder import Point, Recorder, passes_of
from bench.page import machine
from ipc.messages import control

MIB: Final = 1 << 20
LIMIT_MIB: Final = 256
EATEN_MIB: Final = 128
SECONDS: Final = 60.0
BYTES_PER_SECOND: Final = 8e6  # published of each size on each shard
SIZES: Final = (100, 4_096, 65_536, MIB)  # of messages: a queue, a publisher and a consumer for each, on every shard
MESSAGES_PER_SECOND_MAX: Final = 5_000.0
CONSUMED_SHARE: Final = 0.2  # of what publishers may do
STEP_BYTES: Final = 8 * MIB
STEP_SECONDS: Final = 0.25
CALM_SECONDS: Final = 8.0  # before each meal
HELD_SECONDS: Final = 8.0  # after it
DRAIN_SECONDS_MAX: Final = 300.0
ALARM_SECONDS_MAX: Final = 60.0  # after everything was consumed
WINDOW_SECONDS: Final = 2.0  # the kernel's
SOME_SECONDS: Final = 0.2  # somebody waited for so long within a window, or all for so long: the broker asks to be told
FULL_SECONDS: Final = 0.1
_LOOK_SECONDS: Final = 0.1


class Outcome(Struct, frozen=True):
    verdicts: tuple[Verdict, ...]
    faults: tuple[str, ...]  # of clients and the eater
    oom_kills: int
    restarts: int  # of shards
    alarms: tuple[tuple[float, float], ...]  # from when to when each was raised, seconds since 1970; inf: to the end
    published: float  # messages a second, and
    published_bytes: float  # while they were to fill
    seconds_waited: float  # a publisher at most
    passes: tuple[control.Pass, ...]
    points: tuple[Point, ...]

    @property
    def pressed_at(self) -> float | None:
        """When the group had first waited for so long within one window."""
        first = 0
        for point in self.points:
            while self.points[first].at < point.at - WINDOW_SECONDS:
                first += 1
            then, now = self.points[first].stalled, point.stalled
            if now.some - then.some >= SOME_SECONDS or now.full - then.full >= FULL_SECONDS:
                return point.at
        return None

    @property
    def seen_after(self) -> float | None:
        """Seconds from there to the first pass; below 0: an alarm, or the kernel by its own windows, told."""
        return self.passes[0].began_at - self.pressed_at if self.pressed_at is not None and self.passes else None

    def total(self, field: str) -> int:
        return sum(getattr(verdict, field) for verdict in self.verdicts)

    @property
    def is_kept(self) -> bool:
        """Nobody was killed or restarted, and every promise was."""
        return not (self.oom_kills or self.restarts or self.faults) and all(each.is_kept for each in self.verdicts)


def measure(
    *,
    shards: int,
    sets: int,
    sizes: Sequence[int],
    limit_bytes: int,
    eaten_bytes: int,
    bytes_per_second: float,
    seconds: float,
    arguments: Sequence[str],
) -> Outcome:
    with limited_group(limit_bytes) as group:
        words = ("--log-format", "json", *arguments)
        with (
            fresh_broker(shards=shards, arguments=words, within=group.command) as broker,
            Recorder(broker.supervisor, group) as recorder,
        ):
            publishers, consumers = _clients(broker, shards, sets, sizes, bytes_per_second)
            began = time.monotonic()
            for client in (*publishers, *consumers):
                client.start()
            faults = _eat(group, eaten_bytes, seconds)
            published = (
                sum(each.published for each in publishers),
                sum(each.published * each.size for each in publishers),
            )
            filled_seconds = time.monotonic() - began
            _drain(publishers, consumers)
            logged = _log_without_alarms(broker)
            passes = passes_of(broker.data)
            oom_kills = group.oom_kills()
    faults += [f"{client.queue}: {client.fault!r}" for client in (*publishers, *consumers) if client.fault is not None]
    return Outcome(
        verdicts=tuple(map(Verdict.of, publishers, consumers)),
        faults=tuple(faults),
        oom_kills=oom_kills,
        restarts=sum(line["event"] == "shard restarts" for line in logged),
        alarms=tuple(_alarms(logged)),
        published=published[0] / filled_seconds,
        published_bytes=published[1] / filled_seconds,
        seconds_waited=max(publisher.seconds_waited for publisher in publishers),
        passes=tuple(passes),
        points=tuple(recorder.points),
    )


def _clients(
    broker: FreshBroker, shards: int, sets: int, sizes: Sequence[int], bytes_per_second: float
) -> tuple[list[Publisher], list[Consumer]]:
    """On each shard so many sets of a queue, a publisher and a consumer for each size."""
    publishers, consumers = [], []
    for shard in range(shards):
        vhost = f"tight-{shard}"
        broker.add_vhost(vhost, shard=shard)
        for number, size in itertools.product(range(sets), sizes):
            rate = min(MESSAGES_PER_SECOND_MAX, bytes_per_second / size) / sets
            queue = f"tight-{size}-{number}"
            publishers.append(Publisher(broker.port, vhost, queue, size=size, rate=rate))
            consumers.append(Consumer(broker.port, vhost, queue, size=size, rate=rate * CONSUMED_SHARE))
    return publishers, consumers


def _eat(group: Group, eaten_bytes: int, seconds: float) -> list[str]:
    """For so long, beside whatever else goes on; what went wrong."""
    deadline = time.monotonic() + seconds
    try:
        with Eater(group.command) as eater:
            for held, pause in _meals(eaten_bytes):
                eater.hold(held)
                time.sleep(min(pause, max(0.0, deadline - time.monotonic())))
                if time.monotonic() >= deadline:
                    return []
    except EaterKilled:
        time.sleep(max(0.0, deadline - time.monotonic()))
    return ["the eater was killed"]


def _meals(eaten_bytes: int) -> Iterator[tuple[int, float]]:
    """How much is held for how long, without end."""
    while True:
        yield 0, CALM_SECONDS
        yield from ((held, STEP_SECONDS) for held in range(STEP_BYTES, eaten_bytes, STEP_BYTES))
        yield eaten_bytes, HELD_SECONDS


def _drain(publishers: Sequence[Publisher], consumers: Sequence[Consumer]) -> None:
    """No more is published; wait for all that was confirmed, and a little for what should not come."""
    for publisher in publishers:
        publisher.stop()
    for publisher in publishers:
        publisher.end(PATIENCE_SECONDS)
    for consumer in consumers:
        consumer.hurry()
    deadline = time.monotonic() + DRAIN_SECONDS_MAX
    for publisher, consumer in zip(publishers, consumers, strict=True):
        while len(consumer.numbers) < publisher.confirmed and consumer.fault is None and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
    time.sleep(1)
    for consumer in consumers:
        consumer.stop()
    for consumer in consumers:
        consumer.end(PATIENCE_SECONDS)


def _alarms(logged: Iterable[dict[str, Any]]) -> Iterator[tuple[float, float]]:
    """From when to when each was raised."""
    raised: dict[str, float] = {}
    for line in logged:
        if line["event"] == "alarm raised, publishers wait":
            raised[line["alarm"]] = _seconds(line["timestamp"])
        elif line["event"] == "alarm cleared":
            yield raised.pop(line["alarm"]), _seconds(line["timestamp"])
    yield from ((began, inf) for began in raised.values())


def _seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()


def _log_without_alarms(broker: FreshBroker) -> list[dict[str, Any]]:
    """What it has logged once no alarm is raised any more; they may stay for as long as passes in vain keep away."""
    deadline = time.monotonic() + ALARM_SECONDS_MAX
    while True:
        logged = [json.loads(line) for line in broker.log.splitlines()]
        if all(ended < inf for _, ended in _alarms(logged)) or time.monotonic() > deadline:
            return logged
        time.sleep(_LOOK_SECONDS)


def table(outcome: Outcome) -> str:
    highest = max(outcome.points, key=lambda point: point.private)
    charges = [point.charge for point in outcome.points if point.charge is not None]
    seen = outcome.seen_after
    end = outcome.points[-1].at
    levels = Counter(f"{done.level} for {done.trigger}" for done in outcome.passes)
    rows = [
        ("killed for want of memory", f"{outcome.oom_kills}", "0"),
        ("shards started again", f"{outcome.restarts}", "0"),
        ("confirmed", f"{outcome.total('confirmed'):,}", ""),
        ("… and missing", f"{outcome.total('missing'):,}", "0"),
        (
            "repeated, damaged, never published",
            f"{[outcome.total(f) for f in ('repeated', 'damaged', 'unknown')]}",
            "0",
        ),
        ("published and not confirmed", f"{outcome.total('unconfirmed'):,}", "0"),
        ("pressure to first pass", "–" if seen is None else f"{max(0.0, seen):.1f} s", f"≤ {WINDOW_SECONDS:g} s"),
        ("somebody waited for memory", f"{outcome.points[-1].stalled.some:.1f} s", ""),
        ("passes", ", ".join(f"{count} {name}" for name, count in levels.items()), ""),
        ("alarms raised", f"{len(outcome.alarms)}", ""),
        ("… and not cleared in the end", f"{sum(ended == inf for _, ended in outcome.alarms)}", "0"),
        ("publishers waited in all", f"{sum(min(ended, end) - began for began, ended in outcome.alarms):.1f} s", ""),
        ("published", f"{outcome.published:,.0f} messages/s, {megabytes(outcome.published_bytes)}/s", ""),
        ("a publisher waited at most", f"{outcome.seconds_waited:.1f} s", ""),
        ("private memory at most", megabytes(highest.private), ""),
        ("the group at most", megabytes(max(charge.usage for charge in charges)), ""),
        ("… of that heaps", megabytes(max(charge.anonymous for charge in charges)), ""),
    ]
    lines = ["| | | target |", "|---|---:|---:|", *(f"| {' | '.join(row)} |" for row in rows)]
    lines += [f"* {fault}" for fault in outcome.faults]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument(
        "--sets", type=int, default=1, help="of clients on each shard, which share the load (default: 1)"
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help=f"of messages, bytes (default: {SIZES})")
    parser.add_argument(
        "--rate", type=float, default=BYTES_PER_SECOND / MEGABYTE, help="MB/s of each size on each shard"
    )
    parser.add_argument("--limit", type=int, default=LIMIT_MIB, help="MiB that the group may have (default: 256)")
    parser.add_argument("--eat", type=int, default=EATEN_MIB, help="MiB that the neighbour takes (default: 128)")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--set", action="append", default=[], help="a setting for the broker, section.key=value")
    options = parser.parse_args()
    outcome = measure(
        shards=options.shards,
        sets=options.sets,
        sizes=options.sizes,
        limit_bytes=options.limit * MIB,
        eaten_bytes=options.eat * MIB,
        bytes_per_second=options.rate * MEGABYTE,
        seconds=options.seconds,
        arguments=[word for setting in options.set for word in ("--set", setting)],
    )
    print(f"{machine()}; {options.limit} MiB, of which {options.eat} are eaten; {options.shards} shards.\n")
    print(table(outcome))
    if not outcome.is_kept:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
