"""A topic exchange with a thousand bindings, standing while a case publishes through it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from bench.wire import Wire

EXCHANGE: Final = "amq.topic"
BINDINGS: Final = 1_000
QUEUE: Final = "bench-topic"
KEYS: Final = 100

ONE_KEY: Final = f"-e {EXCHANGE} -u {QUEUE} -k bench.{BINDINGS // 2}.order.created"
"""For the load tool: one key, which one of the patterns of `one_key` matches."""
MANY_KEYS: Final = f"-e {EXCHANGE} --queue-pattern {{queue}}.%.order.created --queue-pattern-to {KEYS}"
"""For the load tool: a queue for each key, bound by it alone; the patterns of `many_keys` match none of them."""


@contextmanager
def one_key(port: int) -> Iterator[None]:
    """All bindings lead to the queue that is consumed from."""
    with _bound(port, range(BINDINGS)):
        yield


@contextmanager
def many_keys(port: int) -> Iterator[None]:
    """The load tool makes `KEYS` bindings of its own; the others lead to a queue that gets nothing."""
    with _bound(port, range(KEYS + 1, BINDINGS + 1)):
        yield


@contextmanager
def _bound(port: int, numbers: Sequence[int]) -> Iterator[None]:
    with Wire(port) as wire:
        wire.declare(QUEUE, durable=False)
        wire.bind_all(QUEUE, EXCHANGE, [f"bench.{number}.*.created" for number in numbers])
        try:
            yield
        finally:
            wire.delete(QUEUE)
