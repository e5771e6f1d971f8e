"""Exchanges and bindings, as they are listed."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import unquote_plus

from ipc.messages.inventory import Identity
from ipc.wire.amqp.plain import plain
from ipc.wire.amqp.properties_key import properties_key
from shards.inventory.column import Column, Gone, Register
from shards.inventory.stats import message_stats
from shards.model.bindings import Binding
from shards.model.exchanges.exchange import Exchange
from shards.model.policies import UNRULED
from shards.model.queues.queue import Queue
from shards.model.vhost import VHost

DESTINATIONS: Final = {"q": "queue", "e": "exchange"}


def _find_exchange(vhost: VHost, identity: Identity) -> Exchange:
    exchange = vhost.find_exchange(identity[0])
    if exchange is None:
        raise Gone
    return exchange


def _definition(vhost: VHost, exchange: Exchange) -> dict[str, Any] | None:
    return None if exchange.ruling is UNRULED else plain(exchange.ruling.definition)


def _stats(vhost: VHost, exchange: Exchange) -> dict[str, Any] | None:
    """What came to an exchange is its `publish_in`."""
    stats = message_stats(vhost.sampling, exchange.tally)
    if stats is not None and "publish" in stats:
        stats["publish_in"] = stats.pop("publish")
        stats["publish_in_details"] = stats.pop("publish_details")
    return stats


EXCHANGE_COLUMNS: Final[dict[str, Column]] = {
    "name": lambda vhost, exchange: exchange.name,
    "vhost": lambda vhost, exchange: vhost.name,
    "type": lambda vhost, exchange: exchange.type,
    "durable": lambda vhost, exchange: exchange.is_durable,
    "auto_delete": lambda vhost, exchange: exchange.is_auto_delete,
    "internal": lambda vhost, exchange: exchange.is_internal,
    "arguments": lambda vhost, exchange: plain(exchange.arguments),
    "policy": lambda vhost, exchange: exchange.ruling.policy,
    "operator_policy": lambda vhost, exchange: exchange.ruling.operator_policy,
    "effective_policy_definition": _definition,
    "message_stats": _stats,
    "messages_delayed": lambda vhost, exchange: exchange.delayed_count or None,
}

EXCHANGES: Final[Register] = Register(
    things=lambda vhost: vhost.exchanges(),
    find=_find_exchange,
    identity=lambda exchange: (exchange.name,),
    columns=EXCHANGE_COLUMNS,
)


# bindings -------------------------------------------------------------------------------------------------------------


def _by_default(vhost: VHost, queue: Queue) -> Binding:
    """What nobody declared: a queue is bound to the default exchange by its name."""
    return Binding(vhost.exchange(""), queue, queue.name, {})


def _bindings(vhost: VHost) -> Iterator[Binding]:
    for queue in vhost.queues():
        yield _by_default(vhost, queue)
    for exchange in vhost.exchanges():
        yield from tuple(exchange.bindings())


def _kind(binding: Binding) -> str:
    return "q" if isinstance(binding.destination, Queue) else "e"


def _key(binding: Binding) -> str:
    return properties_key(binding.routing_key, binding.arguments or {})


def find_binding(vhost: VHost, identity: Identity) -> Binding:
    source, kind, name, key = identity
    for binding in _inbound(vhost, name, DESTINATIONS[kind]):
        if binding.source.name == source and _is_named(binding, key):
            return binding
    raise Gone


def _is_named(binding: Binding, key: str) -> bool:
    """Also by its routing key alone, as long as that says which it is."""
    if binding.arguments or "~" in key:
        return _key(binding) == key
    return bool(key) and binding.routing_key in (key, unquote_plus(key))


def _among(vhost: VHost, where: Mapping[str, str]) -> Iterable[Binding]:
    """Those that lead to one destination, or from one source, or both."""
    source = where.get("source")
    if "destination" in where:
        found: Iterable[Binding] = _inbound(vhost, where["destination"], where.get("destination_type", ""))
        return found if source is None else [binding for binding in found if binding.source.name == source]
    exchange = None if source is None else vhost.find_exchange(source)
    if exchange is None:
        return _bindings(vhost) if source is None else ()
    if not source:
        return (_by_default(vhost, queue) for queue in vhost.queues())
    return tuple(exchange.bindings())


def _inbound(vhost: VHost, name: str, kind: str) -> list[Binding]:
    queue = vhost.find_queue(name) if kind == "queue" else None
    if queue is not None:
        return [_by_default(vhost, queue), *queue.inbound()]
    exchange = vhost.find_exchange(name) if kind == "exchange" else None
    return [] if exchange is None else exchange.inbound()


BINDING_COLUMNS: Final[dict[str, Column]] = {
    "source": lambda vhost, binding: binding.source.name,
    "vhost": lambda vhost, binding: vhost.name,
    "destination": lambda vhost, binding: binding.destination.name,
    "destination_type": lambda vhost, binding: DESTINATIONS[_kind(binding)],
    "routing_key": lambda vhost, binding: binding.routing_key,
    "arguments": lambda vhost, binding: plain(binding.arguments or {}),
    "properties_key": lambda vhost, binding: _key(binding),
}

BINDINGS: Final[Register] = Register(
    things=_bindings,
    find=find_binding,
    identity=lambda binding: (binding.source.name, _kind(binding), binding.destination.name, _key(binding)),
    columns=BINDING_COLUMNS,
    among=_among,
)
