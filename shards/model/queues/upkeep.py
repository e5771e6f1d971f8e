"""What a queue with terms does by itself: lets messages expire and drops what is too much, from its head.

Messages leave in their order only, as in RabbitMQ: one that expires behind another that does not waits for it; in a
priority queue only for those of its own priority. What is too much is dropped where the queue is read next, so the
highest priority goes first (RabbitMQ documents the same). What is dropped goes to the dead letter exchange, if there is
one; it is settled here after its copies were written.
"""

from array import array
from collections.abc import Callable, Iterator
from struct import Struct
from typing import Final

from ipc.limits import DROPPED_PER_TURN_MAX
from ipc.wire.amqp import amending
from shards.model.dead_letters import EXPIRED, MAXLEN
from shards.model.queues.terms import DROP_HEAD, Terms
from shards.store import record
from shards.store.blocks import Buffer
from shards.store.half_done import no_way_back
from shards.store.priority_store import QueueStore
from shards.store.reader import Span

Bury = Callable[["array[int]", Iterator[record.Record], str, int], OSError | MemoryError | None]
"""Publish messages to the dead letter exchange, with the reason, at this time, and settle them when that is safe.

What could not go there has come back, and is answered with what was in the way.
"""

_length: Final = Struct("<I").unpack_from
_lengths: Final = Struct("<IH").unpack_from
_LENGTHS_AT: Final = 4
_FLAGS_AT: Final = 10
_timestamp: Final = Struct("<Q").unpack_from
_TIMESTAMP_AT: Final = 12


class Upkeep:
    """Of one queue; `now` in milliseconds of broker time."""

    __slots__ = ("_bury", "_terms")

    def __init__(self, terms: Terms, bury: Bury) -> None:
        self._terms = terms
        self._bury = bury

    def before_delivery(self, store: QueueStore, now: int) -> bool:
        """Drop what has expired; True when there is more of it. What expires right now may still be delivered."""
        return self._expire(store, now - 1, now)

    def after_delivery(self, store: QueueStore, now: int) -> bool:
        """Drop what nobody took and what is too much; True when there is more of it."""
        return self._expire(store, now, now) or self._trim(store, now)

    def is_at_limit(self, store: QueueStore | None) -> bool:
        """Whether one message more would be too many."""
        terms = self._terms
        count = store.ready_count if store is not None else 0
        if terms.length_max is not None and count >= terms.length_max:
            return True
        size_bytes = store.ready_bytes if store is not None else 0
        return terms.bytes_max is not None and size_bytes >= terms.bytes_max

    def next_expiry(self, store: QueueStore) -> int:
        """When the first message expires of those that nothing stands before; 0: never."""
        if not self._may_expire(store):
            return 0
        heads = [self._expiry(span.buffer, span.start) for level in store.levels() if (span := level.next_span())]
        return min(filter(None, heads), default=0)

    def _expiry(self, buffer: Buffer, at: int) -> int:
        """When the record at this index expires; 0: never."""
        ttl = self._ttl(buffer, at)
        return 0 if ttl is None else int(_timestamp(buffer, at + _TIMESTAMP_AT)[0]) + ttl

    def _ttl(self, buffer: Buffer, at: int) -> int | None:
        ttl = self._terms.message_ttl
        if not buffer[at + _FLAGS_AT] & record.EXPIRES:
            return ttl
        header_bytes, address_bytes = _lengths(buffer, at + _LENGTHS_AT)
        header_at = at + record.RECORD_HEAD_BYTES + address_bytes
        expiration = amending.take_apart(bytes(buffer[header_at : header_at + header_bytes]))[amending.EXPIRATION]
        own = int(expiration[1:])
        return own if ttl is None else min(ttl, own)

    def _may_expire(self, store: QueueStore) -> bool:
        """Whether it is worth a look, which has a segment read that was not read since the start."""
        return self._terms.message_ttl is not None or store.has_expiring

    def _expire(self, store: QueueStore, latest: int, now: int) -> bool:
        if not self._may_expire(store):
            return False
        left = DROPPED_PER_TURN_MAX
        for level in store.levels():
            while left and (span := level.next_span()) is not None:
                positions = self._leading(span, left, lambda buffer, at: 0 < self._expiry(buffer, at) <= latest)
                if not positions:
                    break
                self._drop(level, span, positions, EXPIRED, now)
                left -= len(positions)
        return left == 0

    def _leading(self, span: Span, count_max: int, belongs: Callable[[Buffer, int], bool]) -> "array[int]":
        """Positions of the records at the span's beginning, as long as they belong to what is looked for."""
        positions: array[int] = array("Q")
        at = span.start
        while at < span.end and len(positions) < count_max and belongs(span.buffer, at):
            positions.append(span.base + at)
            at += _length(span.buffer, at)[0]
        return positions

    def _trim(self, store: QueueStore, now: int) -> bool:
        terms = self._terms
        if terms.overflow != DROP_HEAD:
            return False
        left = DROPPED_PER_TURN_MAX
        while left and self._excess(store) and (span := store.next_span()) is not None:
            positions = self._leading(span, min(left, self._excess(store)), lambda _buffer, _at: True)
            self._drop(store, span, positions, MAXLEN, now)
            left -= len(positions)
        return left == 0

    def _excess(self, store: QueueStore) -> int:
        """How many messages are too many, as far as one look can tell."""
        terms = self._terms
        if terms.length_max is not None and store.ready_count > terms.length_max:
            return store.ready_count - terms.length_max
        return int(terms.bytes_max is not None and store.ready_bytes > terms.bytes_max)

    def _drop(self, store: QueueStore, span: Span, positions: "array[int]", reason: str, now: int) -> None:
        last = positions[-1] - span.base
        # Copied out before anything else: a queue may be its own dead letter exchange's destination.
        records = []
        if self._terms.dead_letter_exchange is not None:
            records = [record.decode(span.buffer, position - span.base) for position in positions]
        fault = None
        with no_way_back:
            store.advance(len(positions), last + _length(span.buffer, last)[0])
            if self._terms.dead_letter_exchange is None:
                store.settle_many(positions)
            else:
                fault = self._bury(positions, iter(records), reason, now)
        if fault is not None:
            raise fault
