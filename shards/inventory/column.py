"""A column of a list: a name the HTTP API has for a fact, and how it is read off a thing of one kind."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from ipc.messages.inventory import Document, Identity, Key
from shards.model.vhost import VHost
from shards.model.vhosts import VHosts

Column: TypeAlias = Callable[[VHost, Any], Any]
Order: TypeAlias = Callable[[VHost, Any, Sequence[str]], Any]
"""What a list is sorted by where somebody wants it sorted by a column, or by what lies within it, on this path."""
Survey: TypeAlias = Callable[[VHost, Any, Document], Iterator[None]]
"""Adds to a document what takes long to find out, in steps between which there may be a pause. Raises Gone."""


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
    orders: Mapping[str, Order] = {}
    """In the place of columns that would cost too much for all things of a kind."""
    nulls: frozenset[str] = frozenset()
    """Columns that are shown, as null, also when they have nothing to say: RabbitMQ's clients expect them."""
    survey: Survey | None = None
    """What else is shown where one thing is looked at."""
    among: Callable[[VHost, Mapping[str, str]], Iterable[Any]] | None = None
    """Those whose columns have these values, found without looking at all of them."""

    def document(self, vhost: VHost, thing: Any, *, in_detail: bool = False) -> Document:
        """All of its columns but those that have nothing to say."""
        shown = {name: column(vhost, thing) for name, column in self.columns.items()}
        if in_detail:
            shown |= {name: column(vhost, thing) for name, column in self.details.items()}
        return {name: value for name, value in shown.items() if value is not None or name in self.nulls}

    def value(self, vhost: VHost, thing: Any, path: str) -> Any:
        """What stands in a column, `path` being dotted where it lies within another; None where nothing does."""
        return self._reader(path)(vhost, thing)

    def _reader(self, path: str) -> Column:
        head, *rest = path.split(".")
        column = self.columns.get(head) or self.details.get(head)
        if column is None:
            return lambda vhost, thing: None
        if not rest:
            return column
        return lambda vhost, thing: inside(column(vhost, thing), rest)

    def order(self, path: str) -> Column:
        """How to find out what a thing is sorted by."""
        head, *rest = path.split(".")
        order = self.orders.get(head)
        return self._reader(path) if order is None else lambda vhost, thing: order(vhost, thing, rest)


def inside(value: Any, path: Sequence[str]) -> Any:
    """What lies within a document; None where nothing does."""
    for name in path:
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
