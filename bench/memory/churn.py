"""A long day in little time: queues, bindings, consumers and connections come and go; memory must not creep.

`python -m bench.memory.churn [--operations 10000000] [--minutes 60] [--idle 2]` prints a markdown table: private memory
after a warm-up of a tenth, and at the end, each once a peak has passed. The time bounds it; what was done is said.
"""

import argparse
import itertools
import time
from collections.abc import Iterator
from typing import Final

from pamqp import commands, frame

from bench.fresh_broker import fresh_broker
from bench.memory.readings import megabytes, private_bytes
from bench.page import machine
from bench.wire import Wire

QUEUES: Final = 100  # a round: each declared, bound, consumed from, published to, cancelled, deleted
OPERATIONS_PER_QUEUE: Final = 6
ROUND: Final = QUEUES * OPERATIONS_PER_QUEUE + 2  # and a connection opened and closed
WARM_UP_SHARE: Final = 0.1
GROWTH_MAX: Final = 0.05


def rounds(port: int) -> Iterator[int]:
    """Operations done by each round, on a connection of its own."""
    for number in itertools.count():
        names = [f"churn-{number}-{index}" for index in range(QUEUES)]
        with Wire(port) as wire:
            for name in names:
                wire.socket.sendall(
                    b"".join(
                        frame.marshal(method, 1)
                        for method in (
                            commands.Queue.Declare(queue=name),
                            commands.Queue.Bind(queue=name, exchange="amq.topic", routing_key=f"a.{name}.*"),
                            commands.Basic.Consume(queue=name, consumer_tag=name),
                            commands.Basic.Qos(),
                            commands.Basic.Cancel(consumer_tag=name),
                            commands.Queue.Delete(queue=name),
                        )
                    )
                )
            for _ in names:
                for answer in ("Queue.DeclareOk", "Queue.BindOk", "Basic.ConsumeOk", "Basic.QosOk"):
                    wire.await_frame(answer)
                wire.await_frame("Basic.CancelOk")
                wire.await_frame("Queue.DeleteOk")
        yield ROUND


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--operations", type=int, default=10_000_000)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--idle", type=float, default=2.0, help="seconds after which a shard gives back by itself")
    options = parser.parse_args()
    began = time.monotonic()
    with fresh_broker(arguments=["--set", f"compaction.idle_trim_seconds={options.idle}"]) as broker:

        def rest() -> int:
            time.sleep(3 * options.idle)
            return private_bytes(broker.supervisor)

        done, warm, highest = 0, 0, 0
        for count in rounds(broker.port):
            done += count
            if not warm and (
                done >= options.operations * WARM_UP_SHARE
                or time.monotonic() - began > options.minutes * 60 * WARM_UP_SHARE
            ):
                warm, at_warm = rest(), done
            if done % (ROUND * 50) == 0:
                highest = max(highest, private_bytes(broker.supervisor))
            if done >= options.operations or time.monotonic() - began > options.minutes * 60:
                break
        end = rest()
    growth = (end - warm) / warm
    verdict = "met" if growth <= GROWTH_MAX else "**not met**"
    print(f"{machine()}; {time.monotonic() - began:.0f} s.\n\n| operations | private memory |\n|---:|---:|")
    print(f"| {at_warm:,} | {megabytes(warm)} |\n| {done:,} | {megabytes(end)} ({growth:+.1%}) |")
    print(f"\nHighest in between: {megabytes(highest)}. Target: within {GROWTH_MAX:.0%}: {verdict}.")


if __name__ == "__main__":
    main()
