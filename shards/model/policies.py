"""Policies: what an administrator asks of queues and exchanges by their names, and what that leaves of their arguments.

```
of the policies that match           highest priority wins, then the first by name   ─┐
of the operator policies that match  the same                                        ─┴► one definition
a setting in both                    the operator's, or the lower number
a setting and an argument            the lower number; a text: the argument's; delayed-message: whichever says so
```
RabbitMQ's rules. It leaves open which of two policies of one priority counts; here that does not depend on chance.
"""

import re
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from msgspec import Struct, structs

from ipc.limits import RULINGS_REMEMBERED_MAX
from ipc.messages.rules import NO_RULES, Definition, Policy, Rules
from shards.compaction.compactable import Compactable
from shards.model.bindings import Arguments
from shards.model.queues.terms import PLAIN, Terms

EXCHANGE: Final = "exchange"
CLASSIC: Final = "classic"
QUORUM: Final = "quorum"

_APPLY_TO: Final[dict[str, frozenset[str]]] = {
    "all": frozenset({EXCHANGE, CLASSIC, QUORUM}),
    "queues": frozenset({CLASSIC, QUORUM}),
    "classic_queues": frozenset({CLASSIC}),
    "quorum_queues": frozenset({QUORUM}),
    "exchanges": frozenset({EXCHANGE}),
    "streams": frozenset(),
}

# Of a setting and the queue's own term, the lower one holds.
_NUMBERS: Final = {
    "consumer-timeout": "consumer_timeout",
    "delivery-limit": "delivery_limit",
    "expires": "expires",
    "max-length": "length_max",
    "max-length-bytes": "bytes_max",
    "message-ttl": "message_ttl",
}
# The queue's own term holds, if it was asked for.
_TEXTS: Final = {
    "dead-letter-exchange": "dead_letter_exchange",
    "dead-letter-routing-key": "dead_letter_routing_key",
    "overflow": "overflow",
}


class Ruling(Struct, frozen=True):
    """The policies that hold for a queue or an exchange, and what they say together."""

    policy: str | None = None
    operator_policy: str | None = None
    definition: Definition = {}
    terms: Terms = PLAIN  # of a queue without arguments: one object for all of them


UNRULED: Final = Ruling()


class _Compiled(NamedTuple):
    policy: Policy
    pattern: re.Pattern[str]
    kinds: frozenset[str]


class Rulebook(Compactable):
    """A vhost's rules with their patterns compiled; when they change, another book takes its place."""

    __slots__ = ("_operator_policies", "_policies", "_rulings", "rules")
    CACHES = ("_rulings",)
    KIND = "policies"

    def __init__(self, rules: Rules = NO_RULES) -> None:
        self.rules = rules
        self._policies = _compiled(rules.policies)
        self._operator_policies = _compiled(rules.operator_policies)
        self._rulings: dict[tuple[str | None, str | None], Ruling] = {}

    def ruling(self, name: str, kind: str) -> Ruling:
        """What holds for a queue (CLASSIC, QUORUM) or exchange (EXCHANGE) of this name."""
        policy = _first(self._policies, name, kind)
        operator_policy = _first(self._operator_policies, name, kind)
        if policy is None and operator_policy is None:
            return UNRULED
        names = (policy.name if policy else None, operator_policy.name if operator_policy else None)
        ruling = self._rulings.get(names)
        if ruling is None:
            if len(self._rulings) >= RULINGS_REMEMBERED_MAX:
                self._rulings = {}
            ruling = self._rulings[names] = _ruling(policy, operator_policy)
        return ruling

    def terms(self, name: str, own: Terms, arguments: Arguments | None) -> Terms:
        """The terms of a queue that asked for `own` with these arguments."""
        return self.rule(name, own, arguments)[1]

    def rule(self, name: str, own: Terms, arguments: Arguments | None) -> tuple[Ruling, Terms]:
        """What holds for that queue, and its terms."""
        ruling = self.ruling(name, QUORUM if own.is_quorum else CLASSIC)
        return ruling, effective_terms(own, arguments, ruling.definition) if arguments else ruling.terms

    def alternate_exchange(self, name: str) -> str | None:
        """Where the exchange of this name, which did not ask for any itself, sends what matches nothing there."""
        if not name:
            return None  # the default exchange has none in RabbitMQ, whatever its policies say
        found = self.ruling(name, EXCHANGE).definition.get("alternate-exchange")
        return None if found is None else str(found)

    def delays(self, name: str) -> bool:
        """Whether the exchange of this name is to keep messages back although it did not ask for it itself."""
        return self.ruling(name, EXCHANGE).definition.get("delayed-message") is True


def _ruling(policy: Policy | None, operator_policy: Policy | None) -> Ruling:
    definition = merged(policy.definition if policy else {}, operator_policy.definition if operator_policy else {})
    return Ruling(
        policy=policy.name if policy else None,
        operator_policy=operator_policy.name if operator_policy else None,
        definition=definition,
        terms=effective_terms(PLAIN, None, definition),
    )


def merged(definition: Definition, operators: Definition) -> Definition:
    """One definition of a policy's and an operator policy's."""
    both = {**definition, **operators}
    for key in definition.keys() & operators.keys():
        both[key] = _lower(definition[key], operators[key])
    return both


def _lower(value: bool | int | str, operators: bool | int | str) -> bool | int | str:
    if isinstance(value, int) and isinstance(operators, int):
        # -1 says "no limit", and is no way around the operator's.
        return min(value, operators) if min(value, operators) >= 0 else max(value, operators)
    return operators


def effective_terms(own: Terms, arguments: Arguments | None, definition: Definition) -> Terms:
    """What becomes of a queue's own terms under these settings; those that mean nothing to a queue are passed by."""
    changes: dict[str, Any] = {}
    for key, value in definition.items():
        if key in _NUMBERS and isinstance(value, int) and value >= 0:
            asked = getattr(own, _NUMBERS[key])
            changes[_NUMBERS[key]] = value if asked is None or asked < 0 else min(asked, value)
        elif key in _TEXTS and f"x-{key}" not in (arguments or ()):
            changes[_TEXTS[key]] = value
    return structs.replace(own, **changes) if changes else own


def _compiled(policies: Iterable[Policy]) -> tuple[_Compiled, ...]:
    ordered = sorted(policies, key=lambda policy: (-policy.priority, policy.name))
    return tuple(_Compiled(policy, re.compile(policy.pattern), _APPLY_TO[policy.apply_to]) for policy in ordered)


def _first(policies: tuple[_Compiled, ...], name: str, kind: str) -> Policy | None:
    for policy, pattern, kinds in policies:
        if kind in kinds and pattern.search(name):
            return policy
    return None
