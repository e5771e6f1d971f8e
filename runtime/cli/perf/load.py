"""What a throughput run is asked to do, as values; `options` of the command line end here."""

from typing import Any, Final

from msgspec import Struct

from runtime.cli.perf.target import Target

STREAMED: Final = ("quorum", "stream")  # queue types that exist only as durable ones


class Load(Struct, frozen=True, kw_only=True):
    """Counts and rates of 0 mean none or no limit."""

    target: Target
    publishers: int = 1
    consumers: int = 1
    size_bytes: int = 16
    is_verified: bool = False
    ack_every: int = 0
    unconfirmed_max: int = 0
    is_persistent: bool = False
    prefetch: int = 0
    publish_rate: float = 0.0
    consume_rate: float = 0.0
    seconds: float = 0.0
    publish_count: int = 0
    consume_count: int = 0
    queues: tuple[str, ...] = ("perf-test",)
    exchange: str = ""
    routing_key: str | None = None
    queue_arguments: dict[str, Any] = {}
    consumer_arguments: dict[str, Any] = {}
    properties: dict[str, Any] = {}
    is_timed: bool = False
    polls: bool = False
    is_kept: bool = False
    processes: int = 0

    @property
    def is_durable(self) -> bool:
        return self.is_persistent or self.queue_arguments.get("x-queue-type") in STREAMED

    def key_of(self, queue: str) -> str:
        return queue if self.routing_key is None else self.routing_key


def share_of(queues: tuple[str, ...], worker: int, workers: int) -> tuple[str, ...]:
    """The queues one of several workers serves: several each when there are more queues than workers, else one."""
    if workers >= len(queues):
        return (queues[worker % len(queues)],)
    return queues[worker::workers]


def portion_of(count: int, worker: int, workers: int) -> int:
    """One worker's part of `count`, which differs by at most one from any other's."""
    return count // workers + (worker < count % workers)
