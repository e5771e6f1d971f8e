"""`exchange.*` and `queue.*`: permissions are checked, names resolved, and the vhost does the rest."""

from typing import TYPE_CHECKING

from pamqp import commands

from ipc.errors import ConnectionRefusal, NotAllowed, NotFound, ReplyCode
from shards.model.exchanges.registry import EXCHANGE_TYPES
from shards.model.queues.queue import GENERATED

if TYPE_CHECKING:
    from ipc.wire.amqp.methods import Method
    from shards.model.queues.queue import Queue
    from shards.protocols.amqp.channel import Channel


def exchange_declare(channel: "Channel", method: commands.Exchange.Declare) -> "Method | None":
    connection = channel.connection
    vhost = connection.vhost
    if method.passive:
        vhost.exchange(method.exchange)
    else:
        if not method.exchange:
            raise NotAllowed("the default exchange cannot be declared")
        connection.access.require("configure", "exchange", method.exchange)
        if method.exchange_type not in EXCHANGE_TYPES:
            raise ConnectionRefusal(ReplyCode.COMMAND_INVALID, f"unknown exchange type '{method.exchange_type}'")
        vhost.declare_exchange(
            method.exchange,
            method.exchange_type,
            is_durable=method.durable,
            is_auto_delete=method.auto_delete,
            is_internal=method.internal,
            arguments=method.arguments or {},
        )
    return None if method.nowait else commands.Exchange.DeclareOk()


def exchange_delete(channel: "Channel", method: commands.Exchange.Delete) -> "Method | None":
    connection = channel.connection
    connection.access.require("configure", "exchange", method.exchange)
    connection.vhost.delete_exchange(method.exchange, if_unused=method.if_unused)
    return None if method.nowait else commands.Exchange.DeleteOk()


def exchange_bind(channel: "Channel", method: commands.Exchange.Bind) -> "Method | None":
    connection = channel.connection
    vhost = connection.vhost
    connection.access.require("write", "exchange", method.destination)
    connection.access.require("read", "exchange", method.source)
    destination = vhost.exchange(method.destination)
    vhost.bind(vhost.exchange(method.source), destination, method.routing_key, method.arguments or {})
    return None if method.nowait else commands.Exchange.BindOk()


def exchange_unbind(channel: "Channel", method: commands.Exchange.Unbind) -> "Method | None":
    connection = channel.connection
    vhost = connection.vhost
    connection.access.require("write", "exchange", method.destination)
    connection.access.require("read", "exchange", method.source)
    source, destination = vhost.find_exchange(method.source), vhost.find_exchange(method.destination)
    if source is not None and destination is not None:
        vhost.unbind(source, destination, method.routing_key, method.arguments or {})
    return None if method.nowait else commands.Exchange.UnbindOk()


def queue_declare(channel: "Channel", method: commands.Queue.Declare) -> "Method | None":
    queue = _passive_queue(channel, method) if method.passive else _declared_queue(channel, method)
    channel.last_queue = queue.name
    if method.nowait:
        return None
    reply = commands.Queue.DeclareOk(message_count=queue.ready_count, consumer_count=queue.consumer_count)
    reply.queue = queue.name  # set afterwards: the constructor knows fewer names than there are
    return reply


def _passive_queue(channel: "Channel", method: commands.Queue.Declare) -> "Queue":
    return channel.connection.queue_named(channel, method.queue)


def _declared_queue(channel: "Channel", method: commands.Queue.Declare) -> "Queue":
    connection = channel.connection
    connection.access.require("configure", "queue", method.queue or GENERATED)
    queue, is_new = connection.vhost.declare_queue(
        method.queue,
        is_durable=method.durable,
        is_auto_delete=method.auto_delete,
        owner=connection,
        is_exclusive=method.exclusive,
        arguments=method.arguments or {},
    )
    if is_new and queue.owner is connection:
        connection.exclusive_queues[queue.name] = None
    return queue


def queue_bind(channel: "Channel", method: commands.Queue.Bind) -> "Method | None":
    connection = channel.connection
    queue = connection.queue_named(channel, method.queue)
    connection.access.require("write", "queue", queue.name)
    connection.access.require("read", "exchange", method.exchange)
    exchange = connection.vhost.exchange(method.exchange)
    connection.vhost.bind(exchange, queue, _binding_key(channel, method), method.arguments or {})
    return None if method.nowait else commands.Queue.BindOk()


def queue_unbind(channel: "Channel", method: commands.Queue.Unbind) -> "Method":
    connection = channel.connection
    name = connection.queue_name(channel, method.queue)
    connection.access.require("write", "queue", name)
    connection.access.require("read", "exchange", method.exchange)
    exchange = connection.vhost.find_exchange(method.exchange)
    try:
        queue = connection.vhost.queue(name, connection)
    except NotFound:
        pass
    else:
        if exchange is not None:
            connection.vhost.unbind(exchange, queue, _binding_key(channel, method), method.arguments or {})
    return commands.Queue.UnbindOk()


def _binding_key(channel: "Channel", method: "commands.Queue.Bind | commands.Queue.Unbind") -> str:
    # Specification, queue.bind: both names empty means the last declared queue's name for both.
    return method.routing_key or (channel.last_queue or "" if not method.queue else "")


def queue_purge(channel: "Channel", method: commands.Queue.Purge) -> "Method | None":
    connection = channel.connection
    queue = connection.queue_named(channel, method.queue)
    connection.access.require("read", "queue", queue.name)
    count = queue.purge()
    return None if method.nowait else commands.Queue.PurgeOk(message_count=count)


def queue_delete(channel: "Channel", method: commands.Queue.Delete) -> "Method | None":
    """Deleting what does not exist is fine (RabbitMQ since 3.2)."""
    connection = channel.connection
    name = connection.queue_name(channel, method.queue)
    connection.access.require("configure", "queue", name)
    count = 0
    try:
        queue = connection.vhost.queue(name, connection)
    except NotFound:
        pass
    else:
        count = connection.vhost.delete_queue(queue, if_unused=method.if_unused, if_empty=method.if_empty)
    return None if method.nowait else commands.Queue.DeleteOk(message_count=count)
