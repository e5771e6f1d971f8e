"""The type of a queue whose declaration names none: what is laid down for its virtual host, as in RabbitMQ."""

from typing import Final

from ipc.messages.rules import Rules
from shards.model.bindings import Arguments
from shards.model.queues.queue import Queue

_ARGUMENT: Final = "x-queue-type"


def with_default_type(
    arguments: Arguments,
    rules: Rules,
    existing: Queue | None,
    *,
    is_durable: bool,
    is_auto_delete: bool,
    is_exclusive: bool,
) -> Arguments:
    """As if the declaration had said it, so that it is shown and exported, where the queue can be of that type.

    Whoever leaves the type out leaves it to the broker: then a queue that exists is what was asked for, whether it was
    declared before the default was or under another one.
    """
    default = rules.default_queue_type
    if not default or _ARGUMENT in arguments:
        return arguments
    if existing is not None:
        own = (existing.arguments or {}).get(_ARGUMENT)
        return arguments if own is None else {**arguments, _ARGUMENT: own}
    if default == "quorum" and (not is_durable or is_auto_delete or is_exclusive):
        return arguments
    return {**arguments, _ARGUMENT: default}
