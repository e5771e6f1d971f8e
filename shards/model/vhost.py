"""A virtual host: exchanges, queues and bindings under one name, and everything that changes or asks for them.

Changes to durable things are noted in `changes`, in order; the shard's host commits them in the next round, and whoever
asked hears about it when that round is on disk.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from ipc.errors import AccessRefused, NotAllowed, NotFound, PreconditionFailed
from ipc.limits import RULES_APPLIED_PER_STEP
from ipc.messages.rules import NO_RULES, Rules
from ipc.settings import StoreSettings
from ipc.wire.amqp import properties
from shards.compaction.compactable import Compactable
from shards.model import carbon_copies
from shards.model.bindings import Arguments, Binding, Destination, arguments_key
from shards.model.consumers import Consumer
from shards.model.dead_letters import Death
from shards.model.defining import binding_definition, exchange_definition, queue_definition
from shards.model.delay import spent
from shards.model.equivalence import check_exchange, check_queue, locked
from shards.model.exchanges.default import DefaultExchange
from shards.model.exchanges.exchange import Exchange, Headers
from shards.model.exchanges.registry import EXCHANGE_TYPES, PREDECLARED
from shards.model.exchanges.routing import never_held, route
from shards.model.policies import EXCHANGE, Rulebook
from shards.model.publication import Publication
from shards.model.queues.queue import GENERATED, Owner, Queue
from shards.model.queues.terms import read_terms, recall_terms
from shards.model.statistics import (
    QUEUE_CREATED,
    QUEUE_DECLARED,
    QUEUE_DELETED,
    VHOST_COUNTERS,
    Sampling,
    Tally,
    count_up,
    tally_bytes,
)
from shards.model.storage import Storage, is_stored
from shards.model.turn import FreshName, Notice, Turn
from shards.model.waiting_room import WaitingRoom
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
from shards.store.record import Record
from shards.store.recovery import RecoveryReport
from shards.store.register import NOTHING_KNOWN, Known, SegmentFacts


class VHost(Compactable):
    """All state of one virtual host. Look-ups named `find_…` return None, the others raise NotFound (404)."""

    COLLECTIONS = ("_exchanges", "_queues", "_replies", "connections")
    SORT = "vhost"

    def __init__(
        self,
        name: str,
        directory: Path,
        files: Files,
        settings: StoreSettings,
        turn: Turn,
        fresh_name: FreshName,
        rules: Rules = NO_RULES,
        *,
        sampling: Sampling | None = None,
    ) -> None:
        """What differs for vhosts in `settings` holds until it is opened again.

        `sampling`: when the shard's counters are sampled; without it they never are.
        """
        self.name = name
        self.durability = settings.durability_of(name)
        self.rulebook = Rulebook(rules)
        self.revision = 0  # of the topology: a remembered route is good while this stays the same
        self.changes: list[Change] = []
        self.connections: dict[Compactable, None] = {}
        self.sampling = sampling or Sampling()
        self.tally: Tally | None = Tally(VHOST_COUNTERS)
        self._turn = turn
        self.storage = Storage(directory, files, settings, turn, self._registered, awaits_disk=self.awaits_disk)
        self._fresh_name = fresh_name
        self._number_next = 1
        self._queues: dict[str, Queue] = {}
        self._replies: dict[str, Queue] = {}  # of clients that wait for direct replies; nobody else ever sees them
        self._exchanges: dict[str, Exchange] = {"": DefaultExchange(self._queues_get)}
        for exchange, kind in PREDECLARED.items():
            self._exchanges[exchange] = self._ruled(EXCHANGE_TYPES[kind](exchange))

    @property
    def awaits_disk(self) -> bool:
        """Whether a message counts as safe only once it is on disk."""
        return self.durability == "fsync"

    @property
    def compaction_label(self) -> str:
        return self.name

    def children(self) -> Iterable[Compactable]:
        queues = (*self._queues.values(), *self._replies.values())
        journals = () if self.storage.journal is None else (self.storage.journal,)
        return (
            self.rulebook,
            self.storage.register,
            *journals,
            *self._exchanges.values(),
            *queues,
            *self.connections,
        )

    def holdings(self) -> Iterable[tuple[str, int]]:
        return (tally_bytes(self),)

    def _queues_get(self, name: str) -> Queue | None:
        # Through the attributes, because compaction replaces the dictionaries.
        queue = self._queues.get(name)
        return queue if queue is not None else self._replies.get(name)

    # look-ups ---------------------------------------------------------------------------------------------------------

    def find_queue(self, name: str) -> Queue | None:
        return self._queues.get(name)

    def queue(self, name: str, owner: Owner | None = None) -> Queue:
        """Raises NotFound (404), or ResourceLocked (405) when it is exclusive to somebody other than `owner`."""
        queue = self._queues.get(name)
        if queue is None:
            raise NotFound(f"no queue '{name}' in vhost '{self.name}'")
        if queue.owner is not None and queue.owner is not owner:
            raise locked(name, self.name)
        return queue

    def exchange(self, name: str) -> Exchange:
        exchange = self._exchanges.get(name)
        if exchange is None:
            raise NotFound(f"no exchange '{name}' in vhost '{self.name}'")
        return exchange

    def find_exchange(self, name: str) -> Exchange | None:
        return self._exchanges.get(name)

    @property
    def queue_count(self) -> int:
        return len(self._queues)

    def queues(self) -> Iterator[Queue]:
        return iter(tuple(self._queues.values()))

    @property
    def now(self) -> int:
        """Broker time in milliseconds, as far as this turn knows."""
        return self._turn.now

    def exchanges(self) -> Iterator[Exchange]:
        return iter(tuple(self._exchanges.values()))

    # policies and limits ----------------------------------------------------------------------------------------------

    def change_rules(self, rules: Rules, now: int) -> Iterator[None]:
        """Other rules hold: for what comes from the first step on, for what is there when all steps are done."""
        self.rulebook = Rulebook(rules)
        things: tuple[Destination, ...] = (*self._exchanges.values(), *self._queues.values())
        for done, thing in enumerate(things, 1):
            if isinstance(thing, Exchange):
                self._ruled(thing)
            elif not thing.is_deleted:
                own = recall_terms(thing.arguments or {})
                thing.change_terms(*self.rulebook.rule(thing.name, own, thing.arguments), now)
            if done % RULES_APPLIED_PER_STEP == 0:
                self._topology_changed()
                yield
        self._topology_changed()

    def _ruled(self, exchange: Exchange) -> Exchange:
        exchange.ruling = self.rulebook.ruling(exchange.name, EXCHANGE)
        asked = exchange.own_alternate
        exchange.alternate = self.rulebook.alternate_exchange(exchange.name) if asked is None else asked
        exchange.delays = exchange.own_delays or self.rulebook.delays(exchange.name)
        return exchange

    def refusal_to(self, user: str) -> NotAllowed | None:
        """Why another client of this user may not come in (530); None: it may."""
        limit = self.rulebook.rules.connections_max
        if limit is None or len(self.connections) < limit:
            return None
        return NotAllowed(
            f"access to vhost '{self.name}' refused for user '{user}': connection limit ({limit}) is reached"
        )

    def _check_queue_limit(self, name: str) -> None:
        limit = self.rulebook.rules.queues_max
        if limit is not None and len(self._queues) >= limit:
            raise PreconditionFailed(
                f"cannot declare queue '{name}': queue limit in vhost '{self.name}' ({limit}) is reached"
            )

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

        Raises PreconditionFailed (406) for another declaration under this name and for arguments it cannot follow,
        AccessRefused (403) for reserved names. The caller has checked that the type exists.
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
        EXCHANGE_TYPES[kind].check_arguments(arguments, self._where(name))
        exchange = EXCHANGE_TYPES[kind](
            name,
            is_durable=is_durable,
            is_auto_delete=is_auto_delete,
            is_internal=is_internal,
            arguments=arguments,
            number=self._take_number(),
        )
        self._exchanges[name] = self._ruled(exchange)
        self._topology_changed()
        if is_durable:
            self._note(PutExchange(exchange_definition(exchange)))
        return True

    def delete_exchange(self, name: str, *, if_unused: bool = False) -> None:
        """A missing one is fine. Raises AccessRefused (403) if predeclared, PreconditionFailed (406) if in use."""
        if not name:
            raise AccessRefused("operation not permitted on the default exchange")
        if name.startswith("amq."):
            raise AccessRefused(f"deletion of system {self._where(name)} not allowed")
        exchange = self._exchanges.get(name)
        if exchange is None:
            return
        if if_unused and exchange.is_bound:
            raise PreconditionFailed(f"exchange '{name}' in vhost '{self.name}' in use")
        self._drop_exchange(exchange)

    def _drop_exchange(self, exchange: Exchange) -> None:
        """And the auto-delete exchanges that led only there, in turn: a loop, because chains may be of any length."""
        pending = [exchange]
        while pending:
            exchange = pending.pop()
            if exchange.is_deleted:
                continue
            exchange.is_deleted = True
            del self._exchanges[exchange.name]
            if exchange.is_durable:
                self._note(DropExchange(exchange.name))
            for binding in list(exchange.bindings()):
                exchange.unbind(binding)
            if exchange.waiting_room is not None:
                exchange.waiting_room.delete()
            pending.extend(self._unbind_inbound(exchange))
        self._topology_changed()

    def _where(self, exchange: str) -> str:
        return f"exchange '{exchange}' in vhost '{self.name}'"

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
        may_be_reserved: bool = False,
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
            existing.used(self._turn.now)
            count_up(self, QUEUE_DECLARED, 1)
            return existing, False
        if name.startswith("amq.") and not may_be_reserved:
            raise AccessRefused(f"queue name '{name}' contains reserved prefix 'amq.*'")
        name = name or self.fresh_name(GENERATED)
        self._check_queue_limit(name)
        own = read_terms(arguments, f"queue '{name}' in vhost '{self.name}'")
        if own.is_quorum:
            self._check_quorum(name, is_durable=is_durable, is_auto_delete=is_auto_delete, is_exclusive=is_exclusive)
        ruling, terms = self.rulebook.rule(name, own, arguments)
        queue = Queue(
            name,
            self._take_number(),
            self._turn,
            self.storage.open,
            is_durable=is_durable,
            is_auto_delete=is_auto_delete,
            owner=owner if is_exclusive else None,
            arguments=arguments,
            terms=terms,
            ruling=ruling,
            keeper=self,
        )
        queue.used(self._turn.now)
        self._queues[queue.name] = queue
        count_up(self, QUEUE_DECLARED, 1)
        count_up(self, QUEUE_CREATED, 1)
        self._topology_changed()
        if is_stored(queue):
            self._note(PutQueue(queue_definition(queue)))
        return queue, True

    def _check_quorum(self, name: str, *, is_durable: bool, is_auto_delete: bool, is_exclusive: bool) -> None:
        """Raises PreconditionFailed (406) for what quorum queues cannot be, and tells the operator what they are."""
        for broken, what in (
            (not is_durable, "non-durable"),
            (is_auto_delete, "auto-delete"),
            (is_exclusive, "exclusive-owner"),
        ):
            if broken:
                raise PreconditionFailed(f"invalid property '{what}' for queue '{name}' in vhost '{self.name}'")
        self._turn.notices.append(
            Notice("quorum queue is a durable queue with a delivery limit here", {"queue": name, "vhost": self.name})
        )

    def delete_queue(self, queue: Queue, *, if_unused: bool = False, if_empty: bool = False) -> int:
        """How many ready messages went with it. Raises PreconditionFailed (406) when a condition does not hold."""
        if if_unused and queue.consumer_count:
            raise PreconditionFailed(f"queue '{queue.name}' in vhost '{self.name}' in use")
        if if_empty and queue.ready_count:
            raise PreconditionFailed(f"queue '{queue.name}' in vhost '{self.name}' not empty")
        ready_count = queue.ready_count
        count_up(self, QUEUE_DELETED, 1)
        del (self._replies if queue.name in self._replies else self._queues)[queue.name]
        if queue.owner is not None:
            queue.owner.exclusive_queues.pop(queue.name, None)
        if is_stored(queue):
            self._note(DropQueue(queue.name))
        for exchange in self._unbind_inbound(queue):
            self._drop_exchange(exchange)
        consumers = queue.consumers()
        queue.delete()
        for consumer in consumers:
            queue.remove_consumer(consumer)
            consumer.queue_deleted()
        self._topology_changed()
        return ready_count

    def pause_queue(self, queue: Queue, *, is_paused: bool) -> None:
        """Have it hand nothing out, or go on; a queue that outlives a restart does so with this."""
        if queue.is_paused == is_paused:
            return
        (queue.pause if is_paused else queue.resume)()
        if is_stored(queue):
            self._note(PutQueue(queue_definition(queue)))

    def open_replies(self, prefix: str, owner: Owner) -> Queue:
        """A queue for direct replies. It is found by its routing key alone, and goes with its only consumer."""
        name = self.fresh_name(f"{prefix}.")
        queue = Queue(name, self._take_number(), self._turn, self.storage.open, is_auto_delete=True, owner=owner)
        self._replies[name] = queue
        return queue

    def has_replies(self, name: str) -> bool:
        """Whether somebody waits for direct replies under this name."""
        return name in self._replies

    def add_consumer(self, consumer: Consumer) -> None:
        """Subscribe; raises AccessRefused (403) when exclusivity forbids it."""
        queue = consumer.queue
        if not queue.admits(consumer):
            raise AccessRefused(f"queue '{queue.name}' in vhost '{self.name}' in exclusive use")
        queue.add_consumer(consumer)

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
        binding = Binding(source, destination, routing_key, arguments)
        if source.find(binding.key) is not None:
            return False
        source.check_binding(routing_key, arguments, self._where(source.name))
        source.bind(binding)
        self._topology_changed()
        if self._outlives_restart(binding):
            self._note(PutBinding(binding_definition(binding)))
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

    def _unbind_inbound(self, destination: Destination) -> list[Exchange]:
        """Take a destination away from all its sources; those that nobody needs any more."""
        # The definitions drop a queue's or exchange's bindings together with it.
        abandoned = []
        for binding in destination.inbound():
            binding.source.unbind(binding)
            if binding.source.is_abandoned:
                abandoned.append(binding.source)
        return abandoned

    def _drop_binding(self, binding: Binding) -> None:
        binding.source.unbind(binding)
        self._topology_changed()
        if self._outlives_restart(binding):
            self._note(DropBinding(binding_definition(binding)))
        if binding.source.is_abandoned:
            self._drop_exchange(binding.source)

    def _outlives_restart(self, binding: Binding) -> bool:
        destination = binding.destination
        lasts = is_stored(destination) if isinstance(destination, Queue) else destination.is_durable
        return lasts and binding.source.is_durable

    def _topology_changed(self) -> None:
        self.revision += 1

    # routing ----------------------------------------------------------------------------------------------------------

    def route(
        self,
        exchange: Exchange,
        routing_key: str,
        headers: Headers,
        copies: Sequence[str] = (),
        identities: Headers = dict,
        is_held: Callable[[Exchange], bool] = never_held,
    ) -> tuple[list[Queue], bool]:
        """The queues a message goes to, each once, and whether exchange and keys alone decided it.

        `copies`: the routing keys it has beside the first (CC, BCC), which only together may match nothing;
        `identities`: the properties that tell it from others; `is_held`: whether it waits at an exchange that delays.
        """
        return route(exchange, (routing_key, *copies), headers, identities, self.find_exchange, is_held)

    def bury(self, queue: Queue, message: Record, reason: str, now: int) -> bool:
        """Publish a message that leaves `queue` to its dead letter exchange; without that exchange it is dropped.

        Whether all copies are in what the journal gets of this turn: not those that are large, or wait.
        """
        terms = queue.terms
        exchange = self._exchanges.get(terms.dead_letter_exchange or "")
        if exchange is None:
            return True
        death = Death(message, queue.name, reason, now)
        keys = death.routing_keys
        if terms.dead_letter_routing_key is not None:
            keys = [terms.dead_letter_routing_key]
            death.forget_carbon_copies()
        header = death.header
        copy = Publication(_address(exchange.name, keys[0]), header, properties.inspect(header), message.body)
        if exchange.deduplication is not None and exchange.deduplication.is_duplicate(copy.fields, now):
            return True
        targets, _ = self.route(exchange, keys[0], copy.headers, keys[1:], copy.identities, copy.is_held)
        self.hold(copy, now)
        copy.enter([target for target in targets if not death.leads_in_circles(target.name)], now)
        if exchange.deduplication is not None:
            exchange.deduplication.remember(copy.fields, now)
        return not (copy.held_at or copy.is_written_at_once)

    # messages that wait -----------------------------------------------------------------------------------------------

    def hold(self, message: Publication, now: int) -> None:
        """Let a message wait at all exchanges that keep it back."""
        for exchange in message.held_at:
            room = exchange.waiting_room or self._open_waiting_room(exchange)
            room.append(message, now + message.delay)

    def _release(self, exchange: Exchange, kept: Record, now: int) -> None:
        """Pass on what has waited at `exchange`, with the bindings of this moment."""
        header = spent(kept.header)
        facts = properties.inspect(header)
        keys = (kept.routing_key, *(carbon_copies.copies(header, facts) if facts.may_have_copies else ()))
        if facts.may_have_copies:
            header = carbon_copies.without_hidden(header, facts)
        message = Publication(kept.address, header, facts, kept.body)
        targets, _ = self.route(exchange, keys[0], message.headers, keys[1:], message.identities)
        message.offer(targets, now)

    def _open_waiting_room(self, exchange: Exchange, store: MessageStore | None = None) -> WaitingRoom:
        room = exchange.waiting_room = WaitingRoom(
            self._where(exchange.name),
            self._turn,
            store or self.storage.open_waiting(exchange),
            partial(self._release, exchange),
            awaits_disk=exchange.is_durable and self.awaits_disk,
        )
        return room

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
        now: int,
        known: Callable[[int], Known] = lambda number: NOTHING_KNOWN,
    ) -> None:
        """Bring back what the definitions and the store hold; called once, before the first client.

        `known`: what the register says of the store with this number.
        """
        for definition in exchanges:
            exchange = EXCHANGE_TYPES[definition.type](
                definition.name,
                is_auto_delete=definition.auto_delete,
                is_internal=definition.internal,
                arguments=definition.arguments,
                number=definition.number,
            )
            self._exchanges[definition.name] = self._ruled(exchange)
            self._number_next = max(self._number_next, definition.number + 1)
        for stored in queues:
            ruling, terms = self.rulebook.rule(stored.name, recall_terms(stored.arguments), stored.arguments)
            queue = Queue(
                stored.name,
                stored.number,
                self._turn,
                self.storage.open,
                is_durable=True,
                is_auto_delete=stored.auto_delete,
                arguments=stored.arguments,
                terms=terms,
                ruling=ruling,
                keeper=self,
                is_paused=stored.paused,
            )
            queue.store = self.storage.recover(queue, report, known(stored.number))
            queue.used(now)
            self._turn.wake(queue)
            self._queues[stored.name] = queue
            self._number_next = max(self._number_next, stored.number + 1)
        for bound in bindings:
            self._restore_binding(bound)
        self._restore_waiting(report)
        self._topology_changed()

    def _restore_waiting(self, report: RecoveryReport) -> None:
        """Also at exchanges that delay nothing any more: what waits there waits to the end."""
        for exchange, store in self.storage.recover_waiting(self._exchanges.values(), report):
            self._open_waiting_room(exchange, store)

    def _restore_binding(self, stored: BindingDefinition) -> None:
        source = self._exchanges.get(stored.source)
        find: Callable[[str], Destination | None] = (
            self.find_queue if stored.destination_kind == "queue" else self.find_exchange
        )
        destination = find(stored.destination)
        if source is not None and destination is not None:
            source.bind(Binding(source, destination, stored.routing_key, stored.arguments))

    def places(self) -> Iterator[tuple[str, Queue | WaitingRoom]]:
        """What keeps messages that are to last, with the directory they are in; it may change from step to step."""
        return self._places_of(self.queues())

    def _places_of(self, queues: Iterable[Queue]) -> Iterator[tuple[str, Queue | WaitingRoom]]:
        for queue in queues:
            if is_stored(queue):
                yield self.storage.directory(queue), queue
        for exchange in tuple(self._exchanges.values()):
            if exchange.waiting_room is not None and exchange.is_durable:
                yield self.storage.waiting_directory(exchange), exchange.waiting_room

    def find_places(self, directories: Iterable[str]) -> dict[str, Queue | WaitingRoom]:
        """The same of these directories, as far as they are any's."""
        paths = self.storage.paths
        lasting = (f"{paths.queues}/", f"{paths.delayed}/")
        wanted = {directory for directory in directories if directory.startswith(lasting)}
        numbers = {directory.rpartition("/")[2] for directory in wanted}
        if not wanted:
            return {}
        queues = (queue for queue in self._queues.values() if str(queue.number) in numbers)
        return {directory: place for directory, place in self._places_of(queues) if directory in wanted}

    def close(self) -> list[tuple[Queue | WaitingRoom, OSError]]:
        """Write and close everything; exclusive and transient queues are gone for good.

        Queues, and exchanges with messages that wait, of which something could not be written, which nobody was told is
        safe; and why.
        """
        lasting = dict.fromkeys(place for _, place in self.places())
        rooms = (exchange.waiting_room for exchange in self._exchanges.values())
        for place in (*self.queues(), *rooms):
            if place is not None and place not in lasting:
                place.delete()
        return self.storage.close(lasting)

    def _registered(self) -> Iterator[Iterable[SegmentFacts]]:
        """Of one queue after the other; while they are gone through, some may come and go."""
        for queue in self.queues():
            if queue.store is None or not is_stored(queue):
                yield ()
                continue
            for level in queue.store.levels():
                yield level.segments.registered()

    def _take_number(self) -> int:
        self._number_next += 1
        return self._number_next - 1


def _address(exchange: str, routing_key: str) -> bytes:
    """As it stands in a record: two short strings."""
    return b"".join(bytes((len(part),)) + part for part in (exchange.encode(), routing_key.encode()))
