"""Delayed message exchange: keeps messages as long as their `x-delay` says, then finds destinations as another type.

RabbitMQ's plugin calls it `x-delayed-message`; `x-delayed-type` says which type it is besides. Messages wait in a room
that every exchange can have (`shards/model/waiting_room.py`): LavinMQ asks for one by argument and by policy.
"""

from collections.abc import Iterable
from typing import Final

from ipc.errors import PreconditionFailed
from shards.compaction.compactable import Compactable
from shards.model.bindings import Arguments, Binding, Destination
from shards.model.exchanges.exchange import Exchange, Headers
from shards.model.exchanges.rules import RULES

DELAYED_TYPE: Final = "x-delayed-type"


class DelayedMessageExchange(Exchange):
    """Asks an exchange of the other type, which nobody else knows, about destinations."""

    __slots__ = ("_rule",)
    type = "x-delayed-message"

    @classmethod
    def check_arguments(cls, arguments: Arguments, where: str) -> None:
        kind = arguments.get(DELAYED_TYPE)
        if kind == cls.type:
            raise PreconditionFailed(f"Invalid argument, '{cls.type}' can't be used for '{DELAYED_TYPE}' in {where}")
        if not isinstance(kind, str) or kind not in RULES:
            raise PreconditionFailed(f"Invalid argument, '{DELAYED_TYPE}' must be an existing exchange type in {where}")
        RULES[kind].check_arguments(arguments, where)

    def check_binding(self, routing_key: str, arguments: Arguments, where: str) -> None:
        self._rule.check_binding(routing_key, arguments, where)

    @property
    def own_delays(self) -> bool:
        return True

    @property
    def heeds_every_key(self) -> bool:
        return self._rule.heeds_every_key

    @property
    def routes_by_key(self) -> bool:
        return self._rule.routes_by_key

    @property
    def reads_properties(self) -> bool:
        return self._rule.reads_properties

    def children(self) -> Iterable[Compactable]:
        return (*super().children(), self._rule)

    def holdings(self) -> Iterable[tuple[str, int]]:
        return ()  # its bindings are the rule's as well, which counts them

    def match(self, routing_key: str, headers: Headers) -> Iterable[Destination]:
        return self._rule.match(routing_key, headers)

    def _prepare(self) -> None:
        kind = RULES[self.arguments[DELAYED_TYPE]]
        self._rule = kind(self.name, arguments=self.arguments)

    def _add(self, binding: Binding) -> None:
        self._rule.bind(binding)

    def _remove(self, binding: Binding) -> None:
        self._rule.unbind(binding)
