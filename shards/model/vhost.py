"""A virtual host: exchanges, queues and bindings under one name, and everything that changes or asks for them.

Changes to durable things are noted in `changes`, in order; the shard's host commits them in the next round, and whoever
asked hears about it when that round is on disk.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ipc.data_directory import VHostDirectory
from ipc.errors import AccessRefused, NotFound, PreconditionFailed, ResourceLocked
from ipc.settings import StoreSettings
from shards.compaction.compactable import Compactable
from shards.model.bindings import Arguments, Binding, Destination, arguments_key
from shards.model.consumers import Consumer
from shards.model.equivalence import check_exchange, check_queue
from shards.model.exchanges.default import DefaultExchange
from shards.model.exchanges.exchange import Exchange, Headers
from shards.model.exchanges.headers import HeadersExchange, check_match_argument
from shards.model.exchanges.registry import EXCHANGE_TYPES, PREDECLARED
from shards.model.queues.queue import GENERATED, Owner, Queue
from shards.model.turn import FreshName, Turn
from shards.store.definitions import (
    BindingDefinition,
    Change,
    DropBinding,
    DropExchange,
    DropQueue,
    ExchangeDefinition,
    PutBinding,
    PutExchange,
    PutQueue,
    QueueDefinition,
)
from shards.store.files import Files
from shards.store.message_store import MessageStore
from shards.store.recovery import RecoveryReport


class VHost(Compactable):
    """All state of one virtual host. Look-ups named `find_…` return None, the others raise NotFound (404)."""

    COLLECTIONS = ("_exchanges", "_queues", "connections")

    def __init__(
        self, name: str, directory: Path, files: Files, settings: StoreSettings, turn: Turn, fresh_name: FreshName
    ) -> None:
        self.name = name
        self.revision = 0  # of the topology: a remembered route is good while this stays the same
        self.changes: list[Change] = []
        self.connections: dict[Compactable, None] = {}
        self._paths = VHostDirectory(directory)
        self._files = files
        self._settings = settings
        self._turn = turn
        self._fresh_name = fresh_name
        self._number_next = 1
        self._queues: dict[str, Queue] = {}
        self._exchanges: dict[str, Exchange] = {"": DefaultExchange(self._queues_get)}
        for exchange, kind in PREDECLARED.items():
            self._exchanges[exchange] = EXCHANGE_TYPES[kind](exchange)

    @property
    def compaction_label(self) -> str:
        return self.name

    def children(self) -> Iterable[Compactable]:
        return (*self._exchanges.values(), *self._queues.values(), *self.connections)

    def _queues_get(self, name: str) -> Queue | None:
        # Through the attribute, because compaction replaces the dictionary.
        return self._queues.get(name)

    # look-ups ---------------------------------------------------------------------------------------------------------

    def find_queue(self, name: str) -> Queue | None:
        return self._queues.get(name)

    def queue(self, name: str, owner: Owner | None = None) -> Queue:
        """Raises NotFound (404), or ResourceLocked (405) when it is exclusive to somebody other than `owner`."""
        queue = self._queues.get(name)
        if queue is None:
            raise NotFound(f"no queue '{name}' in vhost '{self.name}'")
        if queue.owner is not None and queue.owner is not owner:
            raise ResourceLocked(
                f"cannot obtain exclusive access to locked queue '{name}' in vhost '{self.name}'. It could be "
                "originally declared on another connection or the exclusive property value does not match that of the "
                "original declaration."
            )
        return queue

    def exchange(self, name: str) -> Exchange:
        exchange = self._exchanges.get(name)
        if exchange is None:
            raise NotFound(f"no exchange '{name}' in vhost '{self.name}'")
        return exchange

    def find_exchange(self, name: str) -> Exchange | None:
        return self._exchanges.get(name)

    def queues(self) -> Iterator[Queue]:
        return iter(tuple(self._queues.values()))

    # exchanges --------------------------------------------------------------------------------------------------------

    def declare_exchange(
        self,
        name: str,
        kind: str,
        *,
        is_durable: bool,
        is_auto_delete: bool,
        is_internal: bool,
        arguments: Arguments,
    ) -> bool:
        """Make an exchange; False when an equal one exists.

        Raises PreconditionFailed (406) for another declaration under this name, AccessRefused (403) for reserved names.
        The caller has checked that the type exists.
        """
        existing = self._exchanges.get(name)
        if existing is not None:
            check_exchange(
                existing,
                self.name,
                kind,
                is_durable=is_durable,
                is_auto_delete=is_auto_delete,
                is_internal=is_internal,
                arguments=arguments,
            )
            return False
        if name.startswith("amq."):
            raise AccessRefused(f"exchange name '{name}' contains reserved prefix 'amq.*'")
        exchange = EXCHANGE_TYPES[kind](
            name,
            is_durable=is_durable,
            is_auto_delete=is_auto_delete,
            is_internal=is_internal,
            arguments=arguments,
        )
        self._exchanges[name] = exchange
        self._topology_changed()
        if is_durable:
            self._note(PutExchange(_exchange_definition(exchange)))
        return True

    def delete_exchange(self, name: str, *, if_unused: bool = False) -> None:
        """A missing one is fine. Raises AccessRefused (403) if predeclared, PreconditionFailed (406) if in use."""
        if name == "" or name.startswith("amq."):
            raise AccessRefused(f"operation not permitted on exchange '{name or 'amq.default'}'")
        exchange = self._exchanges.get(name)
        if exchange is None:
            return
        if if_unused and exchange.is_bound:
            raise PreconditionFailed(f"exchange '{name}' in vhost '{self.name}' in use")
        self._drop_exchange(exchange)

    def _drop_exchange(self, exchange: Exchange) -> None:
        if exchange.is_deleted:
            return
        exchange.is_deleted = True
        del self._exchanges[exchange.name]
        if exchange.is_durable:
            self._note(DropExchange(exchange.name))
        for binding in list(exchange.bindings()):
            exchange.unbind(binding)
        self._unbind_inbound(exchange)
        self._topology_changed()

    # queues -----------------------------------------------------------------------------------------------------------

    def declare_queue(
        self,
        name: str,
        *,
        is_durable: bool,
        is_auto_delete: bool,
        owner: Owner | None,
        is_exclusive: bool,
        arguments: Arguments,
    ) -> tuple[Queue, bool]:
        """The queue, and whether it was made now. An empty name lets the broker choose one.

        Raises PreconditionFailed (406) for another declaration under this name, ResourceLocked (405) for somebody
        else's exclusive queue, AccessRefused (403) for reserved names.
        """
        if name and name in self._queues:
            existing = self.queue(name, owner)
            check_queue(
                existing,
                self.name,
                is_durable=is_durable,
                is_auto_delete=is_auto_delete,
                is_exclusive=is_exclusive,
                arguments=arguments,
            )
            return existing, False
        if name.startswith("amq."):
            raise AccessRefused(f"queue name '{name}' contains reserved prefix 'amq.*'")
        queue = Queue(
            name or self.fresh_name(GENERATED),
            self._take_number(),
            self._turn,
            self._open_store,
            is_durable=is_durable,
            is_auto_delete=is_auto_delete,
            owner=owner if is_exclusive else None,
            arguments=arguments,
        )
        self._queues[queue.name] = queue
        self._topology_changed()
        if self._is_stored(queue):
            self._note(PutQueue(_queue_definition(queue)))
        return queue, True

    def delete_queue(self, queue: Queue, *, if_unused: bool = False, if_empty: bool = False) -> int:
        """How many ready messages went with it. Raises PreconditionFailed (406) when a condition does not hold."""
        if if_unused and queue.consumer_count:
            raise PreconditionFailed(f"queue '{queue.name}' in vhost '{self.name}' in use")
        if if_empty and queue.ready_count:
            raise PreconditionFailed(f"queue '{queue.name}' in vhost '{self.name}' not empty")
        count = queue.ready_count
        del self._queues[queue.name]
        if queue.owner is not None:
            queue.owner.exclusive_queues.pop(queue.name, None)
        if self._is_stored(queue):
            self._note(DropQueue(queue.name))
        self._unbind_inbound(queue)
        consumers = queue.consumers()
        queue.delete()
        for consumer in consumers:
            queue.remove_consumer(consumer)
            consumer.queue_deleted()
        self._topology_changed()
        return count

    def remove_consumer(self, consumer: Consumer) -> None:
        """Unsubscribe, and let an abandoned auto-delete queue go."""
        queue = consumer.queue
        queue.remove_consumer(consumer)
        if queue.is_abandoned and not queue.is_deleted:
            self.delete_queue(queue)

    def fresh_name(self, prefix: str) -> str:
        return prefix + self._fresh_name()

    # bindings ---------------------------------------------------------------------------------------------------------

    def bind(self, source: Exchange, destination: Destination, routing_key: str, arguments: Arguments) -> bool:
        """Lead messages from `source` to `destination`; False when that binding exists.

        Raises AccessRefused (403) for the default exchange and PreconditionFailed (406) for arguments it cannot follow.
        """
        self._refuse_default(source, destination)
        if isinstance(source, HeadersExchange):
            check_match_argument(arguments)
        binding = Binding(source, destination, routing_key, arguments)
        if not source.bind(binding):
            return False
        self._topology_changed()
        if self._outlives_restart(binding):
            self._note(PutBinding(_binding_definition(binding)))
        return True

    def unbind(self, source: Exchange, destination: Destination, routing_key: str, arguments: Arguments) -> None:
        """A binding that does not exist is fine."""
        self._refuse_default(source, destination)
        binding = source.find((id(destination), routing_key, arguments_key(arguments)))
        if binding is not None:
            self._drop_binding(binding)

    def _refuse_default(self, source: Exchange, destination: Destination) -> None:
        if isinstance(source, DefaultExchange) or isinstance(destination, DefaultExchange):
            raise AccessRefused("operation not permitted on the default exchange")

    def _unbind_inbound(self, destination: Destination) -> None:
        # The definitions drop a queue's or exchange's bindings together with it.
        for binding in destination.inbound():
            self._drop_binding(binding, is_noted=False)

    def _drop_binding(self, binding: Binding, *, is_noted: bool = True) -> None:
        binding.source.unbind(binding)
        self._topology_changed()
        if is_noted and self._outlives_restart(binding):
            self._note(DropBinding(_binding_definition(binding)))
        if binding.source.is_auto_delete and not binding.source.is_bound:
            self._drop_exchange(binding.source)

    def _outlives_restart(self, binding: Binding) -> bool:
        destination = binding.destination
        lasts = self._is_stored(destination) if isinstance(destination, Queue) else destination.is_durable
        return lasts and binding.source.is_durable

    def _is_stored(self, queue: Queue) -> bool:
        return queue.is_durable and queue.owner is None

    def _topology_changed(self) -> None:
        self.revision += 1

    # routing ----------------------------------------------------------------------------------------------------------

    def route(self, exchange: Exchange, routing_key: str, headers: Headers) -> tuple[list[Queue], bool]:
        """The queues a message goes to, each once, and whether exchange and key alone decided it."""
        found: dict[Queue, None] = {}
        visited = {exchange}
        pending = [exchange]
        by_key = True
        while pending:
            source = pending.pop()
            by_key = by_key and source.routes_by_key
            for destination in source.match(routing_key, headers):
                if isinstance(destination, Queue):
                    found[destination] = None
                elif destination not in visited:
                    visited.add(destination)
                    pending.append(destination)
        return list(found), by_key

    # its files --------------------------------------------------------------------------------------------------------

    def _note(self, change: Change) -> None:
        # Whoever caused it: a queue that went with its last consumer must not come back either.
        self.changes.append(change)
        self._turn.round_wanted = True

    def take_changes(self) -> list[Change]:
        changes, self.changes = self.changes, []
        return changes

    def restore(
        self,
        exchanges: Iterable[ExchangeDefinition],
        queues: Iterable[QueueDefinition],
        bindings: Iterable[BindingDefinition],
        report: RecoveryReport,
    ) -> None:
        """Bring back what the definitions and the store hold; called once, before the first client."""
        for definition in exchanges:
            self._exchanges[definition.name] = EXCHANGE_TYPES[definition.type](
                definition.name,
                is_auto_delete=definition.auto_delete,
                is_internal=definition.internal,
                arguments=definition.arguments,
            )
        for stored in queues:
            queue = Queue(
                stored.name,
                stored.number,
                self._turn,
                self._open_store,
                is_durable=True,
                is_auto_delete=stored.auto_delete,
                arguments=stored.arguments,
            )
            queue.store = MessageStore.recover(self._files, self._directory(queue), self._settings, report)
            self._queues[stored.name] = queue
            self._number_next = max(self._number_next, stored.number + 1)
        for bound in bindings:
            self._restore_binding(bound)
        self._topology_changed()

    def _restore_binding(self, stored: BindingDefinition) -> None:
        source = self._exchanges.get(stored.source)
        find: Callable[[str], Destination | None] = (
            self.find_queue if stored.destination_kind == "queue" else self.find_exchange
        )
        destination = find(stored.destination)
        if source is not None and destination is not None:
            source.bind(Binding(source, destination, stored.routing_key, stored.arguments))

    def close(self) -> list[tuple[Queue, OSError]]:
        """Write and close everything; exclusive and transient queues are gone for good.

        Queues of which something could not be written, which nobody was told is safe, and why.
        """
        unwritten = []
        for queue in self.queues():
            if not self._is_stored(queue):
                queue.delete()
                continue
            try:
                queue.close()
            except OSError as fault:
                unwritten.append((queue, fault))
        return unwritten

    def _open_store(self, queue: Queue) -> MessageStore:
        return MessageStore(self._files, self._directory(queue), self._settings, durable=self._is_stored(queue))

    def _directory(self, queue: Queue) -> str:
        parent = self._paths.queues if self._is_stored(queue) else self._paths.transient
        return str(parent / str(queue.number))

    def _take_number(self) -> int:
        self._number_next += 1
        return self._number_next - 1


def _exchange_definition(exchange: Exchange) -> ExchangeDefinition:
    return ExchangeDefinition(
        name=exchange.name,
        type=exchange.type,
        auto_delete=exchange.is_auto_delete,
        internal=exchange.is_internal,
        arguments=exchange.arguments,
    )


def _queue_definition(queue: Queue) -> QueueDefinition:
    return QueueDefinition(
        number=queue.number, name=queue.name, auto_delete=queue.is_auto_delete, arguments=queue.arguments or {}
    )


def _binding_definition(binding: Binding) -> BindingDefinition:
    return BindingDefinition(
        source=binding.source.name,
        destination=binding.destination.name,
        destination_kind="queue" if isinstance(binding.destination, Queue) else "exchange",
        routing_key=binding.routing_key,
        arguments=binding.arguments or {},
    )
