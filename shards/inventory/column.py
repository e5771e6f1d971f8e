"""A column of a list: a name the HTTP API has for a fact, and how it is read off a thing of one kind."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

from ipc.messages.inventory import Document, Identity, Key
from shards.model.vhost import VHost
from shards.model.vhosts import VHosts

Column: TypeAlias = Callable[[VHost, Any], Any]


class Gone(Exception):
    """What was listed a moment ago is no longer there."""


class Register(NamedTuple):
    """How one kind of thing is listed."""

    things: Callable[[VHost], Iterable[Any]]
    find: Callable[[VHost, Identity], Any]
    """Raises Gone."""
    identity: Callable[[Any], Identity]
    columns: Mapping[str, Column]
    details: Mapping[str, Column] = {}
    """Only shown where one thing is looked at."""

    def document(self, vhost: VHost, thing: Any, *, in_detail: bool = False) -> Document:
        """All of its columns but those that have nothing to say."""
        shown = {name: column(vhost, thing) for name, column in self.columns.items()}
        if in_detail:
            shown |= {name: column(vhost, thing) for name, column in self.details.items()}
        return {name: value for name, value in shown.items() if value is not None}

    def value(self, vhost: VHost, thing: Any, path: str) -> Any:
        """What stands in a column, `path` being dotted where it lies within another; None where nothing does."""
        head, *rest = path.split(".")
        column = self.columns.get(head) or self.details.get(head)
        value = column(vhost, thing) if column is not None else None
        for name in rest:
            value = value.get(name) if isinstance(value, Mapping) else None
        return value


def key(value: Any) -> Key:
    """What a list is sorted by, from what stands in the column."""
    if isinstance(value, (bool, int, float)):
        return 1, value
    return (0, 0) if value is None else (2, value if isinstance(value, str) else str(value))


def within(vhosts: VHosts, vhost: str | None, only: frozenset[str] | None) -> list[VHost]:
    """The vhosts of this shard that are meant."""
    names = vhosts.names() if vhost is None else [vhost]
    found = (vhosts.find(name) for name in names if only is None or name in only)
    return [one for one in found if one is not None]
