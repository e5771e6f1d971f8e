"""Whether a second declaration means the same thing as the first, told in RabbitMQ's words when it does not."""

from typing import TYPE_CHECKING, Any

from ipc.errors import PreconditionFailed, ResourceLocked
from shards.model.bindings import Arguments
from shards.model.exchanges.arguments import ALTERNATE_EXCHANGE

if TYPE_CHECKING:
    from shards.model.exchanges.exchange import Exchange
    from shards.model.queues.queue import Queue


def check_exchange(
    exchange: "Exchange",
    vhost: str,
    kind: str,
    *,
    is_durable: bool,
    is_auto_delete: bool,
    is_internal: bool,
    arguments: Arguments,
) -> None:
    """Raises PreconditionFailed (406) naming the first argument that differs."""
    where = f"exchange '{exchange.name}' in vhost '{vhost}'"
    _same("type", where, kind, exchange.type)
    _same("durable", where, is_durable, exchange.is_durable)
    _same("auto_delete", where, is_auto_delete, exchange.is_auto_delete)
    _same("internal", where, is_internal, exchange.is_internal)
    for name in ALTERNATE_EXCHANGE:  # and no other argument, as in RabbitMQ
        _same(name, where, arguments.get(name), exchange.arguments.get(name))


def check_queue(
    queue: "Queue", vhost: str, *, is_durable: bool, is_auto_delete: bool, is_exclusive: bool, arguments: Arguments
) -> None:
    """Raises PreconditionFailed (406) naming the first argument that differs, ResourceLocked (405) for exclusivity."""
    where = f"queue '{queue.name}' in vhost '{vhost}'"
    _same("durable", where, is_durable, queue.is_durable)
    _same("auto_delete", where, is_auto_delete, queue.is_auto_delete)
    if is_exclusive != (queue.owner is not None):
        raise locked(queue.name, vhost)
    _same_arguments(where, arguments, queue.arguments or {})


def locked(queue: str, vhost: str) -> ResourceLocked:
    """RabbitMQ's one answer to whoever is not the owner, or does not know that there is one."""
    return ResourceLocked(
        f"cannot obtain exclusive access to locked queue '{queue}' in vhost '{vhost}'. It could be originally declared "
        "on another connection or the exclusive property value does not match that of the original declaration."
    )


def _same_arguments(where: str, received: Arguments, current: Arguments) -> None:
    for name in sorted(received.keys() | current.keys()):
        _same(name, where, received.get(name), current.get(name))


def _same(name: str, where: str, received: Any, current: Any) -> None:
    if received != current:
        raise PreconditionFailed(
            f"inequivalent arg '{name}' for {where}: received {_shown(received)} but current is {_shown(current)}"
        )


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    return f"'{str(value).lower() if isinstance(value, bool) else value}'"
