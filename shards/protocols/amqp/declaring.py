"""`exchange.*` and `queue.*`: permissions are checked, names resolved, and the vhost does the rest."""

from typing import TYPE_CHECKING

from pamqp import commands

from ipc.errors import AccessRefused, ConnectionRefusal, NotFound, ReplyCode
from ipc.messages.commands import THE_BROKER
from shards.model.exchanges.arguments import read_alternate
from shards.model.exchanges.registry import EXCHANGE_TYPES
from shards.model.queues.default_type import with_default_type
from shards.model.queues.queue import GENERATED
from shards.protocols.amqp import replying

if TYPE_CHECKING:
    from ipc.wire.amqp.methods import Method
    from shards.model.exchanges.exchange import Exchange
    from shards.model.queues.queue import Queue
    from shards.protocols.amqp.channel import Channel


def exchange_declare(channel: "Channel", method: commands.Exchange.Declare) -> "Method | None":
    connection = channel.connection
    vhost = connection.vhost
    if not method.exchange:
        raise AccessRefused("operation not permitted on the default exchange")
    if method.passive:
        vhost.exchange(method.exchange)
    else:
        connection.access.require("configure", "exchange", method.exchange)
        if method.exchange_type not in EXCHANGE_TYPES:
            raise ConnectionRefusal(ReplyCode.COMMAND_INVALID, f"unknown exchange type '{method.exchange_type}'")
        if vhost.find_exchange(method.exchange) is None:
            _check_alternate(channel, method)
        vhost.declare_exchange(
            method.exchange,
            method.exchange_type,
            is_durable=method.durable,
            is_auto_delete=method.auto_delete,
            is_internal=method.internal,
            arguments=method.arguments or {},
        )
    return None if method.nowait else commands.Exchange.DeclareOk()


def _check_alternate(channel: "Channel", method: commands.Exchange.Declare) -> None:
    """Whoever has messages sent on from one exchange to another must be allowed to do that without its help."""
    connection = channel.connection
    where = f"exchange '{method.exchange}' in vhost '{connection.vhost.name}'"
    alternate = read_alternate(method.arguments or {}, where)
    if alternate is not None:
        connection.access.require("read", "exchange", method.exchange)
        connection.access.require("write", "exchange", alternate)


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
    destination, source = vhost.exchange(method.destination), vhost.exchange(method.source)
    _require_topic(channel, source, method.routing_key)
    vhost.bind(source, destination, method.routing_key, method.arguments or {})
    return None if method.nowait else commands.Exchange.BindOk()


def exchange_unbind(channel: "Channel", method: commands.Exchange.Unbind) -> "Method | None":
    connection = channel.connection
    vhost = connection.vhost
    connection.access.require("write", "exchange", method.destination)
    connection.access.require("read", "exchange", method.source)
    source, destination = vhost.find_exchange(method.source), vhost.find_exchange(method.destination)
    if source is not None and destination is not None:
        _require_topic(channel, source, method.routing_key)
        vhost.unbind(source, destination, method.routing_key, method.arguments or {})
    return None if method.nowait else commands.Exchange.UnbindOk()


def queue_declare(channel: "Channel", method: commands.Queue.Declare) -> "Method | None":
    if replying.is_reserved(method.queue):
        return replying.declare(channel, method)
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
    if isinstance(dead_letter_exchange := (method.arguments or {}).get("x-dead-letter-exchange"), str):
        connection.access.require("read", "queue", method.queue or GENERATED)
        connection.access.require("write", "exchange", dead_letter_exchange)
    arguments = method.arguments or {}
    if not connection.client.is_literal:
        arguments = with_default_type(
            arguments,
            connection.vhost.rulebook.rules,
            connection.vhost.find_queue(method.queue),
            is_durable=method.durable,
            is_auto_delete=method.auto_delete,
            is_exclusive=method.exclusive,
        )
    queue, is_new = connection.vhost.declare_queue(
        method.queue,
        is_durable=method.durable,
        is_auto_delete=method.auto_delete,
        owner=connection,
        is_exclusive=method.exclusive,
        arguments=arguments,
        may_be_reserved=connection.client.user == THE_BROKER,
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
    _require_topic(channel, exchange, _binding_key(channel, method))
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
            _require_topic(channel, exchange, _binding_key(channel, method))
            connection.vhost.unbind(exchange, queue, _binding_key(channel, method), method.arguments or {})
    return commands.Queue.UnbindOk()


def _require_topic(channel: "Channel", source: "Exchange", routing_key: str) -> None:
    """Whoever binds to a topic exchange reads what comes with such keys."""
    if source.type == "topic":
        channel.connection.access.require_topic("read", source.name, routing_key)


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
