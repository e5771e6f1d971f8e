"""A long day in little time: queues, bindings, consumers and connections come and go; memory must not creep.

`python -m bench.memory.churn [--broker rabbitmq] [--operations 10000000] [--minutes 60] [--idle 2]` prints a markdown
table: private memory after a warm-up of a tenth, and at the end, each once a peak has passed. The time bounds it; what
was done is said. `--idle` is a setting of EbbMQ, RabbitMQ rests as long before it is read.
"""

import argparse
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Final

from pamqp import base, commands

from bench.memory.readings import megabytes, private_bytes
from bench.memory.subject import add_option, name_of, started
from bench.page import machine
from bench.wire import Wire

QUEUES: Final = 100  # a round: each declared, bound, consumed from, cancelled, deleted
# All queues take each step together: a RabbitMQ that has not answered one does not bear the next.
STEPS: Final[tuple[tuple[Callable[[str], base.Frame], str], ...]] = (
    (lambda name: commands.Queue.Declare(queue=name), "Queue.DeclareOk"),
    (lambda name: commands.Queue.Bind(queue=name, exchange="amq.topic", routing_key=f"a.{name}.*"), "Queue.BindOk"),
    (lambda name: commands.Basic.Consume(queue=name, consumer_tag=name), "Basic.ConsumeOk"),
    (lambda _name: commands.Basic.Qos(), "Basic.QosOk"),
    (lambda name: commands.Basic.Cancel(consumer_tag=name), "Basic.CancelOk"),
    (lambda name: commands.Queue.Delete(queue=name), "Queue.DeleteOk"),
)
OPERATIONS_PER_QUEUE: Final = len(STEPS)
ROUND: Final = QUEUES * OPERATIONS_PER_QUEUE + 2  # and a connection opened and closed
WARM_UP_SHARE: Final = 0.1
GROWTH_MAX: Final = 0.05


def rounds(port: int) -> Iterator[int]:
    """Operations done by each round, on a connection of its own."""
    for number in itertools.count():
        names = [f"churn-{number}-{index}" for index in range(QUEUES)]
        with Wire(port) as wire:
            for ask, answer in STEPS:
                wire.ask_all([ask(name) for name in names], answer)
        yield ROUND


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add_option(parser)
    parser.add_argument("--operations", type=int, default=10_000_000)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--idle", type=float, default=2.0, help="seconds after which a shard gives back by itself")
    options = parser.parse_args()
    began = time.monotonic()
    with started(options.broker, ["--set", f"compaction.idle_trim_seconds={options.idle}"]) as subject:

        def rest() -> int:
            time.sleep(3 * options.idle)
            return private_bytes(subject.root)

        done, warm, highest = 0, 0, 0
        for count in rounds(subject.port):
            done += count
            if not warm and (
                done >= options.operations * WARM_UP_SHARE
                or time.monotonic() - began > options.minutes * 60 * WARM_UP_SHARE
            ):
                warm, at_warm = rest(), done
            if done % (ROUND * 50) == 0:
                highest = max(highest, private_bytes(subject.root))
            if done >= options.operations or time.monotonic() - began > options.minutes * 60:
                break
        end = rest()
    growth = (end - warm) / warm
    verdict = "met" if growth <= GROWTH_MAX else "**not met**"
    print(f"{machine()}; {time.monotonic() - began:.0f} s.\n")
    print(f"| operations | {name_of(options.broker)}, private memory |\n|---:|---:|")
    print(f"| {at_warm:,} | {megabytes(warm)} |\n| {done:,} | {megabytes(end)} ({growth:+.1%}) |")
    print(f"\nHighest in between: {megabytes(highest)}. Target: within {GROWTH_MAX:.0%}: {verdict}.")


if __name__ == "__main__":
    main()
