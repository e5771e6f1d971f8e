"""What an exchange may be asked for in its arguments, read and refused in RabbitMQ's words."""

from typing import Final

from ipc.errors import PreconditionFailed
from shards.model.bindings import Arguments
from shards.model.fields import field_type
from shards.model.queues.terms import DEDUPLICATION, Terms, read_terms, recall_terms

ALTERNATE_EXCHANGE: Final = ("alternate-exchange", "x-alternate-exchange")
"""RabbitMQ's name for it and LavinMQ's; the first one that is there counts."""

DELAYED_EXCHANGE: Final = "x-delayed-exchange"
"""LavinMQ's way to ask for delayed messages at an exchange of any type."""


def read_text(arguments: Arguments, name: str, where: str) -> str | None:
    """The text under this name, None without one; raises PreconditionFailed (406) for anything else.

    `where` is the exchange as a client is told of it: `exchange 'news' in vhost '/'`.
    """
    if name not in arguments:
        return None
    value = arguments[name]
    if not isinstance(value, str):
        raise PreconditionFailed(f"invalid type '{field_type(value)}' for arg '{name}' in {where}")
    return value


def read_flag(arguments: Arguments, name: str, where: str) -> bool:
    """False without one; raises PreconditionFailed (406) for anything but a boolean."""
    value = arguments.get(name, False)
    if not isinstance(value, bool):
        raise PreconditionFailed(f"invalid type '{field_type(value)}' for arg '{name}' in {where}")
    return value


def read_alternate(arguments: Arguments, where: str) -> str | None:
    """The exchange that gets what matches nothing; raises PreconditionFailed (406) when that is no name."""
    for name in ALTERNATE_EXCHANGE:
        read_text(arguments, name, where)
    return find_alternate(arguments)


def find_alternate(arguments: Arguments) -> str | None:
    """The same for arguments that were checked before, or stored when nobody did."""
    names = map(arguments.get, ALTERNATE_EXCHANGE)
    return next((name for name in names if isinstance(name, str)), None)


def read_deduplication(arguments: Arguments, where: str) -> Terms:
    """How it deduplicates, if it does: what a queue with these arguments would do; raises PreconditionFailed (406)."""
    return read_terms(_only_deduplication(arguments), where)


def recall_deduplication(arguments: Arguments) -> Terms:
    """The same for arguments that were stored when nobody checked them."""
    return recall_terms(_only_deduplication(arguments))


def _only_deduplication(arguments: Arguments) -> Arguments:
    return {name: arguments[name] for name in DEDUPLICATION if name in arguments}
