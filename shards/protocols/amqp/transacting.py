"""`tx`: what a channel publishes and settles waits for `tx.commit`, which does all of it within one turn, or nothing.

Messages are kept as they came and routed when they are committed. Deliveries stay in the channel's ledger meanwhile, so
they count for prefetch and go back with a channel that ends; only what is to become of each is noted here.
"""

from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from pamqp import commands

from ipc.errors import PreconditionFailed
from ipc.limits import UNCOMMITTED_BYTES_MAX, UNCOMMITTED_MESSAGE_BYTES
from ipc.wire.amqp import methods
from shards.compaction.compactable import Compactable
from shards.protocols.amqp.channel import Channel, Source
from shards.protocols.amqp.publishing import Content, Route, find_route, store
from shards.protocols.amqp.settling import settle_runs
from shards.store.half_done import no_way_back

if TYPE_CHECKING:
    from ipc.wire.amqp.methods import Method

Settle: TypeAlias = Callable[[Channel, Source, "array[int]"], None]
"""Does to deliveries of one source, already taken out of the ledger, what the client wants done to them."""


class Transaction(Compactable):
    """A channel's, from `tx.select` on: after each commit or rollback the next one begins."""

    __slots__ = ("_channel", "_messages", "_settlements")
    COLLECTIONS = ("_settlements",)
    KIND = "transactions"

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._messages: list[Content] = []
        self._settlements: dict[int, Settle] = {}  # by delivery tag, each outstanding in the ledger

    @property
    def publishes(self) -> bool:
        """Whether a commit would bring messages in."""
        return bool(self._messages)

    @property
    def message_count(self) -> int:
        return len(self._messages)

    @property
    def settlement_count(self) -> int:
        return len(self._settlements)

    def publish(self, message: Content) -> None:
        """Raises PreconditionFailed (406) when the connection's transactions have become too large."""
        connection = self._channel.connection
        connection.uncommitted_bytes += _size_bytes(message)
        self._messages.append(message)
        limit = max(UNCOMMITTED_BYTES_MAX, connection.message_bytes_max)
        if connection.uncommitted_bytes > limit:
            raise PreconditionFailed(f"uncommitted messages of more than {limit} bytes on this connection")

    def settle(self, tag: int, settle: Settle, *, multiple: bool) -> None:
        """Raises PreconditionFailed (406) for a tag that is not outstanding, or settled in this transaction already."""
        tags = self._channel.ledger.tags(tag, multiple=multiple)
        if tags is None or tag in self._settlements:
            raise PreconditionFailed(f"unknown delivery tag {tag}")
        for each in tags:
            self._settlements.setdefault(each, settle)

    def take_undecided(self) -> "list[tuple[int, array[int]]]":
        """Out of the ledger, everything that is not settled in this transaction, as (source, positions) runs."""
        ledger = self._channel.ledger
        if not self._settlements:
            return ledger.take_all()
        tags = ledger.tags(0, multiple=True) or ()
        undecided = [tag for tag in tags if tag not in self._settlements]
        with no_way_back:
            return [run for tag in undecided for run in ledger.take(tag, multiple=False) or ()]

    def commit(self, now: int) -> bool:
        """Do all of it; whether something has to reach the disk.

        Raises NotFound (404) when an exchange has gone meanwhile, and then nothing was done; and PreconditionFailed
        (406) when a full queue refused a message, after everything else was done, as RabbitMQ does.
        """
        routes = self._routes()
        messages, settlements = self._messages, self._settlements
        self.rollback()
        is_lasting, is_partial = False, False
        with no_way_back:  # an end of the shard leaves nothing of the turn
            for message, route in zip(messages, routes, strict=True):
                message.is_atomic = True
                is_partial = not store(route, message, now) or is_partial
                is_lasting = is_lasting or (message.facts.is_persistent and route.has_durable)
            for tag, settle in settlements.items():
                is_lasting = self._settle_one(tag, settle) or is_lasting
        if is_partial:
            raise PreconditionFailed("partial tx completion")
        return is_lasting

    def rollback(self) -> None:
        """Forget all of it; deliveries are outstanding as before."""
        self._channel.connection.uncommitted_bytes -= sum(map(_size_bytes, self._messages))
        self._messages = []
        self._settlements = {}

    def _routes(self) -> list[Route]:
        known: dict[bytes, Route] = {}
        routes = []
        for message in self._messages:
            route = None if message.copies else known.get(message.method)
            if route is None:
                route, is_lasting = find_route(self._channel, message)
                if is_lasting:
                    known[message.method] = route
            routes.append(route)
        return routes

    def _settle_one(self, tag: int, settle: Settle) -> bool:
        """Whether the delivery came from a durable queue."""
        runs = self._channel.ledger.take(tag, multiple=False) or ()
        is_lasting = any(self._channel.sources[number].queue.is_durable for number, _ in runs)
        settle_runs(self._channel, runs, settle)
        return is_lasting


def _size_bytes(message: Content) -> int:
    return len(message.whole_header) + len(message.body) + len(message.method) + UNCOMMITTED_MESSAGE_BYTES


def select(channel: Channel, method: commands.Tx.Select) -> "Method":
    """Raises PreconditionFailed (406) on a channel with confirms; once more is fine."""
    if channel.confirms is not None:
        raise PreconditionFailed("cannot switch from confirm to tx mode")
    if channel.transaction is None:
        channel.transaction = Transaction(channel)
        channel.connection.routes = {}  # the fast way in leads past transactions
    return commands.Tx.SelectOk()


def commit(channel: Channel, method: commands.Tx.Commit) -> "Method | None":
    """Answered once everything is as safe as a confirm would promise."""
    connection = channel.connection
    if not _transaction(channel).commit(connection.turn.now):
        return commands.Tx.CommitOk()
    connection.write_when_durable(methods.frame(channel.number, commands.Tx.CommitOk()))
    return None


def rollback(channel: Channel, method: commands.Tx.Rollback) -> "Method":
    _transaction(channel).rollback()
    return commands.Tx.RollbackOk()


def _transaction(channel: Channel) -> Transaction:
    if channel.transaction is None:
        raise PreconditionFailed("channel is not transactional")
    return channel.transaction
