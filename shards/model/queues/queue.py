"""A queue: messages in its store, consumers in a ring, and the delivery loop that brings both together."""

from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import ClassVar, Protocol

from ipc.limits import DELIVERY_RUN_MAX
from shards.compaction.compactable import Compactable
from shards.model.bindings import Arguments, Bindable
from shards.model.consumers import Consumer
from shards.model.dead_letters import DELIVERY_LIMIT, MAXLEN, REJECTED
from shards.model.deduplication import Deduplication
from shards.model.policies import UNRULED, Ruling
from shards.model.queues.terms import PLAIN, REJECT_PUBLISH_DLX, Terms
from shards.model.queues.upkeep import Upkeep
from shards.model.statistics import PUBLISH, count_up
from shards.model.turn import Turn
from shards.store import record
from shards.store.copying import Piece
from shards.store.half_done import no_way_back
from shards.store.journal import Journal
from shards.store.message_store import MessageStore
from shards.store.priority_store import QueueStore

DELIVERIES_PER_TURN_MAX = 1024
"""Messages one queue hands out in one turn of the pump, so that a long backlog does not keep others waiting."""

GENERATED = "amq.gen-"
"""What the names begin with that the broker chooses."""


class Keeper(Protocol):
    """The vhost, as far as a queue needs it."""

    def bury(self, queue: "Queue", message: record.Record, reason: str, now: int) -> bool:
        """Publish a message that leaves `queue` to its dead letter exchange.

        Whether all copies are in what a journal gets of this turn; the others are written beside it.
        """

    def delete_queue(self, queue: "Queue") -> int:
        """The queue has expired."""


class Owner(Protocol):
    """The connection exclusive queues belong to, and go with."""

    exclusive_queues: dict[str, None]


