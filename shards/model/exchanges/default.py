"""The default exchange: every queue is bound to it by its own name, implicitly and for good."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from shards.model.bindings import Binding, Destination
from shards.model.exchanges.exchange import Exchange, Headers

if TYPE_CHECKING:
    from shards.model.queues.queue import Queue


class DefaultExchange(Exchange):
    """Looks the routing key up among the queues; cannot be bound, deleted or declared anew."""

    __slots__ = ("_find_queue",)
    type = "direct"

    def __init__(self, find_queue: "Callable[[str], Queue | None]") -> None:
        super().__init__("")
        self._find_queue = find_queue

    @property
    def heeds_every_key(self) -> bool:
        return True

    def match(self, routing_key: str, headers: Headers) -> Iterable[Destination]:
        queue = self._find_queue(routing_key)
        return () if queue is None else (queue,)

    def _add(self, binding: Binding) -> None:
        raise AssertionError("nothing can be bound to the default exchange")

    def _remove(self, binding: Binding) -> None:
        raise AssertionError("nothing can be unbound from the default exchange")
