"""Headers exchange: a message goes where its header table agrees with the binding's arguments.

`x-match`: `all` (default) or `any` of the arguments whose names do not begin with `x-`; `all-with-x` and `any-with-x`
count those too. An argument without value (void) asks only for presence.

```
any   field → bindings that ask for it                     each field of the message is looked up once
all   trie of the fields a binding asks for, by name       (root) ─ format=pdf ─┬─ type=log ●
                                                                                └─ type=report ●
```
A path of the trie is followed as long as the message has its fields, so bindings that share what they ask for are told
apart only from there on, and one that asks for something the message lacks is never looked at.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar, Final, TypeAlias

from ipc.errors import PreconditionFailed
from shards.compaction.compactable import Compactable
from shards.model.bindings import Arguments, Binding, Destination
from shards.model.exchanges.exchange import Exchange, Headers
from shards.model.exchanges.trie import TrieNode
from shards.model.fields import field_type

MATCH: Final = "x-match"
_ASKS_FOR_ANY: Final = {"all": False, "any": True, "all-with-x": False, "any-with-x": True}

Field: TypeAlias = tuple[str, Hashable]
"""Name and value; a value of None stands for presence, whatever the value is."""


class HeadersExchange(Exchange):
    """Bindings by the fields they ask for; keys do not matter."""

    __slots__ = ("_all", "_any")
    NESTED = ("_any",)
    KINDS: ClassVar[Mapping[str, str]] = {"_any": "bindings"}
    type = "headers"

    def _prepare(self) -> None:
        self._all: TrieNode[Field] = TrieNode()
        self._any: dict[Field, dict[Binding, None]] = {}

    def children(self) -> Iterable[Compactable]:
        return (*super().children(), self._all)

    @property
    def routes_by_key(self) -> bool:
        return False

    def check_binding(self, routing_key: str, arguments: Arguments, where: str) -> None:
        if MATCH not in arguments:
            return
        rule = arguments[MATCH]
        if not isinstance(rule, str):
            raise PreconditionFailed(
                f"Invalid {MATCH} field type {field_type(rule)} (value {rule}) for a binding of {where}; "
                "expected longstr"
            )
        if rule not in _ASKS_FOR_ANY:
            raise PreconditionFailed(
                f"Invalid {MATCH} field value '{rule}' for a binding of {where}; "
                "expected all, any, all-with-x, or any-with-x"
            )

    def match(self, routing_key: str, headers: Headers) -> Iterator[Destination]:
        present = _present(headers())
        for field in self._any.keys() & present:
            for binding in self._any[field]:
                yield binding.destination
        for node in _agreeing(self._all, present):
            if node.bindings:
                for binding in node.bindings:
                    yield binding.destination

    def _add(self, binding: Binding) -> None:
        fields = _wanted(binding)
        if not _asks_for_any(binding):
            self._all.add(fields, binding)
            return
        for field in fields:
            self._any.setdefault(field, {})[binding] = None

    def _remove(self, binding: Binding) -> None:
        fields = _wanted(binding)
        if not _asks_for_any(binding):
            self._all.remove(fields, binding)
            return
        for field in fields:
            same = self._any[field]
            del same[binding]
            if not same:
                del self._any[field]


def _agreeing(root: TrieNode[Field], present: set[Field]) -> Iterator[TrieNode[Field]]:
    """Nodes whose path has no field that is missing from the message."""
    pending = [root]
    while pending:
        node = pending.pop()
        yield node
        steps = node.steps
        if steps:
            # The smaller of the two is walked, the larger one asked.
            pending.extend([steps[field] for field in steps.keys() & present])


def _present(table: Arguments) -> set[Field]:
    """Everything a binding could ask for and find in this table."""
    fields: set[Field] = {(name, _comparable(value)) for name, value in table.items()}
    fields.update((name, None) for name in table)
    return fields


def _wanted(binding: Binding) -> list[Field]:
    """What a binding asks for, by name, so that bindings with a beginning in common share it."""
    arguments = binding.arguments or {}
    counts_x = _rule(arguments).endswith("-with-x")
    return [
        (name, _comparable(arguments[name]))
        for name in sorted(arguments)
        if name != MATCH and (counts_x or not name.startswith("x-"))
    ]


def _asks_for_any(binding: Binding) -> bool:
    return _ASKS_FOR_ANY.get(_rule(binding.arguments or {}), False)


def _rule(arguments: Arguments) -> str:
    return str(arguments.get(MATCH, "all"))


def _comparable(value: Any) -> Hashable:
    """Equal for field values that AMQP calls equal, and for no others: numbers whatever their size, octets as text."""
    convert = _CONVERSIONS.get(type(value))
    return value if convert is None else convert(value)


def _octets(value: bytes | bytearray) -> Hashable:
    return str(value, "utf-8", "surrogateescape")


def _table(value: Arguments) -> Hashable:
    return "table", tuple((name, _comparable(value[name])) for name in sorted(value))


def _array(value: list[Any]) -> Hashable:
    return "array", tuple(map(_comparable, value))


def _timestamp(value: datetime) -> Hashable:
    return int((value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp())


# For Python True == 1 and Decimal(1) == 1, but neither a boolean nor a decimal is a number on the wire.
_CONVERSIONS: Final[dict[type, Callable[[Any], Hashable]]] = {
    bool: lambda value: ("bool", value),
    Decimal: lambda value: ("decimal", value),
    bytes: _octets,
    bytearray: _octets,
    datetime: _timestamp,
    dict: _table,
    list: _array,
}
