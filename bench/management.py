"""What the HTTP API costs: a page of 10,000 queues in several orders, and what clients of the broker notice of it.

`python -m bench.management [--queues 10000] [--times 20] [--seconds 10] [--write]` asks for the first hundred queues,
sorted by one column after the other, over one connection; then again and again while a publisher and a consumer
exchange 10,000 messages a second. The longest step of a shard's work is measured in this process, on the same queues.
"""

import argparse
import base64
import http.client
import json
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import psutil
from msgspec import Struct

from bench.account import cpu_seconds, fill
from bench.core import Core, core
from bench.fresh_broker import FreshBroker, fresh_broker
from bench.load import perf
from bench.page import machine, replace_section
from ipc.messages.inventory import Describe, Place, Rank
from ipc.messages.rules import Policy, Rules
from shards.inventory.listing import describe, rank

SECTION: Final = "management"
TARGET_SECONDS: Final = 0.1
SLICE_TARGET_SECONDS: Final = 0.002
COLUMNS: Final = (
    "",
    "name",
    "messages",
    "message_bytes_ready",
    "idle_since",
    "consumers",
    "arguments",
    "policy",
    "effective_policy_definition.max-length",
    "owner_pid_details.name",
)
POLICIES: Final = 8  # the last one holds, so that all of them are tried
RATE: Final = 10_000
PAGE: Final = 100
OVERTIME_SECONDS: Final = 60.0
_MANAGEMENT: Final = "runtime.management"


class Client:
    """One connection to the API as guest, kept open."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._headers = {
            "Authorization": "Basic " + base64.b64encode(b"guest:guest").decode(),
            "Content-Type": "application/json",
        }

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Raises SystemExit for an answer that is none of success."""
        sent = None if body is None else json.dumps(body)
        self._connection.request(method, f"/api{path}", body=sent, headers=self._headers)
        response = self._connection.getresponse()
        text = response.read()
        if response.status >= 300:
            raise SystemExit(f"{method} {path}: {response.status} {text.decode()}")
        return json.loads(text) if text else None

    def page(self, sort: str, *, page: int = 1) -> Any:
        order = f"&sort={sort}&sort_reverse=true" if sort else ""
        return self.ask("GET", f"/queues?page={page}&page_size={PAGE}{order}")


class Cost(Struct, frozen=True):
    """Of one kind of request, asked several times: seconds each, and CPU seconds of each process an ask."""

    name: str
    seconds: list[float]
    cpu: dict[str, float]


def processes(broker: FreshBroker) -> dict[str, psutil.Process]:
    found = {"supervisor": broker.supervisor, "shard": broker.shards[0]}
    for child in broker.supervisor.children():
        if _MANAGEMENT in " ".join(child.cmdline()):
            found["management"] = child
    return found


def cost(broker: FreshBroker, name: str, times: int, ask: Callable[[], Any]) -> Cost:
    ask()
    watched = processes(broker)
    before = {role: cpu_seconds(process) for role, process in watched.items()}
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        ask()
        seconds.append(time.perf_counter() - began)
    cpu = {role: (cpu_seconds(process) - before[role]) / times for role, process in watched.items()}
    return Cost(name, seconds, cpu)


