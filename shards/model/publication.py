"""A message on its way from an exchange into queues: what routing asks of it, and the one record all of them get."""

from collections.abc import Iterable, Mapping
from typing import Any

from ipc.limits import LARGE_BODY_BYTES
from ipc.wire.amqp import properties
from ipc.wire.amqp.amending import raw_headers
from ipc.wire.amqp.properties import Facts
from shards.model.delay import delay_of
from shards.model.exchanges.exchange import Exchange
from shards.model.queues.queue import Queue
from shards.store import record
from shards.store.message_store import MessageStore


class Publication:
    """Whoever publishes: a client, a queue to its dead letter exchange, an exchange that kept a message back."""

    __slots__ = ("_fields", "address", "body", "facts", "header", "held_at", "is_atomic", "whole_header")

    def __init__(self, address: bytes, header: bytes, facts: Facts, body: bytes | bytearray) -> None:
        """`address` and `header` as they stand in a record; `facts` are the header's."""
        self.address = address
        self.header = header
        self.facts = facts
        self.body = body
        self.whole_header = header  # with what consumers are not to see, which a message that waits still needs
        self.held_at: tuple[Exchange, ...] = ()  # where it is to wait, and goes nowhere before
        self.is_atomic = False  # part of what happens as a whole or not at all, and so of its turn's block in a journal
        self._fields: dict[str, bytes] | None = None

    def headers(self) -> dict[str, Any]:
        """The decoded header table."""
        return properties.headers(self.header, self.facts)

    def identities(self) -> dict[str, Any]:
        """The properties that tell it from others."""
        return properties.identities(self.header)

    @property
    def fields(self) -> Mapping[str, bytes]:
        """Kind and value of the header table's fields."""
        if self._fields is None:
            self._fields = raw_headers(self.header, self.facts.headers_at)
        return self._fields

    @property
    def is_written_at_once(self) -> bool:
        """Whether queues do so, and not with what a journal gets of the turn."""
        return len(self.body) >= LARGE_BODY_BYTES and not self.is_atomic

    @property
    def delay(self) -> int:
        """Milliseconds it is to wait at exchanges that delay; 0: it does not."""
        return delay_of(self.fields)

    def is_held(self, exchange: Exchange) -> bool:
        """Whether it is to wait at this exchange, which delays; then that is noted."""
        if not self.delay:
            return False
        self.held_at = (*self.held_at, exchange)
        return True

    def wait_in(self, store: MessageStore, due: int) -> None:
        """Into the store of an exchange it waits at; the record's timestamp is when it is due."""
        head = self._head(due, self.whole_header)
        if len(self.body) >= LARGE_BODY_BYTES:
            store.append_large([head, self.body], len(head) + len(self.body))
        else:
            store.append(head + self.body)

    # into queues ------------------------------------------------------------------------------------------------------

    def offer(self, queues: Iterable[Queue], now: int) -> bool:
        """To queues that refuse it when they are full; whether none did. Those that take it do so whatever others say.

        One that remembers it does not get it again, and has not refused it.
        """
        wanting = self._wanted_by(queues, now)
        full = [queue for queue in wanting if queue.is_full(now)]
        self._append([queue for queue in wanting if queue not in full] if full else wanting, now)
        if full:
            refused = record.Record(now, self._flags, self.facts.priority, self.address, self.header, bytes(self.body))
            for queue in full:
                queue.refuse(refused, now)
        return not full

    def enter(self, queues: Iterable[Queue], now: int) -> None:
        """Into queues however full they are, but for those that remember it."""
        self._append(self._wanted_by(queues, now), now)

    def _wanted_by(self, queues: Iterable[Queue], now: int) -> list[Queue]:
        return [
            queue
            for queue in queues
            if queue.deduplication is None or not queue.deduplication.is_duplicate(self.fields, now)
        ]

    def _append(self, queues: list[Queue], now: int) -> None:
        facts = self.facts
        if self.is_written_at_once:
            head = self._head(now, self.header)
            for queue in queues:
                queue.append_large([head, self.body], len(head) + len(self.body), expires=facts.expires)
        elif queues:
            whole = record.encode(now, self._flags, facts.priority, self.address, self.header, self.body)
            for queue in queues:
                append = queue.append_part if self.is_atomic else queue.append
                append(whole, expires=facts.expires)
        for queue in queues:
            if queue.deduplication is not None:
                queue.deduplication.remember(self.fields, now)

    def _head(self, timestamp: int, header: bytes) -> bytes:
        return record.encode_head(timestamp, self._flags, self.facts.priority, self.address, header, len(self.body))

    @property
    def _flags(self) -> int:
        return record.flags(is_persistent=self.facts.is_persistent, expires=self.facts.expires)
