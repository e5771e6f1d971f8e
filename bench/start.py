"""How long a start takes with a standing backlog: ten thousand durable queues with ten million persistent messages.

`python -m bench.start [--queues 10000] [--messages 1000] [--size 100] [--write]` prints a markdown table: from the
command to its line "ready", and CPU of the shard until then, after `kill -9` of everything and after an end in order,
each with files in the page cache and without. Messages reach all queues through a fanout exchange. Each start is
checked: every queue must announce the messages it had. What is killed while all is being filled has ten thousand
segments that are the last of their queue; a message later each queue has two, and the last has one message.

On disk means, for root, that the kernel was told to drop what it keeps of any file, names and inodes included; for
anybody else, the content of the broker's own files only.
"""

import argparse
import os
import tempfile
import time
from enum import Enum
from pathlib import Path
from typing import Final

from msgspec import Struct
from pamqp import body, commands, frame, header

from bench import process_tree
from bench.fresh_broker import DATA_PREFIX, FreshBroker, started_broker
from bench.page import machine, replace_section
from bench.page_cache import drop_cached
from bench.wire import Wire

SECTION: Final = "start"
EXCHANGE: Final = "bench-start"
SECONDS_TARGET: Final = 10.0
IDLE_SECONDS_MAX: Final = 120.0
PUBLISHED_AT_ONCE: Final = 10
_FILLING: Final = ("--set", "store.durability=os")  # else it is syncs of ten thousand files that are waited for
_DROP_CACHES: Final = Path("/proc/sys/vm/drop_caches")
_GIGABYTE: Final = 1_000_000_000


class End(Enum):
    """How the broker ended before a start; the same twice, because nothing is known better after the first."""

    FILLING = "`kill -9` while all was being filled"
    IN_ORDER = "ended in order"
    LATER = "`kill -9`, a message later in each queue"


class Reading(Struct, frozen=True):
    """One start."""

    seconds: float  # from the command to "ready"
    shard_cpu: float
    read_bytes: int  # by the shard, from the disk
    answer_seconds: float  # from "ready" until the first question was answered


def measure(queues: int, messages: int, size: int, *, data_on: str | None) -> dict[str, Reading]:
    found: dict[str, Reading] = {}
    rows = [(end, is_cold) for end in End for is_cold in (False, True)]
    with tempfile.TemporaryDirectory(prefix=DATA_PREFIX, dir=data_on) as home:
        with started_broker(Path(home), arguments=_FILLING) as broker:
            _fill(broker, queues, messages, size)
            _kill(broker)
        for number, (end, is_cold) in enumerate(rows, 1):
            os.sync()  # what an earlier end has left to be written is not this start's
            if is_cold:
                drop_caches(broker.data)
            began = time.monotonic()
            with started_broker(Path(home)) as broker:
                found[f"{end.value}, files {'on disk' if is_cold else 'in the page cache'}"] = _read(broker, began)
                _check(broker.port, queues, messages)
                following = rows[number][0] if number < len(rows) else End.IN_ORDER
                if following is End.LATER:
                    _publish(broker.port, 1, size)
                    messages += 1
                    process_tree.await_idle(broker.supervisor, seconds_max=IDLE_SECONDS_MAX)
                if following is not End.IN_ORDER:
                    _kill(broker)
    return found


def _fill(broker: FreshBroker, queues: int, messages: int, size: int) -> None:
    names = [_queue(number) for number in range(queues)]
    with Wire(broker.port) as wire:
        wire.send(commands.Exchange.Declare(exchange=EXCHANGE, exchange_type="fanout", durable=True))
        wire.await_frame("Exchange.DeclareOk")
        wire.declare_all(names, durable=True)
        wire.ask_all([commands.Queue.Bind(queue=name, exchange=EXCHANGE) for name in names], "Queue.BindOk")
    _publish(broker.port, messages, size)
    process_tree.await_idle(broker.supervisor, seconds_max=IDLE_SECONDS_MAX)


def _queue(number: int) -> str:
    return f"bench-start-{number}"


def _publish(port: int, count: int, size: int) -> None:
    message = b"".join(
        (
            frame.marshal(commands.Basic.Publish(exchange=EXCHANGE), 1),
            frame.marshal(
                header.ContentHeader(body_size=size, properties=commands.Basic.Properties(delivery_mode=2)), 1
            ),
            frame.marshal(body.ContentBody(bytes(size)), 1),
        )
    )
    with Wire(port, seconds=600) as wire:
        wire.send(commands.Confirm.Select())
        wire.await_frame("Confirm.SelectOk")
        confirmed = 0
        for published in range(0, count, PUBLISHED_AT_ONCE):
            some = min(PUBLISHED_AT_ONCE, count - published)
            wire.socket.sendall(message * some)
            while confirmed < published + some:
                confirmed = int(wire.await_frame("Basic.Ack").delivery_tag)


def _read(broker: FreshBroker, began: float) -> Reading:
    ready = time.monotonic()
    (shard,) = broker.shards
    times = shard.cpu_times()
    read_bytes = shard.io_counters().read_bytes
    with Wire(broker.port) as wire:
        wire.depth(_queue(0), durable=True)
    return Reading(ready - began, times.user + times.system, read_bytes, time.monotonic() - ready)


def _check(port: int, queues: int, messages: int) -> None:
    with Wire(port) as wire:
        for number in range(queues):
            depth = wire.depth(_queue(number), durable=True)
            if depth != messages:
                raise SystemExit(f"{_queue(number)} has {depth:,} messages, not {messages:,}")


def _kill(broker: FreshBroker) -> None:
    for one in broker.processes:
        one.kill()


def drop_caches(data: Path) -> None:
    """Only clean pages go."""
    try:
        _DROP_CACHES.write_text("3")
    except OSError:
        drop_cached(path for path in data.rglob("*") if path.is_file())


def table(found: dict[str, Reading]) -> str:
    lines = [
        "| the broker | ready after | CPU of the shard | read from disk | first answer |",
        "|---|---:|---:|---:|---:|",
    ]
    for state, reading in found.items():
        lines.append(
            f"| {state} | {reading.seconds:.1f} s | {reading.shard_cpu:.1f} s "
            f"| {reading.read_bytes / _GIGABYTE:.2f} GB | {reading.answer_seconds * 1000:.0f} ms |"
        )
    slowest = max(reading.seconds for reading in found.values())
    verdict = "met" if slowest < SECONDS_TARGET else "**not met**"
    return "\n".join([*lines, "", f"Target: ready within {SECONDS_TARGET:.0f} s: {verdict}."])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--queues", type=int, default=10_000)
    parser.add_argument("--messages", type=int, default=1_000, help="in each queue (default: 1000)")
    parser.add_argument("--size", type=int, default=100, help="bytes of each body (default: 100)")
    parser.add_argument("--data-on", help="directory for the broker's data (default: the system's temporary one)")
    parser.add_argument("--write", action="store_true", help="into docs/measurements.md")
    options = parser.parse_args()
    found = measure(options.queues, options.messages, options.size, data_on=options.data_on)
    text = (
        f"{machine()}. {options.queues:,} durable queues with {options.messages:,} persistent messages of "
        f"{options.size} B each.\n\n{table(found)}\n"
    )
    print(text)
    if options.write:
        replace_section(SECTION, text)


if __name__ == "__main__":
    main()
