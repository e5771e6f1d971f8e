"""What all exchanges share: a name, flags, bindings, and the question which destinations a message matches."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from shards.compaction.compactable import Compactable
from shards.model.bindings import BINDING_BYTES, Arguments, Bindable, Binding, BindingKey, Destination
from shards.model.deduplication import Deduplication
from shards.model.exchanges.arguments import (
    DELAYED_EXCHANGE,
    find_alternate,
    read_alternate,
    read_deduplication,
    read_flag,
    recall_deduplication,
)
from shards.model.policies import UNRULED

if TYPE_CHECKING:
    from shards.model.waiting_room import WaitingRoom

Headers: TypeAlias = Callable[[], Arguments]
"""Decodes the message's header table, or its properties, when a rule wants to look at it."""


class Exchange(Bindable):
    """Base of the exchange types; a type indexes bindings its own way in `_add`, `_remove` and `match`."""

    __slots__ = (
        "_bindings",
        "alternate",
        "arguments",
        "deduplication",
        "delays",
        "is_auto_delete",
        "is_deleted",
        "is_durable",
        "is_internal",
        "name",
        "number",
        "ruling",
        "waiting_room",
    )
    COLLECTIONS = ("_bindings",)
    KIND = "exchanges"
    KINDS: ClassVar[Mapping[str, str]] = {"_bindings": "bindings"}
    type: ClassVar[str]

    def __init__(
        self,
        name: str,
        *,
        is_durable: bool = True,
        is_auto_delete: bool = False,
        is_internal: bool = False,
        arguments: Arguments | None = None,
        number: int = 0,
    ) -> None:
        """`number` names the directory of messages that wait here; 0: it is predeclared, and its own name does."""
        super().__init__()
        self.name = name
        self.number = number
        self.is_durable = is_durable
        self.is_auto_delete = is_auto_delete
        self.is_internal = is_internal
        self.is_deleted = False
        self.arguments = arguments or {}
        self.alternate = self.own_alternate  # name of the exchange that gets what matches nothing; there may be none
        terms = recall_deduplication(self.arguments)
        self.deduplication = Deduplication(terms) if terms.deduplicates else None
        self.delays = self.own_delays  # whether it keeps back messages that ask for it
        self.ruling = UNRULED  # the policies that hold for it
        self.waiting_room: WaitingRoom | None = None  # from the first message on that waits
        self._bindings: dict[BindingKey, Binding] = {}
        self._prepare()

    def children(self) -> Iterable[Compactable]:
        return [part for part in (self.deduplication, self.waiting_room) if part is not None]

    @classmethod
    def check_arguments(cls, arguments: Arguments, where: str) -> None:
        """Raises PreconditionFailed (406) for arguments that an exchange of this type cannot follow.

        `where` is the exchange as a client is told of it: `exchange 'news' in vhost '/'`.
        """
        read_alternate(arguments, where)
        read_deduplication(arguments, where)
        read_flag(arguments, DELAYED_EXCHANGE, where)

    def check_binding(self, routing_key: str, arguments: Arguments, where: str) -> None:
        """Raises PreconditionFailed (406) for a binding that this exchange cannot follow."""

    @property
    def own_alternate(self) -> str | None:
        """The alternate exchange that its arguments ask for, which counts more than what a policy asks for."""
        return find_alternate(self.arguments)

    @property
    def own_delays(self) -> bool:
        """Whether it was declared to keep messages back for as long as they ask for; a policy may want that, too."""
        return self.arguments.get(DELAYED_EXCHANGE) is True

    @property
    def delayed_count(self) -> int:
        """Messages that wait here."""
        return 0 if self.waiting_room is None else self.waiting_room.delayed_count

    @property
    def heeds_every_key(self) -> bool:
        """Whether the routing keys a message has beside its first (CC, BCC) can lead to more destinations."""
        return False

    @property
    def routes_by_key(self) -> bool:
        """Whether exchange and routing keys alone decide, so that a route may be remembered."""
        return True

    @property
    def reads_properties(self) -> bool:
        """Whether `match` is to be given the message's properties in the place of its headers."""
        return False

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

    def holdings(self) -> Iterable[tuple[str, int]]:
        return (*super().holdings(), ("bindings", BINDING_BYTES * len(self._bindings)))

    def bindings(self) -> Iterable[Binding]:
        return self._bindings.values()

    @property
    def binding_count(self) -> int:
        return len(self._bindings)

    @property
    def is_bound(self) -> bool:
        """Whether anything is bound to this exchange."""
        return bool(self._bindings)

    @property
    def is_abandoned(self) -> bool:
        """Whether this is an auto-delete exchange without a binding left; asked when one has gone."""
        return self.is_auto_delete and not self._bindings and not self.is_deleted

    def match(self, routing_key: str, headers: Headers) -> Iterable[Destination]:
        """Destinations of a message; one may come more than once."""
        raise NotImplementedError

    def _prepare(self) -> None:
        """Make the type's own index, empty."""

    def _add(self, binding: Binding) -> None:
        raise NotImplementedError

    def _remove(self, binding: Binding) -> None:
        raise NotImplementedError
