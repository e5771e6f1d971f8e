"""Direct exchange: a message goes wherever its routing key is bound, word for word."""

from collections.abc import Iterable, Mapping
from typing import ClassVar

from shards.model.bindings import Binding, Destination
from shards.model.exchanges.exchange import Exchange, Headers


class DirectExchange(Exchange):
    """Bindings by routing key."""

    __slots__ = ("_by_key",)
    NESTED = ("_by_key",)
    KINDS: ClassVar[Mapping[str, str]] = {"_by_key": "bindings"}
    type = "direct"

    def _prepare(self) -> None:
        self._by_key: dict[str, dict[Binding, None]] = {}

    @property
    def heeds_every_key(self) -> bool:
        return True

    def match(self, routing_key: str, headers: Headers) -> Iterable[Destination]:
        return (binding.destination for binding in self._by_key.get(routing_key, ()))

    def _add(self, binding: Binding) -> None:
        self._by_key.setdefault(binding.routing_key, {})[binding] = None

    def _remove(self, binding: Binding) -> None:
        same_key = self._by_key[binding.routing_key]
        del same_key[binding]
        if not same_key:
            del self._by_key[binding.routing_key]
