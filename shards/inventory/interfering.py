"""What an operator does to a client that the client did not ask for."""

from ipc.messages.inventory import CancelConsumer, SetPrefetch
from shards.inventory.clients import find_connection, find_consumer
from shards.inventory.column import Gone
from shards.model.vhosts import VHosts


def cancel_consumer(vhosts: VHosts, request: CancelConsumer) -> None:
    """As if its queue had gone. Raises Gone."""
    vhost = vhosts.find(request.vhost)
    if vhost is None:
        raise Gone
    consumer = find_consumer(vhost, (request.connection, str(request.channel), request.tag))
    consumer.queue_deleted()
    vhost.remove_consumer(consumer)


def set_prefetch(vhosts: VHosts, request: SetPrefetch) -> None:
    """Of consumers that come later on this channel. Raises Gone."""
    vhost = vhosts.find(request.vhost)
    channel = find_connection(vhost, (request.connection,)).channels.get(request.channel) if vhost is not None else None
    if channel is None:
        raise Gone
    channel.prefetch_of_new_consumers = request.prefetch
