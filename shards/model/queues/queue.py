"""A queue: messages in its store, consumers in a ring, and the delivery loop that brings both together."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from ipc.errors import AccessRefused
from ipc.limits import DELIVERY_RUN_MAX
from shards.compaction.compactable import Compactable
from shards.model.bindings import Arguments, Binding
from shards.model.consumers import Consumer
from shards.model.turn import Turn
from shards.store.message_store import MessageStore

DELIVERIES_PER_TURN_MAX = 1024
"""Messages one queue hands out in one turn of the pump, so that a long backlog does not keep others waiting."""

GENERATED = "amq.gen-"
"""What the names begin with that the broker chooses."""


class Owner(Protocol):
    """The connection exclusive queues belong to, and go with."""

    exclusive_queues: dict[str, None]


class Queue(Compactable):
    """One queue. Its store comes into being with the first message and goes with the last, so that an idle queue is a
    name, a few flags and nothing on disk."""

    __slots__ = (
        "_consumers",
        "_inbound",
        "_open_store",
        "_turn",
        "_waiting",
        "arguments",
        "had_consumer",
        "is_auto_delete",
        "is_awake",
        "is_deleted",
        "is_durable",
        "name",
        "number",
        "owner",
        "store",
    )
    COLLECTIONS = ("_consumers", "_inbound", "_waiting")

    def __init__(
        self,
        name: str,
        number: int,
        turn: Turn,
        open_store: Callable[["Queue"], MessageStore],
        *,
        is_durable: bool = False,
        is_auto_delete: bool = False,
        owner: Owner | None = None,
        arguments: Arguments | None = None,
    ) -> None:
        self.name = name
        self.number = number
        self.is_durable = is_durable
        self.is_auto_delete = is_auto_delete
        self.owner = owner
        self.arguments = arguments or None
        self.is_awake = False
        self.is_deleted = False
        self.had_consumer = False
        self.store: MessageStore | None = None
        self._turn = turn
        self._open_store = open_store
        self._consumers: dict[Consumer, None] | None = None
        self._waiting: deque[Consumer] | None = None
        self._inbound: dict[Binding, None] | None = None

    # what stands in it ------------------------------------------------------------------------------------------------

    @property
    def ready_count(self) -> int:
        return self.store.ready_count if self.store is not None else 0

    @property
    def unacknowledged_count(self) -> int:
        return self.store.unacknowledged_count if self.store is not None else 0

    @property
    def consumer_count(self) -> int:
        return len(self._consumers) if self._consumers else 0

    def append(self, record: bytes) -> None:
        """Take one message in, as `shards/store/record.py` lays it out."""
        store = self.store
        if store is None:
            store = self.store = self._open_store(self)
        store.append(record)
        if not self.is_awake:
            self._turn.wake(self)

    def open_run(self) -> MessageStore:
        """The store, for a run of messages; followed by `appended`."""
        store = self.store
        if store is None:
            store = self.store = self._open_store(self)
        return store

    def appended(self) -> None:
        """A run of messages has come into the store."""
        if not self.is_awake:
            self._turn.wake(self)

    def append_large(self, parts: list[bytes | bytearray | memoryview], size_bytes: int) -> None:
        """The same for a record in pieces, which is never copied whole."""
        store = self.store
        if store is None:
            store = self.store = self._open_store(self)
        store.append_large(parts, size_bytes)
        self._turn.wake(self)

    def requeue(self, positions: Iterable[int]) -> None:
        if self.store is None:
            return
        for position in positions:
            self.store.requeue(position)
        self._turn.wake(self)

    def purge(self) -> int:
        """Drop everything ready; how many it were. What is unacknowledged stays."""
        if self.store is None:
            return 0
        self._turn.wake(self)
        return self.store.purge()

    # who takes from it ------------------------------------------------------------------------------------------------

    def consumers(self) -> list[Consumer]:
        return list(self._consumers or ())

    def add_consumer(self, consumer: Consumer) -> None:
        """Raises AccessRefused (403) when exclusivity forbids it."""
        if self._consumers:
            if consumer.is_exclusive or any(other.is_exclusive for other in self._consumers):
                raise AccessRefused(f"queue '{self.name}' in exclusive use")
        else:
            self._consumers = {}
            self._waiting = deque()
        self._consumers[consumer] = None
        self.had_consumer = True
        self.offer(consumer)

    def remove_consumer(self, consumer: Consumer) -> None:
        if not self._consumers or consumer not in self._consumers:
            return
        del self._consumers[consumer]
        if consumer.is_waiting and self._waiting is not None:
            self._waiting.remove(consumer)
            consumer.is_waiting = False
        if not self._consumers:
            self._consumers = self._waiting = None

    @property
    def is_abandoned(self) -> bool:
        """Whether an auto-delete queue has lost its last consumer."""
        return self.is_auto_delete and self.had_consumer and not self._consumers

    def offer(self, consumer: Consumer) -> None:
        """This consumer may have room again: let it wait for messages."""
        if self._consumers is None or self._waiting is None or consumer not in self._consumers:
            return
        if not consumer.is_waiting:
            consumer.is_waiting = True
            self._waiting.append(consumer)
        if self.ready_count:
            self._turn.wake(self)

    def deliver(self, now: int) -> bool:
        store = self.store
        waiting = self._waiting
        left = DELIVERIES_PER_TURN_MAX
        while waiting and store is not None and store.ready_count and not self.is_deleted:
            if left <= 0:
                return True
            consumer = waiting[0]
            room = consumer.room()
            taken = consumer.take(min(room, self._share(len(waiting)), left)) if room > 0 else 0
            left -= taken
            if taken:
                waiting.rotate(-1)
            else:
                waiting.popleft()
                consumer.is_waiting = False
        return False

    def _share(self, takers: int) -> int:
        """One by one in turn while few are ready, in runs when many are: fair to each, cheap for all."""
        if takers == 1:
            return DELIVERIES_PER_TURN_MAX
        return max(1, min(self.ready_count // takers, DELIVERY_RUN_MAX))

    # where it is bound ------------------------------------------------------------------------------------------------

    def bound(self, binding: Binding) -> None:
        if self._inbound is None:
            self._inbound = {}
        self._inbound[binding] = None

    def unbound(self, binding: Binding) -> None:
        if self._inbound is not None:
            self._inbound.pop(binding, None)
            if not self._inbound:
                self._inbound = None

    def inbound(self) -> list[Binding]:
        return list(self._inbound or ())

    # the store's side -------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        if self.store is not None and self.store.dirty:
            self.store.flush()

    def delete(self) -> None:
        """Messages and files are gone; whoever still holds a delivery may settle it into the void."""
        self.is_deleted = True
        store, self.store = self.store, None
        if store is not None:
            try:
                store.delete()
            except OSError:
                pass  # files that belong to no queue are removed when the vhost opens again

    def close(self) -> None:
        """The shard ends or gives the vhost up: everything is written and the files are closed.

        Raises OSError when something could not be written; the files are closed all the same.
        """
        if self.store is not None:
            self.store.close()

    def children(self) -> Iterable[Compactable]:
        return (self.store,) if self.store is not None else ()
