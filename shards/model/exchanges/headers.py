"""Headers exchange: a message goes where its header table agrees with the binding's arguments.

`x-match`: `all` (default) or `any` of the arguments whose names do not begin with `x-`; `all-with-x` and `any-with-x`
count those too. An argument without value (void) asks only for presence.
"""

from collections.abc import Callable, Iterable
from typing import Any

from ipc.errors import PreconditionFailed
from shards.model.bindings import Arguments, Binding, Destination
from shards.model.exchanges.exchange import Exchange, Headers

_QUANTIFIER: dict[str, tuple[Callable[[Iterable[bool]], bool], bool]] = {
    "all": (all, False),
    "any": (any, False),
    "all-with-x": (all, True),
    "any-with-x": (any, True),
}


class HeadersExchange(Exchange):
    """Looks at every binding; keys do not matter."""

    __slots__ = ()
    type = "headers"
    routes_by_key = False

    def match(self, routing_key: str, headers: Headers) -> Iterable[Destination]:
        table = headers()
        return (binding.destination for binding in self._bindings.values() if agrees(binding.arguments or {}, table))

    def _add(self, binding: Binding) -> None:
        pass

    def _remove(self, binding: Binding) -> None:
        pass


def check_match_argument(arguments: Arguments) -> None:
    """Raises PreconditionFailed (406) for an `x-match` nobody knows."""
    rule = arguments.get("x-match", "all")
    if not isinstance(rule, str) or rule not in _QUANTIFIER:
        raise PreconditionFailed(f"invalid x-match field value {rule!r}; expected one of {', '.join(_QUANTIFIER)}")


def agrees(arguments: Arguments, table: Arguments) -> bool:
    """Whether a message with this header table matches a binding with these arguments."""
    quantifier, counts_x = _QUANTIFIER[arguments.get("x-match", "all")]
    wanted = [
        (name, value)
        for name, value in arguments.items()
        if name != "x-match" and (counts_x or not name.startswith("x-"))
    ]
    return quantifier(_same(table, name, value) for name, value in wanted)


def _same(table: Arguments, name: str, value: Any) -> bool:
    if name not in table:
        return False
    # True == 1 in Python, but a boolean field is not a number on the wire.
    return value is None or (table[name] == value and isinstance(table[name], bool) == isinstance(value, bool))
