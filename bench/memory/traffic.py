"""Traffic while a pass shrinks a million entries: what the pass costs those who publish and consume meanwhile.

`python -m bench.memory.traffic [--broker rabbitmq] [--entries 1000000] [--rate 20000] [--repetitions 5] [--burden 4]`
prints a markdown table. Deliveries nobody acknowledges and queues with bindings are the entries; nine of ten go, and
while messages flow at this rate with acknowledgements, a pass is asked for, and then none, in turn: the same seconds
with and without are compared. RabbitMQ collects its garbage when it likes and cannot be asked, so it has the first row
only: the same traffic after the same load, whatever it does about memory meanwhile. `--burden` has so many processes
take what they get of the processors: a slice may wait for one then, which its CPU seconds leave out.
"""

import argparse
import re
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from bench.load import perf
from bench.memory.subject import EBBMQ, Subject, add_option, name_of, started
from bench.memory.tide import Size, Tide
from bench.page import machine
from runtime.supervisor.descriptors import raise_limit

SECONDS: Final = 4
KEPT_EACH: Final = 10
PASS_AFTER_SECONDS: Final = 1.5
_REPORT: Final = re.compile(
    r"memory reclaimed.*shard=0 .*seconds=(\S+) slice_seconds_longest=(\S+) slice_cpu_seconds_longest=(\S+)"
)


def flow(subject: Subject, rate: int, *, asks: bool) -> dict[str, Any]:
    """A few seconds of traffic; the load tool's summary."""
    asker = None
    if asks:
        command = ["sh", "-c", f"sleep {PASS_AFTER_SECONDS}; kill -USR1 {subject.root.pid}"]
        asker = subprocess.Popen(command)
    try:
        options = ["-x", "1", "-y", "1", "-s", "100", "-r", str(rate), "-l", "-P", "1000", "-a", "10", "-u", "flow"]
        return perf(subject.port, ["throughput", *options, "--time", str(SECONDS)], seconds_max=SECONDS + 60)
    finally:
        if asker is not None:
            asker.wait()


@contextmanager
def burdened(count: int) -> Iterator[None]:
    """While it lasts, so many others want to run all the time."""
    burdens = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(count)]
    try:
        yield
    finally:
        for burden in burdens:
            burden.kill()
            burden.wait()


def load(subject: Subject, entries: int) -> Tide:
    """Half of the entries are unacknowledged deliveries, the other half what queues with bindings are made of."""
    tide = Tide(subject.port, Size(connections=100, channels=5, queues=entries // 100, deliveries=entries))
    tide.rise()
    tide.fall(keep_each=KEPT_EACH)
    return tide


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add_option(parser)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--rate", type=int, default=20_000)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--burden", type=int, default=0, help="processes that compute meanwhile (default: 0)")
    options = parser.parse_args()
    raise_limit()
    compared = {False: "no pass", True: "a pass meanwhile"} if options.broker == EBBMQ else {False: "nothing is asked"}
    found: dict[bool, list[dict[str, Any]]] = {asks: [] for asks in compared}
    passes: list[tuple[float, ...]] = []
    for _ in range(options.repetitions):
        with started(options.broker) as subject:
            tide = load(subject, options.entries)
            flow(subject, options.rate, asks=False)  # the first of all is slower
            with burdened(options.burden):
                for asks in compared:
                    found[asks].append(flow(subject, options.rate, asks=asks))
            time.sleep(1)
            passes += [tuple(map(float, report)) for report in _REPORT.findall(subject.log)]
            tide.close()
    beside = f"; beside {options.burden} busy processes" if options.burden else ""
    print(f"{machine()}; median (worst) of {options.repetitions}{beside}.\n")
    print(f"| {name_of(options.broker)} | consumed/s | latency p50 | latency p99 |\n|---|---:|---:|---:|")
    for asks, name in compared.items():
        rates = [summary["avg_consume_rate"] for summary in found[asks]]
        cells = [f"{statistics.median(rates):,.0f} ({min(rates):,.0f})"]
        for key in ("latency_p50_us", "latency_p99_us"):
            values = [summary[key] / 1000 for summary in found[asks]]
            cells.append(f"{statistics.median(values):.2f} ms ({max(values):.2f})")
        print(f"| {name} | {' | '.join(cells)} |")
    if not passes:
        return
    seconds, longest, cpu = (f"{statistics.median(each):.2f} ms (at most {max(each):.2f})" for each in _in_ms(passes))
    print(f"\nPasses took {seconds}, their longest slice {longest}, of CPU {cpu}.")


def _in_ms(passes: list[tuple[float, ...]]) -> list[list[float]]:
    return [[1000 * seconds for seconds in each] for each in zip(*passes, strict=True)]


if __name__ == "__main__":
    main()
