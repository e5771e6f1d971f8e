"""What of a queue was handed out and not settled: whose it is, since when, and how large it is together."""

from collections.abc import Generator, Iterator

from msgspec import Struct

from ipc.limits import LISTED_MAX
from ipc.messages.inventory import Described, Item, ListUnacknowledged
from shards.inventory.clients import channel_name, connections
from shards.inventory.column import Gone
from shards.model.queues.queue import Queue
from shards.model.vhost import VHost
from shards.model.vhosts import VHosts
from shards.protocols.amqp.channel import Channel
from shards.store.columns import body_bytes

_LOOK = 128  # entries of a ledger looked at between two pauses


class Handed(Struct, frozen=True):
    """One delivery."""

    channel: Channel
    tag: int
    position: int
    consumer: str
    since: int


def list_unacknowledged(vhosts: VHosts, request: ListUnacknowledged) -> Iterator[Item | None]:
    """The first of each channel first. Raises Gone."""
    vhost = vhosts.find(request.vhost)
    queue = vhost.find_queue(request.queue) if vhost is not None else None
    if vhost is None or queue is None:
        raise Gone
    count = 0
    for handed in handed_out(vhost, queue):
        if count == LISTED_MAX:
            return
        if handed is None:
            yield None
            continue
        count += 1
        name = channel_name(handed.channel)
        yield Described(
            vhost.name,
            (name, str(handed.tag)),
            {
                "delivery_tag": handed.tag,
                "consumer_tag": handed.consumer,
                "unacked_for_seconds": max(0, vhost.now - handed.since) // 1000,
                "channel_name": name,
            },
        )


def measure(vhost: VHost, queue: Queue) -> Generator[None, None, int]:
    """The bytes of all their bodies together; yields where there may be a pause."""
    total = 0
    for handed in handed_out(vhost, queue):
        if handed is None:
            yield
        elif queue.store is not None:
            span = queue.store.read(handed.position)
            total += body_bytes(span.buffer, span.start, span.end)
    return total


def handed_out(vhost: VHost, queue: Queue) -> Iterator[Handed | None]:
    """None where there may be a pause; what was given since the last is still so."""
    for connection in connections(vhost):
        for channel in tuple(connection.channels.values()):
            yield from _of_channel(channel, queue)
        yield None


def _of_channel(channel: Channel, queue: Queue) -> Iterator[Handed | None]:
    if not any(source.queue is queue and source.unacknowledged for source in channel.sources.values()):
        return
    after = 0
    while entries := channel.ledger.outstanding(after, _LOOK):
        for entry in entries:
            source = channel.sources.get(entry.source)
            if source is not None and source.queue is queue:
                consumer = "" if source.consumer is None else source.consumer.tag
                yield Handed(channel, entry.tag, entry.position, consumer, entry.since)
        after = entries[-1].tag
        yield None
