"""Queues that hold far more than memory could: what the broker's processes and the page cache hold of it, and when.

`python -m bench.memory.backlog [--gigabytes 50] [--queues 8] [--size 10000] [--data-on DIRECTORY]` prints a markdown
table. The backlog is persistent messages in durable queues: 50 GB, or a quarter of what is free on the disk if that is
less; `--gigabytes 2` is a quick look. Some of it is consumed; then SIGUSR1 asks for passes at `release`, one after the
other as lasting pressure would, until they find nothing more; then as much is consumed again, from the disk, and on to
half. At last the broker is ended and started over what is left, none of it in the page cache. As much as is consumed
each time has gone through the queues before the first reading: what consuming takes is no part of the backlog.

Private memory is that of all processes without pages of message files, which are the page cache's, mapped or not;
`fincore` (util-linux) says how much of them that has. Not for RabbitMQ: it
maps no message files and cannot be asked for a pass, and that is what most of the table is about.
"""

import argparse
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psutil
from msgspec import Struct

from bench.fresh_broker import DATA_PREFIX, FreshBroker, started_broker
from bench.load import perf
from bench.memory.readings import MEGABYTE, megabytes
from bench.page import machine
from bench.page_cache import drop_cached
from bench.process_tree import KIB, await_idle, processes_of
from bench.wire import Wire
from ipc.data_directory import DataDirectory
from ipc.messages.control import Pass, Passes, Reclaimed
from ipc.settings import StoreSettings
from runtime.control.client import Control, conversation

GIGABYTE: Final = 1_000_000_000
BACKLOG_BYTES_MAX: Final = 50 * GIGABYTE
FREE_SHARE: Final = 0.25
QUEUE: Final = "bench-backlog-%"
SAMPLE_SHARE: Final = 0.05  # of the backlog: what goes through the queues first, and what is consumed each time
CONFIRMS: Final = 1000
ACK_EACH: Final = 100
PREFETCH: Final = 500
BYTES_PER_SECOND_MIN: Final = 5_000_000  # whoever is slower than that has failed
SECONDS_LEAST: Final = 120.0
IDLE_SECONDS_MAX: Final = 60.0
COLD_SECONDS: Final = 11.0  # a segment used later than that is not cold
PASS_SECONDS_MAX: Final = 600.0  # 512 MiB may have to be written first, on a disk that others use
PASSES_MAX: Final = 200
LOOK_SECONDS: Final = 0.1
FILES_PER_CALL: Final = 1000

UNDISTURBED: Final = {"MEMORY_PRESSURE_WATCH": "/dev/null"}  # no passes for what others on the machine do
GROWN_BYTES_MAX: Final = 5 * MEGABYTE
SEGMENTS_IN_USE: Final = 2  # of a queue: the one that is read and the one that is written
LEFT_SHARE_MAX: Final = 1.05  # of what is in use: the kernel may read ahead


class Reading(Struct, frozen=True):
    """Bytes, at one moment."""

    private: int  # of all processes, message files left out
    mapped: int  # of message files, by all processes
    cached: int  # of message files, by the page cache
    stored: int  # in message files

    @classmethod
    def of(cls, broker: FreshBroker) -> "Reading":
        private, mapped = 0, 0
        for process in processes_of(broker.supervisor):
            own, of_messages = _memory_of(process)
            private += own
            mapped += of_messages
        files = message_files(broker.data)
        return cls(private, mapped, cached_bytes(files), sum(path.stat().st_size for path in files))


class Released(Struct):
    """What passes in a row gave back."""

    passes: int = 0
    seconds: float = 0.0
    slice_seconds_longest: float = 0.0


class Found(Struct):
    """What one run showed: readings by the state they were taken in, and the rest."""

    queues: int
    readings: dict[str, Reading]
    released: Released
    filled_rate: float  # messages a second
    early_rate: float
    late_rate: float
    first_start_seconds: float  # with nothing stored
    start_seconds: float
    started_depth: int
    expected_depth: int


