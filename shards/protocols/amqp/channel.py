"""A channel: its own queue of unacknowledged deliveries, consumers, confirms and content under way."""

import sys
from array import array
from collections.abc import Iterable, Mapping
from enum import Enum, auto
from typing import TYPE_CHECKING, ClassVar, Final

from ipc.errors import PreconditionFailed
from shards.compaction.compactable import Compactable
from shards.model.queues.queue import Queue
from shards.model.statistics import Tally, count_up, counts_of, tally_bytes
from shards.protocols.amqp.confirming import Confirms
from shards.protocols.amqp.ledger import Ledger

if TYPE_CHECKING:
    from shards.protocols.amqp.connection import Connection
    from shards.protocols.amqp.consuming import ChannelConsumer
    from shards.protocols.amqp.publishing import Content
    from shards.protocols.amqp.transacting import Transaction

_CONSUMER_BYTES: Final = 500  # of a consumer, its framing and its source (measured)
_SOURCE_MAX: Final = 2**32 - 1  # what the ledger has room for; a client that polls gets there


class ChannelState(Enum):
    OPEN = auto()
    CLOSING = auto()  # we sent channel.close and ignore everything until close-ok


class Source:
    """Where a delivery came from and who counts it: a consumer, or `basic.get` on one queue."""

    __slots__ = ("_counts", "consumer", "number", "queue", "unacknowledged")

    def __init__(
        self, number: int, channel: "Channel", queue: Queue, consumer: "ChannelConsumer | None" = None
    ) -> None:
        self._counts = counts_of(channel, channel.connection.vhost, queue)
        self.number = number
        self.queue = queue
        self.consumer = consumer
        self.unacknowledged = 0

    def count(self, counter: int, number: int) -> None:
        """`number` more of one kind, of its queue, in the channel and in the vhost."""
        for counts in self._counts:
            counts[counter] += number


class Channel(Compactable):
    """State of one open channel; what methods do to it stands in the modules named after the verbs."""

    __slots__ = (
        "_due",
        "_source_next",
        "appointment",
        "confirms",
        "connection",
        "consumers",
        "content",
        "is_flowing",
        "last_queue",
        "ledger",
        "number",
        "prefetch",
        "prefetch_of_new_consumers",
        "reply_consumer",
        "sources",
        "state",
        "tally",
        "transaction",
    )
    COLLECTIONS = ("consumers", "sources")
    KIND = "channels"
    KINDS: ClassVar[Mapping[str, str]] = {"consumers": "consumers", "sources": "consumers"}

    def __init__(self, number: int, connection: "Connection") -> None:
        self.number = number
        self.connection = connection
        self.state = ChannelState.OPEN
        self.is_flowing = True  # channel.flow(active=false) stops deliveries
        self.prefetch = 0  # of the whole channel; 0: no limit
        self.prefetch_of_new_consumers = connection.settings.consumer_prefetch_default
        self.last_queue: str | None = None  # what an empty queue name means (specification: queue.declare)
        self.consumers: dict[str, ChannelConsumer] = {}
        self.sources: dict[int, Source] = {}
        self.ledger = Ledger()
        self.confirms: Confirms | None = None
        self.transaction: Transaction | None = None
        self.reply_consumer: ChannelConsumer | None = None  # gets answers to what names a pseudo-queue in `reply_to`
        self.content: Content | None = None
        self.appointment = 0
        self.tally: Tally | None = None
        self._due = 0  # when somebody may have kept a delivery for too long; 0: nobody can
        self._source_next = 1

    def children(self) -> Iterable[Compactable]:
        return (self.ledger,) if self.transaction is None else (self.ledger, self.transaction)

    def holdings(self) -> Iterable[tuple[str, int]]:
        incoming = sys.getsizeof(self.content.body) if self.content is not None else 0
        confirms = self.confirms.size_bytes if self.confirms is not None else 0
        return (
            ("incoming messages", incoming),
            ("consumers", _CONSUMER_BYTES * len(self.consumers)),
            ("confirms", confirms),
            tally_bytes(self),
        )

    def add_source(self, queue: Queue, consumer: "ChannelConsumer | None" = None) -> Source:
        number = self._source_next
        while number in self.sources:
            number = number % _SOURCE_MAX + 1
        self._source_next = number % _SOURCE_MAX + 1
        source = self.sources[number] = Source(number, self, queue, consumer)
        return source

    def drop_source(self, source: Source) -> None:
        """Forget a source once nothing of it is outstanding and nobody will take from it again."""
        if not source.unacknowledged and source.consumer is None:
            self.sources.pop(source.number, None)

    def count(self, counter: int, number: int, queue: Queue | None = None) -> None:
        """`number` more of one kind, here and in the vhost; and in `queue`."""
        count_up(self, counter, number)
        count_up(self.connection.vhost, counter, number)
        if queue is not None:
            count_up(queue, counter, number)

    # deliveries that wait ---------------------------------------------------------------------------------------------

    def handed_out(self, source: Source, positions: "array[int]") -> None:
        """Deliveries were made that are to be acknowledged, in time where the queue says so."""
        now = self.connection.turn.now
        self.ledger.extend(source.number, positions, now)
        patience = self._patience(source)
        if patience and (not self._due or now + patience < self._due):
            self._look_at(now + patience)

    def _patience(self, source: Source) -> int:
        """Milliseconds within which what came from this source has to be acknowledged; 0: any time will do."""
        asked = source.queue.terms.consumer_timeout
        return round(self.connection.settings.consumer_timeout_seconds * 1000) if asked is None else asked

    def look_again(self, now: int) -> None:
        """Somebody may have kept a delivery for too long: then the channel is closed, and its deliveries go back."""
        self._due = 0
        dues = []
        for source in self.sources.values():
            patience = self._patience(source)
            since = self.ledger.waiting_since(source.number) if patience and source.unacknowledged else 0
            if since and since + patience <= now:
                self.connection.refuse_channel(self, _timed_out(self.number, patience), now)
                return
            if since:
                dues.append(since + patience)
        if dues:
            self._look_at(min(dues))

    def _look_at(self, due: int) -> None:
        self._due = due
        self.connection.turn.agenda.set(self, due)

    def room(self) -> int:
        """How many more deliveries the channel-wide prefetch allows; a large number when there is no limit."""
        if not self.is_flowing or self.state is not ChannelState.OPEN:
            return 0
        return self.prefetch - len(self.ledger) if self.prefetch else 1 << 31

    def offer_consumers(self) -> None:
        """Room may have come back: let all consumers wait for messages again."""
        for consumer in tuple(self.consumers.values()):
            consumer.queue.offer(consumer)


def _timed_out(channel: int, patience_ms: int) -> PreconditionFailed:
    """RabbitMQ's words."""
    return PreconditionFailed(
        f"delivery acknowledgement on channel {channel} timed out. Timeout value used: {patience_ms} ms. "
        "This timeout value can be configured, see consumers doc guide to learn more"
    )