class Queue(Bindable):
    """One queue. Its store comes into being with the first message and goes with the last, so that an idle queue is a
    name, a few flags and nothing on disk."""

    __slots__ = (
        "_consumers",
        "_is_ranked",
        "_keeper",
        "_open_store",
        "_turn",
        "_upkeep",
        "_used_at",
        "_waiting",
        "_worked_at",
        "appointment",
        "arguments",
        "deduplication",
        "had_consumer",
        "is_auto_delete",
        "is_awake",
        "is_deleted",
        "is_durable",
        "is_paused",
        "name",
        "number",
        "owner",
        "ruling",
        "store",
        "terms",
    )
    COLLECTIONS = ("_consumers", "_waiting")
    KIND = "queues"
    KINDS: ClassVar[Mapping[str, str]] = {"_consumers": "consumers", "_waiting": "consumers"}
    SORT = "queue"

    def __init__(
        self,
        name: str,
        number: int,
        turn: Turn,
        open_store: Callable[["Queue"], QueueStore],
        *,
        is_durable: bool = False,
        is_auto_delete: bool = False,
        owner: Owner | None = None,
        arguments: Arguments | None = None,
        terms: Terms = PLAIN,
        ruling: Ruling = UNRULED,
        keeper: Keeper | None = None,
        is_paused: bool = False,
    ) -> None:
        """`keeper` is needed by terms that expire the queue or dead-letter its messages."""
        super().__init__()
        self.name = name
        self.number = number
        self.is_durable = is_durable
        self.is_auto_delete = is_auto_delete
        self.owner = owner
        self.arguments = arguments or None
        self.is_awake = False
        self.is_deleted = False
        self.is_paused = is_paused  # takes messages, hands none out
        self.had_consumer = False
        self.store: QueueStore | None = None
        self._turn = turn
        self._open_store = open_store
        self._consumers: dict[Consumer, None] | None = None
        self._waiting: deque[Consumer] | None = None
        self._is_ranked = False  # whether consumers differ in priority
        self.appointment = 0
        self.terms = terms
        self.ruling = ruling  # the policies that these terms come from
        self.deduplication = Deduplication(terms) if terms.deduplicates else None  # no policy asks for it
        self._keeper = keeper
        self._used_at = 0
        self._worked_at = 0
        self._upkeep = self._make_upkeep() if terms != PLAIN else None

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

    def append(self, message: bytes, *, expires: bool = False) -> None:
        """Take one message in, as `shards/store/record.py` lays it out; `expires`: it has an expiration of its own."""
        self.open_run(message[record.PRIORITY_AT]).append(message)
        self.appended(expires=expires)
        count_up(self, PUBLISH, 1)

    def append_part(self, message: bytes, *, expires: bool = False) -> None:
        """The same for part of what happens as a whole, or not at all."""
        self.open_run(message[record.PRIORITY_AT]).append_part(message)
        self.appended(expires=expires)

    def open_run(self, priority: int) -> MessageStore:
        """The store, for a run of messages of one priority; followed by `appended`."""
        store = self.store
        if store is None:
            store = self.store = self._open_store(self)
        return store.level(priority)

    def appended(self, *, expires: bool = False) -> None:
        """A run of messages has come into the store."""
        if expires and self.store is not None:
            self.store.has_expiring = True
        if not self.is_awake:
            self._turn.wake(self)

    def append_large(
        self, parts: list[bytes | bytearray | memoryview], size_bytes: int, *, expires: bool = False
    ) -> None:
        """The same for a record in pieces, the first of which holds its head; it is never copied whole."""
        self.open_run(parts[0][record.PRIORITY_AT]).append_large(parts, size_bytes)
        self.appended(expires=expires)
        count_up(self, PUBLISH, 1)

    def requeue(self, positions: Iterable[int]) -> None:
        """Messages come back; those that have come back too often already go another way."""
        store = self.store
        if store is None:
            return
        exhausted: array[int] = array("Q")
        for position in positions:
            if self._may_return(store, position):
                store.requeue(position)
            else:
                exhausted.append(position)
        if exhausted:
            self._discard(exhausted, DELIVERY_LIMIT)
        self._turn.wake(self)

    @property
    def returned_count(self) -> int:
        """Messages that have come back and may do so a limited number of times."""
        return self.store.returned_count if self.store is not None else 0

    def _may_return(self, store: QueueStore, position: int) -> bool:
        """Whether it may come back once more."""
        limit = self.terms.returns_max
        return limit is None or store.note_return(position) <= limit

    def purge(self) -> int:
        """Drop everything ready; how many it were. What is unacknowledged stays."""
        if self.store is None:
            return 0
        self._turn.wake(self)
        return self.store.purge()

    # who takes from it ------------------------------------------------------------------------------------------------

    def consumers(self) -> list[Consumer]:
        return list(self._consumers or ())

    def admits(self, consumer: Consumer) -> bool:
        """Whether nobody's exclusivity forbids another consumer, and the one of several is not to be the only one."""
        others = self._consumers or ()
        if consumer.is_exclusive:
            return not others and not self.terms.is_single_active
        return not any(other.is_exclusive for other in others)

    def add_consumer(self, consumer: Consumer) -> None:
        """One that it admits."""
        if self._consumers is None:
            self._consumers = {}
            self._waiting = deque()
        self._consumers[consumer] = None
        self._is_ranked = self._is_ranked or consumer.priority != 0
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
            self._is_ranked = False
            self.used(self._turn.now)
        elif self.terms.is_single_active:
            self.offer(next(iter(self._consumers)))

    @property
    def active_consumer(self) -> Consumer | None:
        """The only one served where there may be one only: who came first of those who are there."""
        return next(iter(self._consumers), None) if self._consumers else None

    @property
    def is_abandoned(self) -> bool:
        """Whether an auto-delete queue has lost its last consumer."""
        return self.is_auto_delete and self.had_consumer and not self._consumers

    def offer(self, consumer: Consumer) -> None:
        """This consumer may have room again: let it wait for messages."""
        if self._consumers is None or self._waiting is None or consumer not in self._consumers:
            return
        if self.terms.is_single_active and consumer is not self.active_consumer:
            return
        if not consumer.is_waiting:
            self._waiting.append(consumer)
            consumer.is_waiting = True
        if self.ready_count:
            self._turn.wake(self)

    def deliver(self, now: int) -> bool:
        self._worked_at = now
        upkeep = self._current_upkeep()
        return self._hand_out() if upkeep is None else self._deliver_on_terms(upkeep, now)

    def _current_upkeep(self) -> Upkeep | None:
        """What messages in it need: also those that expire by themselves in a queue without terms."""
        if self._upkeep is None and self.store is not None and self.store.has_expiring:
            self._upkeep = self._make_upkeep()
        return self._upkeep

    def _deliver_on_terms(self, upkeep: Upkeep, now: int) -> bool:
        has_more = False
        if self.store is not None:
            has_more = upkeep.before_delivery(self.store, now)
        has_more = self._hand_out() or has_more
        if self.store is not None:
            has_more = upkeep.after_delivery(self.store, now) or has_more
        self._make_appointment(upkeep)
        return has_more

    def _hand_out(self) -> bool:
        store = self.store
        waiting = self._waiting
        left = DELIVERIES_PER_TURN_MAX
        while waiting and store is not None and store.ready_count and not (self.is_deleted or self.is_paused):
            if left <= 0:
                return True
            consumer = waiting[0] if not self._is_ranked else max(waiting, key=lambda waiter: waiter.priority)
            room = consumer.room()
            taken = consumer.take(min(room, self._share(consumer), left)) if room > 0 else 0
            left -= taken
            with no_way_back:
                waiting.remove(consumer)
                if taken:
                    waiting.append(consumer)
                else:
                    consumer.is_waiting = False
        return False

    def _share(self, consumer: Consumer) -> int:
        """One by one in turn while few are ready, in runs when many are: fair to each, cheap for all."""
        takers = len(self._waiting or ())
        if self._is_ranked:
            takers = sum(waiter.priority == consumer.priority for waiter in self._waiting or ())
        if takers == 1:
            return DELIVERIES_PER_TURN_MAX
        return max(1, min(self.ready_count // takers, DELIVERY_RUN_MAX))

    def pause(self) -> None:
        """Hand nothing out from now on; what is out stays out, and what comes in stays here."""
        self.is_paused = True

    def resume(self) -> None:
        self.is_paused = False
        self._turn.wake(self)

    # its terms --------------------------------------------------------------------------------------------------------

    def _make_upkeep(self) -> Upkeep:
        return Upkeep(self.terms, self._bury_each)

    def used(self, now: int) -> None:
        """Somebody declared it or got something from it: its own expiry begins anew."""
        self._used_at = now
        if self.terms.expires is not None and self._upkeep is not None:
            self._make_appointment(self._upkeep)

    @property
    def quiet_since(self) -> int:
        """When it was last declared or got from, or anything came into it, left it or came back."""
        return max(self._used_at, self._worked_at)

    def drop_front(self, count_max: int) -> int:
        """Drop the next ready messages, as many as one look finds and at most `count_max`; how many it were."""
        store = self.store
        span = store.next_span() if store is not None and count_max > 0 else None
        if store is None or span is None:
            return 0
        positions, end = record.leading(span.buffer, span.start, span.end, span.base, count_max)
        with no_way_back:
            store.advance(len(positions), end)
            self.settle(positions)
        return len(positions)

    @property
    def takes_runs(self) -> bool:
        """Whether any number of messages may be appended without asking about each."""
        return not (self.terms.rejects or self.terms.deduplicates)

    def is_full(self, now: int) -> bool:
        """Whether the next message is to be refused; who waits for messages gets those that stand in its way first."""
        if not self.terms.rejects or not self._is_at_limit():
            return False
        if self._waiting:
            with no_way_back:
                self.deliver(now)
            self._turn.wake(self)  # for the rest, and to have it noted what is gone if nothing comes in
        return self._is_at_limit()

    def _is_at_limit(self) -> bool:
        return self._upkeep is not None and self._upkeep.is_at_limit(self.store)

    def refuse(self, message: record.Record, now: int) -> None:
        """A message there was no room for; it goes to the dead letter exchange where that is asked for."""
        if self.terms.overflow == REJECT_PUBLISH_DLX and self.terms.dead_letter_exchange is not None:
            self._bury(message, MAXLEN, now)

    def change_terms(self, ruling: Ruling, terms: Terms, now: int) -> None:
        """Other policies hold: what is too much or too old by them goes in this turn."""
        self.ruling = ruling
        if terms == self.terms:
            return
        if terms.expires != self.terms.expires:
            self._used_at = now
        concerned = self.consumers() if terms.consumer_timeout != self.terms.consumer_timeout else ()
        self.terms = terms
        self._upkeep = self._make_upkeep() if terms != PLAIN else None
        self._turn.agenda.clear(self)
        self._turn.wake(self)
        for consumer in concerned:
            consumer.terms_changed(now)

    def asked(self, now: int) -> None:
        """Somebody is about to get a message: what has expired by now is none."""
        self.used(now)
        upkeep = self._current_upkeep()
        if self.store is not None and upkeep is not None:
            upkeep.after_delivery(self.store, now)
            self._turn.wake(self)  # which has it noted what is gone

    def look_again(self, now: int) -> None:
        """A message may have expired, or the queue itself."""
        expires = self.terms.expires
        if expires is not None and not self._consumers and self._used_at + expires <= now:
            if self._keeper is not None:
                self._keeper.delete_queue(self)
            return
        self._turn.wake(self)

    def _make_appointment(self, upkeep: Upkeep) -> None:
        if self.is_deleted:
            return  # consumers leave a queue after it has gone, and that is no use of it
        due = upkeep.next_expiry(self.store) if self.store is not None else 0
        if self.terms.expires is not None and not self._consumers:
            own = self._used_at + self.terms.expires
            due = min(due, own) if due else own
        self._turn.agenda.set(self, due)

    def settle(self, positions: "array[int]") -> None:
        """Messages handed out are done with."""
        store = self.store
        if store is None:
            return
        store.settle_many(positions)
        self._turn.wake(self)

    def settle_left(self, positions: "array[int]", *, was_noted: bool) -> None:
        """Messages are done with of which the journal has been told, or is to be."""
        if not was_noted:
            self.settle(positions)
        elif self.store is not None:
            self.store.settle_left(positions)
            self._turn.wake(self)

    def reject(self, positions: "array[int]") -> None:
        """A consumer wants none of these messages."""
        self._discard(positions, REJECTED)

    def _discard(self, positions: "array[int]", reason: str) -> None:
        """Let messages go that were handed out, to the dead letter exchange where there is one."""
        store = self.store
        if store is None or self.terms.dead_letter_exchange is None:
            self.settle(positions)
            return
        fault = self._bury_each(positions, map(partial(_message_at, store), positions), reason, self._turn.now)
        if fault is not None:
            self._turn.cannot_read(self, fault)
        self._turn.wake(self)

    def _bury_each(
        self, positions: "array[int]", messages: Iterator[record.Record], reason: str, now: int
    ) -> OSError | MemoryError | None:
        """Let these go, which nobody holds any more, once their copies are safe; what was in the way of any.

        What cannot be read now, or has no room where it is to go, comes back: otherwise it would be out for ever.
        """
        buried: array[int] = array("Q")
        in_block = []
        fault: OSError | MemoryError | None = None
        for position in positions:
            try:
                is_in_block = self._bury(next(messages), reason, now)
            except (OSError, MemoryError) as in_the_way:
                fault = in_the_way
                if self.store is not None:
                    self.store.requeue(position)
                continue
            buried.append(position)
            in_block.append(is_in_block)
        if buried:
            self._turn.departures.add(self, buried, in_block)
        return fault

    def _bury(self, message: record.Record, reason: str, now: int) -> bool:
        return self._keeper is None or self._keeper.bury(self, message, reason, now)

    def pieces(self) -> Iterable[Piece]:
        """What of its files belongs to it at this moment; nothing if it was deleted."""
        if self.store is not None:
            for level in self.store.levels():
                yield from level.segments.pieces()

    # the store's side -------------------------------------------------------------------------------------------------

    def note(self) -> Journal | None:
        """Tell the journal what has happened; the journal, if there is one and anything has."""
        return self.store.note() if self.store is not None else None

    def note_leaving(self, positions: "array[int]") -> Journal | None:
        """Tell the journal, and not yet the store, that these are settled; the journal, if there is one."""
        journal = self.store.note_leaving(positions) if self.store is not None else None
        if journal is not None:
            journal.cover(self, self._turn.now)
        return journal

    @property
    def is_leaving(self) -> bool:
        """Whether the journal was told of messages that are settled what the store has not heard."""
        return self.store is not None and self.store.is_leaving

    def flush(self, now: int) -> None:
        """Write what is unwritten, or have the journal remember that it is; it has what it was told by now."""
        store = self.store
        if store is None:
            return
        journal = store.journal
        if journal is None:
            if store.dirty:
                store.flush()
            return
        try:
            is_waiting = store.tidy()
        except OSError:
            journal.cover(self, now)
            raise
        if is_waiting:
            journal.cover(self, now)
        else:
            journal.forget(self)

    def write(self) -> None:
        """Write everything to its place. Raises OSError."""
        if self.store is not None:
            self.store.flush()

    def write_back(self, now: int, *, whole: bool) -> bool:
        return self.store is not None and self.store.write_back(now, whole=whole)

    def delete(self) -> None:
        """Messages and files are gone; whoever still holds a delivery may settle it into the void."""
        self.is_deleted = True
        self._turn.agenda.clear(self)
        store, self.store = self.store, None
        if store is not None:
            if store.journal is not None:
                store.journal.forget(self)
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
        return [part for part in (self.store, self.deduplication) if part is not None]


def _message_at(store: QueueStore, position: int) -> record.Record:
    span = store.read(position)
    return record.decode(span.buffer, span.start)