def _memory_of(process: psutil.Process) -> tuple[int, int]:
    """Private bytes without those of message files; resident bytes of message files."""
    private, mapped, is_messages = 0, 0, False
    for line in Path(f"/proc/{process.pid}/smaps").read_text().splitlines():
        name, _, rest = line.partition(":")
        if not name[0].isupper():  # the range and the file of what follows
            is_messages = line.endswith((".messages", ".messages (deleted)"))
        elif name == "Rss" and is_messages:
            mapped += int(rest.split()[0]) * KIB
        elif name in ("Private_Clean", "Private_Dirty", "Swap") and not is_messages:
            private += int(rest.split()[0]) * KIB
    return private, mapped


def message_files(data: Path) -> list[Path]:
    return sorted(data.rglob("*.messages"))


def cached_bytes(files: list[Path]) -> int:
    total = 0
    for start in range(0, len(files), FILES_PER_CALL):
        some = map(str, files[start : start + FILES_PER_CALL])
        told = subprocess.run(
            ["fincore", "--bytes", "--noheadings", "--raw", "--output", "RES", *some],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
        total += sum(map(int, told.stdout.split()))
    return total


class Backlog:
    """So many messages of one size over some queues of a broker that may be started anew."""

    def __init__(self, messages: int, size: int, queues: int) -> None:
        self.messages = messages
        self.queues = queues
        self._size = size

    def fill(self, broker: FreshBroker, messages: int) -> float:
        """Messages a second."""
        options = ["-x", str(self.queues), "-y", "0", "-C", str(messages), "-c", str(CONFIRMS), "-s", str(self._size)]
        return float(self._perf(broker, options, messages)["avg_pub_rate"])

    def drain(self, broker: FreshBroker, messages: int) -> float:
        """Messages a second."""
        options = ["-x", "0", "-y", str(self.queues), "-D", str(messages), "-a", str(ACK_EACH), "-P", str(PREFETCH)]
        return float(self._perf(broker, options, messages)["avg_consume_rate"])

    def _perf(self, broker: FreshBroker, options: list[str], messages: int) -> dict[str, float]:
        seconds_max = SECONDS_LEAST + messages * self._size / BYTES_PER_SECOND_MIN
        pattern = ["--queue-pattern", QUEUE, "--queue-pattern-to", str(self.queues), "-p"]
        return perf(broker.port, ["throughput", *pattern, *options], seconds_max=seconds_max)

    def names(self) -> list[str]:
        return [QUEUE.replace("%", str(number)) for number in range(1, self.queues + 1)]

    def depth(self, wire: Wire) -> int:
        return sum(wire.depth(name, durable=True) for name in self.names())


def release(broker: FreshBroker) -> Released:
    """Passes until one of them has no pages to give back."""
    found = Released()
    with conversation(DataDirectory(broker.data)) as supervisor:
        for _ in range(PASSES_MAX):
            asked = supervisor.ask(Passes(1)).all(Pass)
            before = asked[0].number if asked else 0
            broker.supervisor.send_signal(signal.SIGUSR1)
            part = _await_pass(supervisor, before)
            found.passes += 1
            found.seconds += part.seconds
            found.slice_seconds_longest = max(found.slice_seconds_longest, part.slice_seconds_longest)
            if not part.by_kind.get("segment pages"):
                return found
    raise SystemExit(f"{PASSES_MAX} passes were not enough")


def _await_pass(supervisor: Control, before: int) -> Reclaimed:
    """What the shard gave back in the first pass after the one of this number."""
    deadline = time.monotonic() + PASS_SECONDS_MAX
    while time.monotonic() < deadline:
        for part in supervisor.ask(Passes()).all(Reclaimed):
            if part.number > before and part.shard is not None:
                return part
        time.sleep(LOOK_SECONDS)
    raise SystemExit("a pass did not come to its end")


def measure(home: Path, backlog: Backlog) -> Found:
    readings: dict[str, Reading] = {}

    def read(state: str, broker: FreshBroker) -> None:
        await_idle(broker.supervisor, seconds_max=IDLE_SECONDS_MAX)
        time.sleep(COLD_SECONDS)
        readings[state] = Reading.of(broker)

    sample = int(backlog.messages * SAMPLE_SHARE)
    half = backlog.messages // 2
    began = time.monotonic()
    with started_broker(home, extra=UNDISTURBED) as broker:
        first_start_seconds = time.monotonic() - began
        with Wire(broker.port) as wire:
            wire.declare_all(backlog.names(), durable=True)
        backlog.fill(broker, sample)
        backlog.drain(broker, sample)
        read("empty queues", broker)
        filled_rate = backlog.fill(broker, backlog.messages)
        read("the backlog", broker)
        early_rate = backlog.drain(broker, sample)
        read("a part of it consumed", broker)
        released = release(broker)
        read("passes at `release`", broker)
        late_rate = backlog.drain(broker, sample)
        backlog.drain(broker, half - 2 * sample)
        read("half of it consumed", broker)
    drop_cached(message_files(broker.data))
    began = time.monotonic()
    with started_broker(home, extra=UNDISTURBED) as broker, Wire(broker.port) as wire:
        depth = backlog.depth(wire)
        start_seconds = time.monotonic() - began
        read("a start over the other half", broker)
        backlog.drain(broker, sample)
        read("a part of that consumed", broker)
    return Found(
        backlog.queues,
        readings,
        released,
        filled_rate,
        early_rate,
        late_rate,
        first_start_seconds,
        start_seconds,
        depth,
        backlog.messages - half,
    )


def table(found: Found) -> str:
    lines = [
        "| | private | beyond empty queues | message files | mapped | in the page cache |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    base = found.readings["empty queues"].private
    for state, reading in found.readings.items():
        sizes = (reading.stored, reading.mapped, reading.cached)
        cells = (megabytes(reading.private), f"{(reading.private - base) / MEGABYTE:+.1f} MB", *map(megabytes, sizes))
        lines.append(f"| {state} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *verdicts(found)])


def verdicts(found: Found) -> Iterator[str]:
    readings = found.readings
    grown = max(reading.private for reading in readings.values()) - readings["empty queues"].private
    yield f"* Private memory beyond empty queues at most {megabytes(grown)}; target {megabytes(GROWN_BYTES_MAX)}: " + (
        _verdict(is_met=grown <= GROWN_BYTES_MAX)
    )
    cached, left = (readings[state].cached for state in ("a part of it consumed", "passes at `release`"))
    in_use = found.queues * SEGMENTS_IN_USE * StoreSettings().segment_bytes_max
    released = found.released
    yield (
        f"* {released.passes} passes in {released.seconds:.1f} s (longest slice "
        f"{released.slice_seconds_longest * 1000:.1f} ms) left {megabytes(left)} of {megabytes(cached)} in the page "
        f"cache; target: no more than queues read and write, {megabytes(in_use)}: "
        + _verdict(is_met=left <= in_use * LEFT_SHARE_MAX)
    )
    yield (
        f"* Filled at {found.filled_rate:,.0f} messages/s; consumed at {found.early_rate:,.0f} before the passes and, "
        f"from the disk, at {found.late_rate:,.0f} after them."
    )
    stored = readings["a start over the other half"].stored
    seconds = found.start_seconds - found.first_start_seconds
    yield (
        f"* Started over {stored / GIGABYTE:.1f} GB from the disk in {found.start_seconds:.1f} s, "
        f"{seconds / stored * GIGABYTE:.2f} s a GB beyond a first start, with {found.started_depth:,} messages of "
        f"{found.expected_depth:,}: " + _verdict(is_met=found.started_depth == found.expected_depth)
    )


def _verdict(*, is_met: bool) -> str:
    return "met." if is_met else "**not met**."


@contextmanager
def temporary_home(data_on: str | None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix=DATA_PREFIX, dir=data_on) as home:
        yield Path(home)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--gigabytes", type=float, help="of bodies (default: 50, but a quarter of the disk at most)")
    parser.add_argument("--queues", type=int, default=8)
    parser.add_argument("--size", type=int, default=10_000, help="bytes of each body (default: 10000)")
    parser.add_argument("--data-on", help="directory for the broker's data (default: the system's temporary one)")
    options = parser.parse_args()
    with temporary_home(options.data_on) as home:
        free = shutil.disk_usage(home).free
        wanted = options.gigabytes * GIGABYTE if options.gigabytes else BACKLOG_BYTES_MAX
        total = min(wanted, free * FREE_SHARE)
        backlog = Backlog(int(total / options.size), options.size, options.queues)
        found = measure(home, backlog)
    scale = f"{total / GIGABYTE:.1f} GB of the {free / GIGABYTE:.0f} GB that were free"
    print(f"{machine()}; {scale}, in {backlog.messages:,} messages over {options.queues} queues.\n\n{table(found)}")


if __name__ == "__main__":
    main()
