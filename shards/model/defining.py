"""How exchanges, queues and bindings are written down, so that they come back after a restart."""

from shards.model.bindings import Binding
from shards.model.exchanges.exchange import Exchange
from shards.model.queues.queue import Queue
from shards.store.definitions import BindingDefinition, ExchangeDefinition, QueueDefinition


def exchange_definition(exchange: Exchange) -> ExchangeDefinition:
    return ExchangeDefinition(
        name=exchange.name,
        type=exchange.type,
        auto_delete=exchange.is_auto_delete,
        internal=exchange.is_internal,
        arguments=exchange.arguments,
        number=exchange.number,
    )


def queue_definition(queue: Queue) -> QueueDefinition:
    return QueueDefinition(
        number=queue.number,
        name=queue.name,
        auto_delete=queue.is_auto_delete,
        arguments=queue.arguments or {},
        paused=queue.is_paused,
    )


def binding_definition(binding: Binding) -> BindingDefinition:
    return BindingDefinition(
        source=binding.source.name,
        destination=binding.destination.name,
        destination_kind="queue" if isinstance(binding.destination, Queue) else "exchange",
        routing_key=binding.routing_key,
        arguments=binding.arguments or {},
    )
