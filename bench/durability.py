"""What durability costs: confirms against this disk's syncs, many queues against one, bytes written for each published.

`python -m bench.durability [--seconds 5] [--data-on DIRECTORY] [--write]` prints a markdown table. Bytes written are
the shard's `write_bytes` less `cancelled_write_bytes` of /proc/PID/io: pages it made dirty, whoever writes them when,
without those that were dropped before. A sync is an `fdatasync` after 1 KiB written to a file that has its size.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import psutil

from bench.fresh_broker import FreshBroker, fresh_broker
from bench.load import perf
from bench.page import machine, replace_section
from bench.process_tree import await_idle

SECTION: Final = "durability"
SIZE: Final = 1024
QUEUES: Final = 100
WINDOW: Final = 100
FILE_BYTES: Final = 64 * 1024 * 1024
OVERTIME_SECONDS: Final = 120.0
SETTLED_SECONDS: Final = 3.0  # until what waits behind the journal was written back
KEPT_UP_RATE: Final = 20_000  # messages a second that consumers keep up with


def syncs_a_second(directory: str | None, seconds: float) -> float:
    with tempfile.TemporaryFile(dir=directory) as file:
        os.posix_fallocate(file.fileno(), 0, FILE_BYTES)
        os.fsync(file.fileno())
        count, offset, began = 0, 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            os.pwrite(file.fileno(), bytes(SIZE), offset % FILE_BYTES)
            os.fdatasync(file.fileno())
            offset += SIZE
            count += 1
        return count / (time.perf_counter() - began)


def written_bytes(processes: tuple[psutil.Process, ...]) -> int:
    total = 0
    for process in processes:
        fields = dict(line.split(": ") for line in Path(f"/proc/{process.pid}/io").read_text().splitlines())
        total += int(fields["write_bytes"]) - int(fields["cancelled_write_bytes"])
    return total


def _throughput(broker: FreshBroker, seconds: float, *options: str) -> dict[str, Any]:
    arguments = ["throughput", "-p", "-s", str(SIZE), "-z", str(seconds), "-c", str(WINDOW), *options]
    return perf(broker.port, arguments, seconds_max=seconds + OVERTIME_SECONDS)


def amplification(data_on: str | None, seconds: float, *options: str) -> float:
    """Bytes written for each byte of body published, by a broker that has nothing else to do."""
    with fresh_broker(data_on=data_on) as broker:
        await_idle(broker.supervisor, seconds_max=SETTLED_SECONDS)
        before = written_bytes(broker.shards)
        published = int(_throughput(broker, seconds, *options)["published"])
        time.sleep(SETTLED_SECONDS)
        return (written_bytes(broker.shards) - before) / (published * SIZE)


def measure(seconds: float, data_on: str | None) -> str:
    syncs = syncs_a_second(data_on, seconds)
    with fresh_broker(data_on=data_on) as broker:
        one = _throughput(broker, seconds, "-u", "one", "-a", "10", "-P", "100")["avg_pub_rate"]
        pattern = ("--queue-pattern", "q-%", "--queue-pattern-from", "1", "--queue-pattern-to", str(QUEUES))
        many = _throughput(broker, seconds, *pattern, "-x", str(QUEUES), "-y", str(QUEUES), "-a", "10", "-P", "100")
    backlog = amplification(data_on, seconds, "-u", "backlog", "-y", "0")
    kept_up = amplification(data_on, seconds, "-u", "kept-up", "-r", str(KEPT_UP_RATE), "-a", "10", "-P", str(WINDOW))
    rows = [
        ("syncs of 1 KiB a second, one by one", f"{syncs:,.0f}", "", ""),
        (f"confirms a second, one queue, window {WINDOW}", f"{one:,.0f}", "≥ 3 × the syncs", one >= 3 * syncs),
        (
            f"the same with {QUEUES} queues, a publisher each",
            f"{many['avg_pub_rate']:,.0f}",
            "≥ half of one queue's",
            many["avg_pub_rate"] >= one / 2,
        ),
        ("bytes written for each published, backlog", f"{backlog:.2f}", "≤ 2.5", backlog <= 2.5),
        (
            f"the same while consumers keep up with {KEPT_UP_RATE:,}/s",
            f"{kept_up:.2f}",
            "≤ 1.4",
            kept_up <= 1.4,
        ),
    ]
    lines = [f"| persistent messages of {SIZE} B | | asked | met |", "|---|---:|---:|---|"]
    for what, figure, asked, is_met in rows:
        lines.append(f"| {what} | {figure} | {asked} | {'' if is_met == '' else 'yes' if is_met else '**no**'} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each run (default: 5)")
    parser.add_argument("--data-on", help="directory for the broker's data (default: the system's temporary one)")
    parser.add_argument("--write", action="store_true", help="into docs/measurements.md")
    options = parser.parse_args()
    text = f"{machine()}.\n\n{measure(options.seconds, options.data_on)}\n"
    print(text)
    if options.write:
        replace_section(SECTION, text)


if __name__ == "__main__":
    main()
