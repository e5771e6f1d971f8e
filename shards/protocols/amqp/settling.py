"""`basic.ack`, `nack`, `reject` and `recover`: deliveries leave the ledger, for good or back into their queue."""

from array import array
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pamqp import commands

from ipc.errors import PreconditionFailed
from shards.model.statistics import ACK, REJECT
from shards.store.half_done import HalfDone

if TYPE_CHECKING:
    from ipc.wire.amqp.methods import Method
    from shards.protocols.amqp.channel import Channel, Source
    from shards.protocols.amqp.transacting import Settle


def ack(channel: "Channel", method: commands.Basic.Ack) -> None:
    acknowledge(channel, method.delivery_tag, multiple=method.multiple)


def nack(channel: "Channel", method: commands.Basic.Nack) -> None:
    _settle(channel, method.delivery_tag, _return if method.requeue else _reject, multiple=method.multiple)


def reject(channel: "Channel", method: commands.Basic.Reject) -> None:
    _settle(channel, method.delivery_tag or 0, _return if method.requeue else _reject, multiple=False)


def recover(channel: "Channel", method: commands.Basic.Recover) -> "Method":
    recover_async(channel, method)
    return commands.Basic.RecoverOk()


def recover_async(channel: "Channel", method: commands.Basic.Recover | commands.Basic.RecoverAsync) -> None:
    """`requeue` false: to whoever had it, which RabbitMQ refuses (540) and the specification asks for."""
    settle = _requeue if method.requeue else _redeliver
    transaction = channel.transaction
    runs = channel.ledger.take_all() if transaction is None else transaction.take_undecided()
    settle_runs(channel, runs, settle)


def acknowledge(channel: "Channel", tag: int, *, multiple: bool) -> None:
    """Raises PreconditionFailed (406) for a tag that is not outstanding."""
    _settle(channel, tag, _drop, multiple=multiple)


def acknowledge_each(channel: "Channel", tags: "array[int]") -> int:
    """Acknowledge single deliveries in the order the client did; how many, up to the first that is not outstanding."""
    index = 0
    while index < len(tags):
        count, runs = channel.ledger.take_each(tags, index)
        if not count:
            break
        settle_runs(channel, runs, _drop)
        index += count
    return index


def requeue_all(channel: "Channel") -> None:
    """Everything the channel was given goes back, in its old place and marked redelivered."""
    settle_runs(channel, channel.ledger.take_all(), _requeue)


def _settle(channel: "Channel", tag: int, settle: "Settle", *, multiple: bool) -> None:
    """Do it to one delivery or all up to it: now, or when the channel's transaction is committed."""
    if channel.transaction is not None:
        channel.transaction.settle(tag, settle, multiple=multiple)
        return
    taken = channel.ledger.take(tag, multiple=multiple)
    if taken is None:
        raise PreconditionFailed(f"unknown delivery tag {tag}")
    settle_runs(channel, taken, settle)


def settle_runs(channel: "Channel", runs: "Iterable[tuple[int, array[int]]]", settle: "Settle") -> None:
    """Do it to what was taken out of the ledger, and is nowhere until that is done."""
    try:
        for number, positions in runs:
            settle(channel, channel.sources[number], positions)
    except MemoryError as fault:  # what `with no_way_back` is for, which takes memory to begin
        raise HalfDone from fault


def _drop(channel: "Channel", source: "Source", positions: "array[int]") -> None:
    source.queue.settle(positions)
    source.count(ACK, len(positions))
    _settled(channel, source, len(positions))


def _reject(channel: "Channel", source: "Source", positions: "array[int]") -> None:
    source.queue.reject(positions)
    source.count(REJECT, len(positions))
    _settled(channel, source, len(positions))


def _return(channel: "Channel", source: "Source", positions: "array[int]") -> None:
    """The client does not want them; somebody else may."""
    source.count(REJECT, len(positions))
    _requeue(channel, source, positions)


def _redeliver(channel: "Channel", source: "Source", positions: "array[int]") -> None:
    """What its consumer cannot be sent again goes back into the queue: it has gone, does not read, or nobody can."""
    consumer = source.consumer
    done = 0
    try:
        while done < len(positions) and consumer is not None and consumer.redeliver(positions[done]):
            done += 1
    except OSError as fault:
        channel.connection.turn.cannot_read(source.queue, fault)
    if done < len(positions):
        _requeue(channel, source, positions[done:])


def _requeue(channel: "Channel", source: "Source", positions: "array[int]") -> None:
    source.queue.requeue(positions)
    _settled(channel, source, len(positions))


def _settled(channel: "Channel", source: "Source", count: int) -> None:
    source.unacknowledged -= count
    if channel.prefetch:
        channel.offer_consumers()
    elif source.consumer is not None:
        source.queue.offer(source.consumer)
    if source.consumer is None:
        channel.drop_source(source)
