"""What a standing backlog costs a shard in private memory: ten million messages against the same queue empty.

`python -m bench.standing [--messages 10000000] [--size 100] [--durable] [--write]` prints a markdown table. Private
memory is `Private_Dirty` plus `Swap` of the shard's `smaps_rollup`. The first is every page no other process has and
the kernel cannot drop, which is all private anonymous memory the shard has written to; what the kernel has meanwhile
moved out is in the second. Messages stand in files; pages of these that happen to be mapped are clean, belong to the
page cache and can be dropped at any time, so they do not count, but are shown.
"""

import argparse
import time
from typing import Any, Final

import psutil
from msgspec import Struct

from bench.fresh_broker import fresh_broker
from bench.load import perf
from bench.page import machine, replace_section
from bench.process_tree import await_idle, memory_bytes
from bench.wire import Wire

SECTION: Final = "standing"
QUEUE: Final = "bench-standing"
WARM_UP_MESSAGES: Final = 200_000  # through the same queue beforehand, so that first-time costs are not counted
GROWN_BYTES_MAX: Final = 5_000_000
SECONDS_MAX: Final = 300.0
IDLE_SECONDS_MAX: Final = 30.0
AFTER_IDLE_SECONDS: Final = 5.0  # for what an idle shard gives back in its own time
MEGABYTE: Final = 1_000_000


class Reading(Struct, frozen=True):
    """Bytes of one process."""

    private: int
    mapped_clean: int

    @classmethod
    def of(cls, process: psutil.Process) -> "Reading":
        return cls(memory_bytes([process], "Private_Dirty", "Swap"), memory_bytes([process], "Private_Clean"))


def measure(messages: int, size: int, *, durable: bool, data_on: str | None) -> dict[str, Reading]:
    with fresh_broker(data_on=data_on) as broker, Wire(broker.port) as wire:
        (shard,) = broker.shards
        found: dict[str, Reading] = {}

        def read(state: str) -> None:
            await_idle(broker.supervisor, seconds_max=IDLE_SECONDS_MAX)
            time.sleep(AFTER_IDLE_SECONDS)
            found[state] = Reading.of(shard)

        wire.declare(QUEUE, durable=durable)
        _publish(broker.port, WARM_UP_MESSAGES, size, durable=durable)
        wire.purge(QUEUE)
        read("empty queue")
        summary = _publish(broker.port, messages, size, durable=durable)
        if summary["published"] != messages or wire.depth(QUEUE, durable=durable) != messages:
            raise SystemExit(f"not all of {messages:,} messages stand in the queue")
        read(f"{messages:,} messages of {size} B")
        wire.purge(QUEUE)
        read("purged")
        return found


def _publish(port: int, count: int, size: int, *, durable: bool) -> dict[str, Any]:
    options = ["-x", "1", "-y", "0", "-C", str(count), "-s", str(size), "-u", QUEUE]
    return perf(port, ["throughput", *options, *(["-p"] if durable else [])], seconds_max=SECONDS_MAX)


def table(found: dict[str, Reading]) -> str:
    readings = list(found.items())
    empty = readings[0][1]
    lines = ["| the shard with | private | beyond the empty queue | mapped, clean |", "|---|---:|---:|---:|"]
    for state, reading in readings:
        beyond = f"{(reading.private - empty.private) / MEGABYTE:+.2f} MB"
        lines.append(f"| {state} | {_megabytes(reading.private)} | {beyond} | {_megabytes(reading.mapped_clean)} |")
    grown = readings[1][1].private - empty.private
    verdict = "met" if grown <= GROWN_BYTES_MAX else "**not met**"
    return "\n".join([*lines, "", f"Target: within {GROWN_BYTES_MAX / MEGABYTE:.0f} MB of the empty queue: {verdict}."])


def _megabytes(count: int) -> str:
    return f"{count / MEGABYTE:.1f} MB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--messages", type=int, default=10_000_000)
    parser.add_argument("--size", type=int, default=100, help="bytes of each body (default: 100)")
    parser.add_argument("--durable", action="store_true", help="persistent messages in a durable queue")
    parser.add_argument("--data-on", help="directory for the broker's data (default: the system's temporary one)")
    parser.add_argument("--write", action="store_true", help="into docs/measurements.md")
    options = parser.parse_args()
    found = measure(options.messages, options.size, durable=options.durable, data_on=options.data_on)
    text = f"{machine()}.\n\n{table(found)}\n"
    print(text)
    if options.write:
        replace_section(SECTION, text)


if __name__ == "__main__":
    main()
