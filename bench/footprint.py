"""Memory at rest: processes, idle connections and idle queues, by proportional set size (PSS).

`python -m bench.footprint [--connections 1000] [--queues 10000] [--write]` prints a markdown table. PSS counts a page
shared by n processes as 1/n in each, so the sum over the broker's processes is what it really occupies.
"""

import argparse
import time
from collections.abc import Callable
from typing import Final

import psutil

from bench.fresh_broker import FreshBroker, fresh_broker
from bench.page import machine, replace_section
from bench.process_tree import memory_bytes
from bench.wire import Wire
from runtime.supervisor.descriptors import raise_limit

SECTION: Final = "footprint"
STEADY_BYTES: Final = 64 * 1024
STEADY_SECONDS_MAX: Final = 15.0


def pss_bytes(process: psutil.Process) -> int:
    return memory_bytes([process], "Pss")


def settled_pss_bytes(broker: FreshBroker) -> int:
    """Sum over all processes once it hardly moves from one look to the next."""
    deadline = time.monotonic() + STEADY_SECONDS_MAX
    before = -STEADY_BYTES
    while True:
        now = sum(map(pss_bytes, broker.processes))
        if abs(now - before) < STEADY_BYTES or time.monotonic() > deadline:
            return now
        before = now
        time.sleep(1)


def idle_rows(broker: FreshBroker) -> list[tuple[str, str]]:
    rows = [("supervisor, idle", mebibytes(pss_bytes(broker.supervisor)))]
    rows += [("template", mebibytes(pss_bytes(process))) for process in broker.template]
    rows += [(f"shard {number}, idle", mebibytes(pss_bytes(shard))) for number, shard in enumerate(broker.shards)]
    rows.append(("all processes, idle", mebibytes(sum(map(pss_bytes, broker.processes)))))
    return rows


def bytes_each(broker: FreshBroker, count: int, create: Callable[[FreshBroker, int], list[Wire]]) -> int:
    """Growth per thing created; a few of them beforehand, so that first-time costs are not counted."""
    held = create(broker, 20)
    before = settled_pss_bytes(broker)
    held += create(broker, count)
    grown = settled_pss_bytes(broker) - before
    for wire in held:
        wire.close()
    return grown // count


def connections(broker: FreshBroker, count: int) -> list[Wire]:
    return [Wire(broker.port) for _ in range(count)]


def queues(*, durable: bool) -> Callable[[FreshBroker, int], list[Wire]]:
    def declare(broker: FreshBroker, count: int) -> list[Wire]:
        wire = Wire(broker.port)
        kind = "durable" if durable else "transient"
        wire.declare_all([f"idle-{kind}-{count}-{number}" for number in range(count)], durable=durable)
        return [wire]

    return declare


def mebibytes(count: int) -> str:
    return f"{count / 1024 / 1024:.1f} MiB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--connections", type=int, default=1_000)
    parser.add_argument("--queues", type=int, default=10_000)
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="into docs/measurements.md")
    options = parser.parse_args()
    raise_limit()

    with fresh_broker(shards=options.shards) as broker:
        settled_pss_bytes(broker)
        rows = idle_rows(broker)
        each = bytes_each(broker, options.connections, connections)
        rows.append((f"idle connection with one channel (of {options.connections:,})", f"{each:,} B"))
    for durable in (False, True):
        with fresh_broker(shards=options.shards) as broker:
            each = bytes_each(broker, options.queues, queues(durable=durable))
            kind = "durable" if durable else "transient"
            rows.append((f"idle {kind} queue (of {options.queues:,})", f"{each:,} B"))

    table = "\n".join(["| at rest | PSS |", "|---|---:|", *(f"| {what} | {size} |" for what, size in rows)])
    text = f"{machine()}; {options.shards} shards.\n\n{table}\n"
    print(text)
    if options.write:
        replace_section(SECTION, text)


if __name__ == "__main__":
    main()
