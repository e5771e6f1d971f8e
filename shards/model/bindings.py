"""A binding leads messages from an exchange to a queue or to another exchange."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeAlias, Union

import msgspec

from shards.compaction.compactable import Compactable
from shards.model.statistics import Tally, tally_bytes

if TYPE_CHECKING:
    from shards.model.exchanges.exchange import Exchange
    from shards.model.queues.queue import Queue

Arguments: TypeAlias = dict[str, Any]
"""A decoded AMQP field table."""

Destination: TypeAlias = Union["Queue", "Exchange"]
BindingKey: TypeAlias = tuple[int, str, bytes]
BINDING_BYTES: Final = 280  # of a binding, its key and its routing key, without arguments (measured)


def arguments_key(arguments: Arguments) -> bytes:
    """Equal for equal tables, whatever the order of their fields; empty for an empty one."""
    return msgspec.msgpack.encode(arguments, order="deterministic") if arguments else b""


class Bindable(Compactable):
    """What bindings lead to: it remembers them, and exists without a dictionary while there are none.

    `tally` counts the messages that pass.
    """

    __slots__ = ("_inbound", "tally")
    COLLECTIONS: ClassVar[tuple[str, ...]] = ("_inbound",)
    KINDS: ClassVar[Mapping[str, str]] = {"_inbound": "bindings"}

    def __init__(self) -> None:
        self._inbound: dict[Binding, None] | None = None
        self.tally: Tally | None = None

    def holdings(self) -> Iterable[tuple[str, int]]:
        return (tally_bytes(self),)

    def bound(self, binding: "Binding") -> None:
        """Remember a binding that leads here."""
        if self._inbound is None:
            self._inbound = {}
        self._inbound[binding] = None

    def unbound(self, binding: "Binding") -> None:
        if self._inbound is not None:
            self._inbound.pop(binding, None)
            if not self._inbound:
                self._inbound = None

    def inbound(self) -> "list[Binding]":
        return list(self._inbound or ())


class Binding:
    """One binding, known to its source (which routes by it) and its destination (which takes it along when it goes)."""

    __slots__ = ("arguments", "destination", "key", "routing_key", "source")

    def __init__(self, source: "Exchange", destination: Destination, routing_key: str, arguments: Arguments) -> None:
        self.source = source
        self.destination = destination
        self.routing_key = routing_key
        self.arguments = arguments or None
        self.key: BindingKey = (id(destination), routing_key, arguments_key(arguments))
