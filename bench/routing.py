"""What a publish costs with 100 and with 100,000 bindings on one exchange: `python -m bench.routing`.

In this process, through the core alone, the two taking turns. No key comes back while a connection could still remember
its route, so that each message is routed. Ends with an error when one of the ratios is not below RATIO_MAX.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from statistics import median
from time import perf_counter
from typing import Any, Final

from msgspec import Struct
from pamqp import commands

from bench.core import Core, core
from ipc.limits import ROUTES_CACHED_MAX
from ipc.wire.amqp import frames, methods
from shards.model.queues.queue import Queue

FEW: Final = 100
MANY: Final = 100_000
RATIO_MAX: Final = 2.0
MESSAGES: Final = 2 * ROUTES_CACHED_MAX  # of one turn
TURNS: Final = 25
STRIDE: Final = 7919  # a prime, so that bindings are met in no order a processor could foresee
QUEUE: Final = "bench"
GUEST: Final = "bench-guest"

Table = dict[str, Any]


class Case(Struct, frozen=True):
    """The binding of a number, and the key and headers of a message that it alone matches."""

    title: str
    exchange: str
    bound: Callable[[int], tuple[str, Table]]
    sent: Callable[[int, int], tuple[str, Table]]


CASES: Final = (
    Case(
        "topic, `bench.N.*.created`",
        "amq.topic",
        lambda number: (f"bench.{number}.*.created", {}),
        lambda number, index: (f"bench.{number}.order-{index}.created", {}),
    ),
    Case(
        "topic, `#.N`",
        "amq.topic",
        lambda number: (f"#.{number}", {}),
        lambda number, index: (f"bench.order-{index}.{number}", {}),
    ),
    Case(
        "headers, all of two",
        "amq.headers",
        lambda number: ("", {"x-match": "all", "format": "pdf", "number": number}),
        lambda number, index: (f"{index}", {"format": "pdf", "number": number, "index": index}),
    ),
    Case(
        "headers, any of two",
        "amq.headers",
        lambda number: ("", {"x-match": "any", "number": number, "other": f"other-{number}"}),
        lambda number, index: (f"{index}", {"format": "pdf", "number": number, "index": index}),
    ),
)


class Standing:
    """A core with so many bindings, all of which lead to one queue."""

    def __init__(self, opened: Core, case: Case, bindings: int) -> None:
        self._core = opened
        self._case = case
        self._bindings = bindings
        self._publisher = opened.connect()
        self._vhost = opened.vhost
        self._exchange = opened.vhost.exchange(case.exchange)
        self._queue = self._declare(QUEUE)
        for number in range(bindings):
            self._bind(self._queue, number)
        self._messages = [case.sent(index * STRIDE % bindings, index) for index in range(MESSAGES)]
        self._frames = b"".join(_message(case.exchange, key, headers) for key, headers in self._messages)

    def publish(self) -> float:
        """Seconds a message takes from its bytes to the queue."""
        started = perf_counter()
        self._core.hear(self._publisher, self._frames)
        elapsed = perf_counter() - started
        if self._queue.purge() != MESSAGES:
            raise SystemExit(f"{self._case.title}: a message did not match its binding")
        return elapsed / MESSAGES

    def route(self) -> float:
        """Seconds a look-up takes."""
        vhost, exchange = self._vhost, self._exchange
        asked = [(key, lambda headers=headers: headers) for key, headers in self._messages]
        started = perf_counter()
        for key, headers in asked:
            vhost.route(exchange, key, headers)
        return (perf_counter() - started) / MESSAGES

    def delete(self) -> float:
        """Seconds it takes to delete a queue with one binding."""
        guest = self._declare(GUEST)
        self._bind(guest, self._bindings)
        started = perf_counter()
        self._vhost.delete_queue(guest)
        return perf_counter() - started

    def _declare(self, name: str) -> Queue:
        return self._vhost.declare_queue(
            name, is_durable=False, is_auto_delete=False, owner=None, is_exclusive=False, arguments={}
        )[0]

    def _bind(self, queue: Queue, number: int) -> None:
        key, arguments = self._case.bound(number)
        self._vhost.bind(self._exchange, queue, key, arguments)


MEASUREMENTS: Final[dict[str, Callable[[Standing], float]]] = {
    "publish": Standing.publish,
    "route": Standing.route,
    "delete a queue": Standing.delete,
}


def measured(case: Case) -> Iterator[tuple[str, float, float]]:
    """What, and its medians with few and with many bindings, in seconds."""
    with ExitStack() as stack:
        few, many = (Standing(stack.enter_context(core()), case, count) for count in (FEW, MANY))
        for name, measure in MEASUREMENTS.items():
            pairs = [(measure(few), measure(many)) for _ in range(TURNS)]
            yield name, median(pair[0] for pair in pairs), median(pair[1] for pair in pairs)


def main(arguments: Sequence[str] = ()) -> None:
    if arguments:
        raise SystemExit("bench.routing takes no arguments")
    print(f"| median of {TURNS} turns, µs | {FEW:,} bindings | {MANY:,} bindings | ratio |")
    print("|---|---:|---:|---:|")
    is_kept = True
    for case in CASES:
        for name, few, many in measured(case):
            is_kept = is_kept and many / few < RATIO_MAX
            print(f"| {case.title}: {name} | {few * 1e6:.2f} | {many * 1e6:.2f} | {many / few:.2f} × |")
    if not is_kept:
        raise SystemExit(f"a cost grew to {RATIO_MAX} times or more")


def _message(exchange: str, routing_key: str, headers: Table) -> bytes:
    publish = methods.frame(1, commands.Basic.Publish(exchange=exchange, routing_key=routing_key))
    properties = commands.Basic.Properties(headers=headers or None).marshal()
    header = b"\x00\x3c\x00\x00" + (1).to_bytes(8, "big") + properties
    return publish + frames.pack(frames.HEADER, 1, header) + frames.pack(frames.BODY, 1, b"x")


if __name__ == "__main__":
    main(sys.argv[1:])
