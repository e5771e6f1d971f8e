"""Makes exchanges' destinations and consumers that are no protocol's, for tests of the model alone."""

from array import array
from typing import Any

from shards.model.bindings import Arguments, Binding
from shards.model.consumers import Consumer
from shards.model.exchanges.exchange import Exchange
from shards.model.queues.queue import Queue
from shards.model.turn import Turn
from shards.model.vhost import VHost
from shards.store.message_store import MessageStore
from shards.store.record import decode, encode

HEADER = bytes.fromhex("003c0000000000000000001010000200")


def bare_queue(name: str = "queue") -> Queue:
    """A queue that can be bound, and nothing else."""
    return Queue(name, 1, Turn(), _no_store)


def _no_store(_queue: Queue) -> MessageStore:
    raise AssertionError("nothing is stored in this test")


def bind(
    exchange: Exchange, destination: Queue | Exchange, key: str = "", arguments: Arguments | None = None
) -> Binding:
    binding = Binding(exchange, destination, key, arguments or {})
    assert exchange.bind(binding)
    return binding


def matches(exchange: Exchange, key: str = "", headers: Arguments | None = None) -> set[str]:
    """Names of what a message with this key and these headers goes to."""
    return {destination.name for destination in exchange.match(key, lambda: headers or {})}


def record(body: bytes) -> bytes:
    return encode(1, 1, 0, b"\x00\x04jobs", HEADER, body)


def declare(vhost: VHost, name: str, **facts: Any) -> Queue:
    """A durable queue, unless told otherwise."""
    wanted = {
        "is_durable": True,
        "is_auto_delete": False,
        "owner": None,
        "is_exclusive": False,
        "arguments": {},
        **facts,
    }
    return vhost.declare_queue(name, **wanted)[0]


def declare_exchange(vhost: VHost, name: str, kind: str = "fanout", **facts: Any) -> Exchange:
    """A durable exchange, unless told otherwise."""
    wanted = {"is_durable": True, "is_auto_delete": False, "is_internal": False, "arguments": {}, **facts}
    vhost.declare_exchange(name, kind, **wanted)
    return vhost.exchange(name)


def append(queue: Queue, *bodies: bytes) -> None:
    for body in bodies:
        queue.append(record(body))


def take_all(queue: Queue) -> list[bytes]:
    """Hand everything ready out and settle it; the bodies in order."""
    eater = Eater(queue)
    queue.add_consumer(eater)
    queue.deliver(0)
    queue.remove_consumer(eater)
    eater.settle()
    return eater.bodies


class Eater(Consumer):
    """Takes up to `appetite` messages at a time and remembers them until they are settled or given back."""

    def __init__(
        self,
        queue: Queue,
        tag: str = "eater",
        *,
        appetite: int = 1 << 30,
        is_exclusive: bool = False,
        priority: int = 0,
    ) -> None:
        super().__init__(queue, tag, is_exclusive=is_exclusive, priority=priority)
        self.appetite = appetite
        self.bodies: list[bytes] = []
        self.redelivered: list[bool] = []
        self.positions: list[int] = []
        self.is_told_of_deletion = False

    def room(self) -> int:
        return self.appetite - len(self.positions)

    def take(self, count: int) -> int:
        store = self.queue.store
        assert store is not None
        taken = 0
        while taken < count and (span := store.next_span()) is not None:
            message = decode(span.buffer, span.start)
            self.bodies.append(message.body)
            self.redelivered.append(span.redelivered)
            self.positions.append(span.base + span.start)
            store.advance(1, span.start + int.from_bytes(span.buffer[span.start : span.start + 4], "little"))
            taken += 1
        return taken

    def settle(self) -> None:
        positions, self.positions = self.positions, []
        if self.queue.store is not None:
            self.queue.store.settle_many(array("Q", positions))
        self.queue.offer(self)

    def give_back(self) -> None:
        positions, self.positions = self.positions, []
        self.queue.requeue(positions)
        self.queue.offer(self)

    def queue_deleted(self) -> None:
        self.is_told_of_deletion = True
