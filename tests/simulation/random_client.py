"""One client of the simulation: what it says is chosen elsewhere, what it hears is checked against what is expected."""

from enum import Enum, auto
from typing import Any, NamedTuple

from pamqp import commands

from shards.model.vhost import VHost
from tests.protocols.conversation import Content
from tests.simulation.exercised import Exercised
from tests.simulation.expectations import Commit, Copy, Expected, Violation
from tests.simulation.simulated_shard import SimulatedShard, number_of


class Mode(Enum):
    PLAIN = auto()
    CONFIRMS = auto()
    TRANSACTIONS = auto()


class Published(NamedTuple):
    """One message of a transaction that is not committed yet."""

    queue: str  # "": whatever is bound to the fanout exchange
    number: int
    is_persistent: bool
    priority: int
    expiration: int | None
    is_large: bool


class RandomClient:
    """With one channel."""

    def __init__(self, shard: SimulatedShard, vhost: VHost, mode: Mode) -> None:
        self.vhost = vhost
        self.mode = mode
        self.wire = shard.client(vhost=vhost)
        self.wire.open()
        self.is_closed = False
        self.outstanding: dict[int, tuple[Expected, int]] = {}
        self.consumes: dict[str, tuple[Expected, bool]] = {}  # by tag: from where, and whether it acknowledges
        self.prefetch = 0  # of consumers that begin now
        self._prefetch: dict[str, int] = {}  # of each there was
        self._holder: dict[int, str] = {}  # of each outstanding delivery: the consumer's tag
        self.commit: Commit | None = None  # asked for
        self.pending: list[Published] = []  # published in the transaction
        self.pending_settlements: dict[int, bool] = {}  # tags, and whether they go
        self._awaited: Expected | None = None  # by basic.get
        self._getting_acks = False
        self._unconfirmed: dict[int, list[Copy]] = {}  # by number of the publish
        self._published = 0
        self._declaring: Expected | None = None
        self._deleting: Expected | None = None
        self._last: dict[tuple[str, int], int] = {}
        self._tally = shard.simulated.tally
        if mode is Mode.CONFIRMS:
            self.wire.say(commands.Confirm.Select())
        elif mode is Mode.TRANSACTIONS:
            self.wire.say(commands.Tx.Select())
        self.hear()

    @property
    def may_speak(self) -> bool:
        return self.wire.connection.wants_input and not self.is_closed

    @property
    def is_dropped(self) -> bool:
        """Whether the broker has closed it for want of memory."""
        return self.wire not in self.wire.world.clients

    def undecided(self) -> list[int]:
        """The tags of all deliveries of which nothing was said."""
        return sorted(self.outstanding.keys() - self.pending_settlements.keys())

    # saying -----------------------------------------------------------------------------------------------------------

    def expect_confirm(self, copies: list[Copy]) -> None:
        self._published += 1
        if self.mode is Mode.CONFIRMS:
            self._unconfirmed[self._published] = copies

    def consume(self, queue: Expected, tag: str, *, acks: bool) -> None:
        self.consumes[tag] = (queue, acks)
        self._prefetch[tag] = self.prefetch if acks else 0
        self.wire.say(commands.Basic.Consume(queue=queue.name, consumer_tag=tag, no_ack=not acks))

    def get(self, queue: Expected, *, acks: bool) -> None:
        self._awaited, self._getting_acks = queue, acks
        method = commands.Basic.Get(no_ack=not acks)
        method.queue = queue.name
        self.wire.say(method)

    def declare(self, queue: Expected) -> None:
        self._declaring = queue
        method = commands.Queue.Declare(durable=queue.terms.is_durable, arguments=dict(queue.terms.arguments))
        method.queue = queue.name
        self.wire.say(method)

    def delete(self, queue: Expected) -> None:
        queue.is_deleted = True
        self._deleting = queue
        self.wire.say(commands.Queue.Delete(queue=queue.name))

    def settle(self, tag: int, *, goes: bool) -> None:
        """What was said about a delivery is done now."""
        queue, number = self.outstanding.pop(tag)
        self._holder.pop(tag, None)
        self._tally[Exercised.SETTLEMENT] += goes
        if queue.is_deleted:
            return
        if goes:
            gone = queue.leave(number)
            if self.commit is not None:
                self.commit.gone.append(gone)
                self.commit.settled.append((queue, number))
        else:
            copy = queue.present[number]
            copy.is_held = False
            copy.has_come_back = True
            copy.returns += 1

    def ended(self) -> None:
        """The broker has, in the middle of something."""
        for queue, acks in self.consumes.values():
            queue.may_be_taken = queue.may_be_taken or not acks
        if self._awaited is not None and not self._getting_acks:
            self._awaited.may_be_taken = True

    def hang_up(self) -> None:
        """Everything it holds goes back."""
        self.hear()
        if self.is_closed:
            return
        self._leave()
        self.wire.world.clients.remove(self.wire)
        self.wire.disconnect()

    def _leave(self) -> None:
        for tag in list(self.outstanding):
            self.settle(tag, goes=False)
        self.is_closed = True

    # hearing ----------------------------------------------------------------------------------------------------------

    def hear(self) -> None:
        for _, thing in self.wire.heard():
            if isinstance(thing, Content):
                self._take(thing)
            else:
                _HEARD.get(type(thing), RandomClient._ignore)(self, thing)
        if self.is_dropped and not self.is_closed:
            self._leave()

    def _take(self, message: Content) -> None:
        method = message.method
        if isinstance(method, commands.Basic.Deliver):
            tag = method.consumer_tag or ""
            queue, acks = self.consumes[tag]
        elif isinstance(method, commands.Basic.GetOk):
            assert self._awaited is not None
            tag = ""
            queue, acks = self._awaited, self._getting_acks
            self._awaited = None
        else:
            return
        self._tally[Exercised.DELIVERY] += 1
        number = number_of(message.body)
        copy = queue.expect_delivery(number, redelivered=bool(method.redelivered))
        if isinstance(method, commands.Basic.Deliver) and not method.redelivered:
            rank = queue.rank(number)
            if queue.buries is None and rank < self._last.get((tag, copy.level), 0):
                raise Violation(f"{queue.name}: {number} delivered after one that came later")
            self._last[tag, copy.level] = rank
        if acks:
            copy.is_held = True
            self.outstanding[method.delivery_tag] = (queue, number)
            self._hold(method.delivery_tag, tag)
        else:
            queue.leave(number)

    def _hold(self, delivery: int, consumer: str) -> None:
        if not consumer:
            return
        self._holder[delivery] = consumer
        held = sum(holder == consumer for holder in self._holder.values())
        if 0 < self._prefetch[consumer] < held:
            raise Violation(f"{held} held by a consumer that asked for {self._prefetch[consumer]} at most")

    def _confirmed(self, method: commands.Basic.Ack) -> None:
        tag = method.delivery_tag or 0
        for number in [number for number in self._unconfirmed if number == tag or (method.multiple and number < tag)]:
            for copy in self._unconfirmed.pop(number):
                copy.is_confirmed = True
                self._tally[Exercised.CONFIRM] += 1

    def _refused(self, method: commands.Basic.Nack) -> None:
        raise Violation("a publish was refused, although no queue refuses any")

    def _committed(self, method: commands.Tx.CommitOk) -> None:
        assert self.commit is not None
        self.commit.is_answered()
        self._tally[Exercised.CONFIRM] += len(self.commit.published)
        self.commit = None

    def _declared(self, method: commands.Queue.DeclareOk) -> None:
        assert self._declaring is not None
        self._declaring.is_declared = True

    def _deleted(self, method: commands.Queue.DeleteOk) -> None:
        assert self._deleting is not None
        self._deleting.is_gone = True

    def _found_nothing(self, method: commands.Basic.GetEmpty) -> None:
        self._awaited = None

    def _cancelled(self, method: commands.Basic.Cancel) -> None:
        self.consumes.pop(method.consumer_tag or "", None)

    def _closed(self, method: Any) -> None:
        raise Violation(f"closed: {method.reply_text}")

    def _ignore(self, thing: Any) -> None:
        """An answer that says nothing but yes."""


_HEARD: dict[type, Any] = {
    commands.Basic.Ack: RandomClient._confirmed,
    commands.Basic.Nack: RandomClient._refused,
    commands.Tx.CommitOk: RandomClient._committed,
    commands.Queue.DeclareOk: RandomClient._declared,
    commands.Queue.DeleteOk: RandomClient._deleted,
    commands.Basic.GetEmpty: RandomClient._found_nothing,
    commands.Basic.Cancel: RandomClient._cancelled,
    commands.Channel.Close: RandomClient._closed,
    commands.Connection.Close: RandomClient._closed,
}
