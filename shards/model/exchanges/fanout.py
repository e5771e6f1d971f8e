"""Fanout exchange: a message goes to everything bound."""

from collections.abc import Iterable

from shards.model.bindings import Binding, Destination
from shards.model.exchanges.exchange import Exchange, Headers


class FanoutExchange(Exchange):
    """The list of bindings is all there is to know."""

    __slots__ = ()
    type = "fanout"

    def match(self, routing_key: str, headers: Headers) -> Iterable[Destination]:
        return (binding.destination for binding in self._bindings.values())

    def _add(self, binding: Binding) -> None:
        pass

    def _remove(self, binding: Binding) -> None:
        pass
