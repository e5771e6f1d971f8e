"""`basic.ack`, `nack`, `reject` and `recover`: deliveries leave the ledger, for good or back into their queue."""

from array import array
from typing import TYPE_CHECKING

from pamqp import commands

from ipc.errors import PreconditionFailed

if TYPE_CHECKING:
    from ipc.wire.amqp.methods import Method
    from shards.protocols.amqp.channel import Channel, Source


def ack(channel: "Channel", method: commands.Basic.Ack) -> None:
    acknowledge(channel, method.delivery_tag, multiple=method.multiple)


def nack(channel: "Channel", method: commands.Basic.Nack) -> None:
    settle = _requeue if method.requeue else _drop
    for number, positions in _take(channel, method.delivery_tag, multiple=method.multiple):
        settle(channel, channel.sources[number], positions)


def reject(channel: "Channel", method: commands.Basic.Reject) -> None:
    settle = _requeue if method.requeue else _drop
    for number, positions in _take(channel, method.delivery_tag or 0, multiple=False):
        settle(channel, channel.sources[number], positions)


def recover(channel: "Channel", method: commands.Basic.Recover) -> "Method":
    requeue_all(channel)
    return commands.Basic.RecoverOk()


def recover_async(channel: "Channel", method: commands.Basic.RecoverAsync) -> None:
    requeue_all(channel)


def acknowledge(channel: "Channel", tag: int, *, multiple: bool) -> None:
    """Raises PreconditionFailed (406) for a tag that is not outstanding."""
    for number, positions in _take(channel, tag, multiple=multiple):
        _drop(channel, channel.sources[number], positions)


def acknowledge_each(channel: "Channel", tags: "array[int]") -> int:
    """Acknowledge single deliveries in the order the client did; how many, up to the first that is not outstanding."""
    index = 0
    while index < len(tags):
        count, runs = channel.ledger.take_each(tags, index)
        if not count:
            break
        for number, positions in runs:
            _drop(channel, channel.sources[number], positions)
        index += count
    return index


def requeue_all(channel: "Channel") -> None:
    """Everything the channel was given goes back, in its old place and marked redelivered."""
    for number, positions in channel.ledger.take_all():
        _requeue(channel, channel.sources[number], positions)


def _take(channel: "Channel", tag: int, *, multiple: bool) -> "list[tuple[int, array[int]]]":
    taken = channel.ledger.take(tag, multiple=multiple)
    if taken is None:
        raise PreconditionFailed(f"unknown delivery tag {tag}")
    return taken


def _drop(channel: "Channel", source: "Source", positions: "array[int]") -> None:
    store = source.queue.store
    if store is not None:
        store.settle_many(positions)
        channel.connection.turn.wake(source.queue)
    _settled(channel, source, len(positions))


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
