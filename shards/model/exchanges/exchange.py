"""What all exchanges share: a name, flags, bindings, and the question which destinations a message matches."""

from collections.abc import Callable, Iterable
from typing import ClassVar, TypeAlias

from shards.compaction.compactable import Compactable
from shards.model.bindings import Arguments, Binding, BindingKey, Destination

Headers: TypeAlias = Callable[[], Arguments]
"""Decodes the message's header table when a rule wants to look at it."""


class Exchange(Compactable):
    """Base of the exchange types; a type indexes bindings its own way in `_add`, `_remove` and `match`."""

    __slots__ = (
        "_bindings",
        "_inbound",
        "arguments",
        "is_auto_delete",
        "is_deleted",
        "is_durable",
        "is_internal",
        "name",
    )
    COLLECTIONS = ("_bindings", "_inbound")
    type: ClassVar[str]
    routes_by_key: ClassVar[bool] = True
    """Whether exchange and routing key alone decide, so that a route may be remembered."""

    def __init__(
        self,
        name: str,
        *,
        is_durable: bool = True,
        is_auto_delete: bool = False,
        is_internal: bool = False,
        arguments: Arguments | None = None,
    ) -> None:
        self.name = name
        self.is_durable = is_durable
        self.is_auto_delete = is_auto_delete
        self.is_internal = is_internal
        self.is_deleted = False
        self.arguments = arguments or {}
        self._bindings: dict[BindingKey, Binding] = {}
        self._inbound: dict[Binding, None] | None = None  # bindings of which this exchange is the destination
        self._prepare()

    def bind(self, binding: Binding) -> bool:
        """Add a binding; False when an equal one exists."""
        if binding.key in self._bindings:
            return False
        self._bindings[binding.key] = binding
        self._add(binding)
        binding.destination.bound(binding)
        return True

    def find(self, key: BindingKey) -> Binding | None:
        return self._bindings.get(key)

    def unbind(self, binding: Binding) -> None:
        del self._bindings[binding.key]
        self._remove(binding)
        binding.destination.unbound(binding)

    def bindings(self) -> Iterable[Binding]:
        return self._bindings.values()

    @property
    def is_bound(self) -> bool:
        """Whether anything is bound to this exchange."""
        return bool(self._bindings)

    def bound(self, binding: Binding) -> None:
        """As a destination: remember a binding that leads here."""
        if self._inbound is None:
            self._inbound = {}
        self._inbound[binding] = None

    def unbound(self, binding: Binding) -> None:
        if self._inbound is not None:
            self._inbound.pop(binding, None)

    def inbound(self) -> list[Binding]:
        return list(self._inbound or ())

    def match(self, routing_key: str, headers: Headers) -> Iterable[Destination]:
        """Destinations of a message; one may come more than once."""
        raise NotImplementedError

    def _prepare(self) -> None:
        """Make the type's own index, empty."""

    def _add(self, binding: Binding) -> None:
        raise NotImplementedError

    def _remove(self, binding: Binding) -> None:
        raise NotImplementedError
