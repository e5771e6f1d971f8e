"""What an operator does to clients that they did not ask for, and to queues what AMQP has no word for."""

from collections.abc import Iterator

from ipc.messages.inventory import Behalf, CancelConsumer, Discard, Done, Pause, SetPrefetch, Unbind
from shards.inventory.clients import find_connection, find_consumer
from shards.inventory.column import Gone
from shards.inventory.exchanges import find_binding
from shards.model.access import Access
from shards.model.queues.queue import Queue
from shards.model.vhost import VHost
from shards.model.vhosts import VHosts

_DROPPED_PER_STEP = 1024


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


def discard(vhosts: VHosts, request: Discard) -> Iterator[Done | None]:
    """Drop messages, in steps between which there may be a pause. Raises Gone and Refusal."""
    vhost = _entered(vhosts, request.vhost)
    queue = vhost.queue(request.queue)
    _access(vhost, request.behalf).require("read", "queue", queue.name)
    left = request.count
    while left and (dropped := queue.drop_front(min(left, _DROPPED_PER_STEP))):
        left -= dropped
        yield None
    yield Done({"message_count": request.count - left})


def unbind(vhosts: VHosts, request: Unbind) -> None:
    """Raises Gone and Refusal."""
    vhost = _entered(vhosts, request.vhost)
    binding = find_binding(vhost, request.binding)
    source, destination = binding.source, binding.destination
    access = _access(vhost, request.behalf)
    if isinstance(destination, Queue):
        vhost.queue(destination.name)  # it may be somebody's own
        access.require("write", "queue", destination.name)
    else:
        access.require("write", "exchange", destination.name)
    access.require("read", "exchange", source.name)
    if source.type == "topic":
        access.require_topic("read", source.name, binding.routing_key)
    vhost.unbind(source, destination, binding.routing_key, binding.arguments or {})


def pause(vhosts: VHosts, request: Pause) -> None:
    """Raises Gone and Refusal."""
    vhost = _entered(vhosts, request.vhost)
    queue = vhost.queue(request.queue)
    _access(vhost, request.behalf).require("configure", "queue", queue.name)
    vhost.pause_queue(queue, is_paused=request.is_paused)


def _entered(vhosts: VHosts, name: str) -> VHost:
    vhost = vhosts.find(name)
    if vhost is None:
        raise Gone
    return vhost


def _access(vhost: VHost, behalf: Behalf) -> Access:
    return Access(behalf.user, vhost.name, behalf.permissions)