def costs(broker: FreshBroker, client: Client, queues: int, times: int) -> Iterator[Cost]:
    for column in COLUMNS:
        yield cost(broker, column or "(their names)", times, partial(client.page, column))
    last = queues // PAGE
    yield cost(broker, f"messages, page {last}", times, lambda: client.page("messages", page=last))
    yield cost(broker, "all of them, no page", max(2, times // 5), lambda: client.ask("GET", "/queues"))


# what clients notice --------------------------------------------------------------------------------------------------


@contextmanager
def asking(port: int) -> Iterator[list[float]]:
    """Meanwhile, one list after the other is asked for; how long each took."""
    seconds: list[float] = []
    is_over = threading.Event()

    def ask() -> None:
        client = Client(port)
        while not is_over.is_set():
            began = time.perf_counter()
            client.page(COLUMNS[len(seconds) % len(COLUMNS)])
            seconds.append(time.perf_counter() - began)

    asker = threading.Thread(target=ask)
    asker.start()
    try:
        yield seconds
    finally:
        is_over.set()
        asker.join()


def exchanged(broker: FreshBroker, seconds: float) -> dict[str, Any]:
    options = ["-x", "1", "-y", "1", "-r", str(RATE), "-s", "16", "-l", "--time", f"{seconds:g}"]
    return perf(broker.port, ["throughput", *options], seconds_max=seconds + OVERTIME_SECONDS)


# what one step of a shard takes ---------------------------------------------------------------------------------------


def longest_step(queues: int, column: str) -> float:
    """CPU seconds between two places where a shard may turn to its clients, at most; without its slices' millisecond.

    The best of three, because what lies between two looks at a clock may be somebody else's.
    """
    with core_with(queues) as opened:
        longest = []
        for _ in range(3):
            wanted = Rank("queue", sort=column, is_descending=True, count=PAGE)
            steps, places = _steps(rank(opened.vhosts, wanted))
            described, _ = _steps(describe(opened.vhosts, Describe("queue", tuple(places))))
            longest.append(max(*steps, *described))
    return min(longest)


def _steps(items: Iterator[Any]) -> tuple[list[float], list[tuple[str, Any]]]:
    seconds = []
    places = []
    began = time.thread_time()
    for item in items:
        seconds.append(time.thread_time() - began)
        if isinstance(item, Place):
            places.append((item.vhost, item.identity))
        began = time.thread_time()
    return seconds, places


@contextmanager
def core_with(queues: int) -> Iterator[Core]:
    with core() as opened:
        for _ in opened.vhost.change_rules(Rules(policies=policies()), 0):
            pass
        for number in range(queues):
            opened.vhost.declare_queue(
                f"queue-{number}", is_durable=False, is_auto_delete=False, owner=None, is_exclusive=False, arguments={}
            )
        yield opened


def policies() -> tuple[Policy, ...]:
    return tuple(
        Policy(f"policy-{number}", _pattern(number), {"max-length": 1000 + number}, "queues", number)
        for number in range(POLICIES)
    )


def _pattern(number: int) -> str:
    """All but the one of the lowest priority match nothing."""
    return f"^other-{number}" if number else "^queue"


# the page -------------------------------------------------------------------------------------------------------------


def table(found: Sequence[Cost], queues: int) -> str:
    lines = [
        f"| 100 of {queues:,} queues, sorted by | best | median | worst | CPU: shard | supervisor | management |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for one in found:
        roles = " | ".join(milliseconds(one.cpu.get(role, 0)) for role in ("shard", "supervisor", "management"))
        taken = map(milliseconds, (min(one.seconds), statistics.median(one.seconds), max(one.seconds)))
        lines.append(f"| {one.name} | {' | '.join(taken)} | {roles} |")
    slowest = max(statistics.median(one.seconds) for one in found[: len(COLUMNS)])
    verdict = "met" if slowest < TARGET_SECONDS else "**not met**"
    return "\n".join([*lines, "", f"Target: any column in less than {milliseconds(TARGET_SECONDS)}: {verdict}."])


def latencies(alone: dict[str, Any], beside: dict[str, Any], seconds: Sequence[float]) -> str:
    names = ("p50", "p99", "p99_9", "max")
    rows = [
        f"| {RATE:,} messages a second | {' | '.join(names)} |",
        f"|---|{'---:|' * len(names)}",
    ]
    for what, summary in (("nobody asks", alone), (f"{len(seconds):,} lists meanwhile", beside)):
        figures = " | ".join(f"{summary[f'latency_{name}_us'] / 1000:.2f} ms" for name in names)
        rows.append(f"| {what} | {figures} |")
    return "\n".join([*rows, "", f"A list took {milliseconds(statistics.median(seconds))} meanwhile, at the median."])


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--queues", type=int, default=10_000)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--write", action="store_true", help="into docs/measurements.md")
    options = parser.parse_args()
    load = psutil.getloadavg()[0]
    settings = ("--set", "management.port=0", "--set", "management.metrics_port=-1")
    with fresh_broker(shards=1, arguments=settings) as broker:
        assert broker.http_port is not None
        wire = fill(broker, options.queues)
        for policy in policies():
            broker.add_policy(policy)
        client = Client(broker.http_port)
        found = list(costs(broker, client, options.queues, options.times))
        alone = exchanged(broker, options.seconds)
        with asking(broker.http_port) as seconds:
            beside = exchanged(broker, options.seconds)
        wire.close()
    step = max(longest_step(options.queues, column) for column in COLUMNS)
    policies_tried = f"one shard, {POLICIES} policies, of which the last one tried holds"
    text = "\n\n".join(
        [
            f"{machine()}; {policies_tried}; load of the machine at the beginning {load:.0f}.",
            table(found, options.queues),
            latencies(alone, beside, seconds),
            f"Longest step between two pauses of a shard: {step * 1000:.2f} ms, in slices of 1 ms.",
        ]
    )
    print(text)
    if options.write:
        replace_section(SECTION, text)


if __name__ == "__main__":
    main()
