"""Consistent hash exchange: each message goes to one of the destinations, and messages of one kind to the same.

What is hashed is the routing key; or the header that `hash-header` (RabbitMQ) or `x-hash-on` (LavinMQ) names, or the
property that `hash-property` names. Binding keys are weights. `x-algorithm` chooses how values are shared out: `jump`
(default, as in RabbitMQ) or `ring`.
"""

import re
from collections.abc import Iterable
from typing import Any, Final

from ipc.errors import PreconditionFailed
from shards.compaction.compactable import Compactable
from shards.model.bindings import Arguments, Binding, Destination, arguments_key
from shards.model.exchanges.arguments import read_text
from shards.model.exchanges.exchange import Exchange, Headers
from shards.model.exchanges.hash_buckets import HashBuckets
from shards.model.exchanges.hash_ring import HashRing
from shards.model.exchanges.hashing import hashed

ALGORITHM: Final = "x-algorithm"
HASH_HEADER: Final = ("hash-header", "x-hash-on")
HASH_PROPERTY: Final = "hash-property"
PROPERTIES: Final = ("correlation_id", "message_id", "timestamp")

_ALGORITHMS: Final[dict[str, type[HashRing] | type[HashBuckets]]] = {"jump": HashBuckets, "ring": HashRing}
_WEIGHT: Final = re.compile("[+-]?[0-9]+")


class ConsistentHashExchange(Exchange):
    """Bindings in a ring or in buckets; the total of their weights has a limit, because each weight takes memory."""

    __slots__ = ("_header", "_property", "_shares", "_weight")
    type = "x-consistent-hash"

    @classmethod
    def check_arguments(cls, arguments: Arguments, where: str) -> None:
        super().check_arguments(arguments, where)
        headers = [name for name in HASH_HEADER if read_text(arguments, name, where) is not None]
        hashed_property = read_text(arguments, HASH_PROPERTY, where)
        if hashed_property is not None and hashed_property not in PROPERTIES:
            raise PreconditionFailed(f"Unsupported property: {hashed_property} (arg '{HASH_PROPERTY}' in {where})")
        if hashed_property is not None and headers:
            raise PreconditionFailed(f"{headers[0]} and {HASH_PROPERTY} are mutually exclusive in {where}")
        algorithm = read_text(arguments, ALGORITHM, where)
        if algorithm is not None and algorithm not in _ALGORITHMS:
            raise PreconditionFailed(
                f"invalid value '{algorithm}' for arg '{ALGORITHM}' in {where}; expected {' or '.join(_ALGORITHMS)}"
            )

    def check_binding(self, routing_key: str, arguments: Arguments, where: str) -> None:
        if not _WEIGHT.fullmatch(routing_key):
            raise PreconditionFailed(f"The binding key must be an integer: '{routing_key}' for one of {where}")
        weight = int(routing_key)
        if weight < 1:
            raise PreconditionFailed(f"The binding key must be greater than 0: '{routing_key}' for one of {where}")
        if self._weight + weight > self._shares.weight_max:
            raise PreconditionFailed(
                f"The binding keys of {where} must not add up to more than {self._shares.weight_max}: "
                f"received '{routing_key}' but current is '{self._weight}'"
            )

    @property
    def routes_by_key(self) -> bool:
        return self._header is None and self._property is None

    @property
    def reads_properties(self) -> bool:
        return self._property is not None

    def children(self) -> Iterable[Compactable]:
        return (*super().children(), self._shares)

    def match(self, routing_key: str, headers: Headers) -> Iterable[Destination]:
        name = self._property or self._header
        value = routing_key if name is None else headers().get(name, "")
        binding = self._shares.find(hashed(_octets(value)))
        return () if binding is None else (binding.destination,)

    def _prepare(self) -> None:
        self._header: str | None = next((self.arguments[name] for name in HASH_HEADER if name in self.arguments), None)
        self._property: str | None = self.arguments.get(HASH_PROPERTY)
        self._shares = _ALGORITHMS[self.arguments.get(ALGORITHM, "jump")]()
        self._weight = 0

    def _add(self, binding: Binding) -> None:
        weight = int(binding.routing_key)
        self._shares.add(binding, _place(binding.destination), weight)
        self._weight += weight

    def _remove(self, binding: Binding) -> None:
        self._shares.remove(binding)
        self._weight -= int(binding.routing_key)


def _place(destination: Destination) -> bytes:
    # Not the weight: who changes it keeps the share it had, or a part of it.
    return f"{'exchange' if isinstance(destination, Exchange) else 'queue'} {destination.name}".encode()


def _octets(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode(errors="surrogateescape")
    return bytes(value) if isinstance(value, bytes | bytearray) else arguments_key({"": value})
