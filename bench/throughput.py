"""Messages a second through one queue: one publisher and one consumer, each a process of its own.

`python -m bench.throughput [--messages N] [--repetitions 5] [--durable]` prints a markdown table. The modes alternate
within each repetition, so that a machine that warms up or slows down does so for all of them.
"""

import argparse
import multiprocessing
import os
import platform
import statistics
import time
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Barrier
from typing import Final, NamedTuple

from pamqp import commands

from bench.fresh_broker import FreshBroker, fresh_broker
from bench.wire import Wire, publish_frames, publish_many, take_deliveries

SIZES: Final = (16, 1024)
PREFETCH: Final = 2000
ACK_EVERY: Final = 500
WARM_UP_MESSAGES: Final = 5_000

_processes = multiprocessing.get_context("spawn")


class Mode(NamedTuple):
    size: int
    acknowledge: bool

    def __str__(self) -> str:
        size = f"{self.size} B" if self.size < 1024 else f"{self.size // 1024} KiB"
        return f"{size}, {'ack' if self.acknowledge else 'auto-ack'}"


class Result(NamedTuple):
    messages_per_second: float
    broker_cpu_seconds_per_million: float


def publish(
    port: int, queue: str, mode: Mode, count: int, durable: bool, begin: Barrier, started: "Synchronized[float]"
) -> None:
    wire = Wire(port)
    message = publish_frames(queue, mode.size, persistent=durable)
    begin.wait()
    started.value = time.perf_counter()  # the monotonic clock, which all processes share
    publish_many(wire, message, count)
    # Closing with unread bytes would reset the connection and lose what is still under way.
    wire.declare(queue, durable=durable)
    wire.close()


def consume(port: int, queue: str, mode: Mode, count: int, begin: Barrier, ended: "Synchronized[float]") -> None:
    wire = Wire(port)
    wire.consume(queue, no_ack=not mode.acknowledge, prefetch=PREFETCH if mode.acknowledge else 0)
    begin.wait()
    take_deliveries(wire, count, mode.size, ack_every=ACK_EVERY if mode.acknowledge else 0)
    ended.value = time.perf_counter()
    # A request with an answer, so that the last acknowledgement was taken in before we leave.
    wire.send(commands.Basic.Cancel(consumer_tag="bench"))
    wire.await_frame("Basic.CancelOk")
    wire.close()


def run(broker: FreshBroker, mode: Mode, count: int, *, durable: bool) -> Result:
    """Publish and consume `count` messages at the same time; the clock runs from their start to the last delivery."""
    queue = f"bench-{mode.size}-{mode.acknowledge}"
    control = Wire(broker.port)
    control.declare(queue, durable=durable)
    begin, started, ended = _processes.Barrier(3), _processes.Value("d"), _processes.Value("d")
    consumer = _processes.Process(target=consume, args=(broker.port, queue, mode, count, begin, ended))
    publisher = _processes.Process(target=publish, args=(broker.port, queue, mode, count, durable, begin, started))
    consumer.start()
    publisher.start()
    cpu = broker.cpu_seconds()
    begin.wait(60)
    consumer.join()
    publisher.join()
    elapsed = ended.value - started.value
    used = broker.cpu_seconds() - cpu
    if consumer.exitcode or publisher.exitcode:
        raise SystemExit("a client failed")
    control.delete(queue)
    control.close()
    return Result(count / elapsed, used / count * 1e6)


def table(results: dict[Mode, list[Result]]) -> str:
    lines = [
        "| one publisher, one consumer | messages/s, median | lowest to highest | broker CPU s per million |",
        "|---|---:|---:|---:|",
    ]
    for mode, runs in results.items():
        rates = [run.messages_per_second for run in runs]
        cpu = statistics.median(run.broker_cpu_seconds_per_million for run in runs)
        lines.append(
            f"| {mode} | {statistics.median(rates):,.0f} | {min(rates):,.0f} to {max(rates):,.0f} | {cpu:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--messages", type=int, default=1_000_000, help="per run (default: 1,000,000)")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--durable", action="store_true", help="durable queue, persistent messages, without confirms")
    parser.add_argument("--data-on", help="directory for the broker's data (default: the system's temporary one)")
    options = parser.parse_args()

    modes = [Mode(size, acknowledge) for size in SIZES for acknowledge in (False, True)]
    results: dict[Mode, list[Result]] = {mode: [] for mode in modes}
    with fresh_broker(data_on=options.data_on) as broker:
        for mode in modes:
            run(broker, mode, WARM_UP_MESSAGES, durable=options.durable)
        for _ in range(options.repetitions):
            for mode in modes:
                results[mode].append(run(broker, mode, options.messages, durable=options.durable))
    kind = "durable queue, persistent messages" if options.durable else "transient queue and messages"
    print(
        f"### Throughput: {kind}\n\n{options.messages:,} messages a run, {options.repetitions} alternating runs, "
        f"{os.cpu_count()} cores shared with the clients, Python {platform.python_version()}\n"
    )
    print(table(results))
    print()


if __name__ == "__main__":
    main()
