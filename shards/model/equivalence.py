"""Whether a second declaration means the same thing as the first, told in RabbitMQ's words when it does not."""

from typing import TYPE_CHECKING, Any, Final

from ipc.errors import PreconditionFailed, ResourceLocked
from shards.model.bindings import Arguments
from shards.model.exchanges.arguments import ALTERNATE_EXCHANGE
from shards.model.fields import field_type, shown

if TYPE_CHECKING:
    from shards.model.exchanges.exchange import Exchange
    from shards.model.queues.queue import Queue


_MEANT: Final = {"x-queue-type": "classic"}
"""What a queue without an argument is as good as declared with."""


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
        meant = _MEANT.get(name)
        _same(name, where, received.get(name, meant), current.get(name, meant))


def _same(name: str, where: str, received: Any, current: Any) -> None:
    if received != current:
        told = _with_type if received is None or current is None else _quoted
        raise PreconditionFailed(
            f"inequivalent arg '{name}' for {where}: received {told(received)} but current is {told(current)}"
        )


def _quoted(value: Any) -> str:
    return f"'{value if isinstance(value, str) else shown(value)}'"


def _with_type(value: Any) -> str:
    """Also what type it has, where there is nothing to compare it with."""
    return "none" if value is None else f"the value {_quoted(value)} of type '{field_type(value)}'"
