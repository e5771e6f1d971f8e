"""The headers exchange: all or any, with or without `x-` arguments, presence and equality by AMQP's types."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.errors import PreconditionFailed
from shards.compaction.compactable import Compactable
from shards.model.bindings import Arguments
from shards.model.exchanges.headers import HeadersExchange
from tests.model.making import bare_queue, bind, matches

WHERE = "exchange 'matching' in vhost '/'"


@pytest.mark.parametrize(
    ("arguments", "headers", "is_match"),
    [
        ({"x-match": "all", "a": 1, "b": 2}, {"a": 1, "b": 2, "c": 3}, True),
        ({"x-match": "all", "a": 1, "b": 2}, {"a": 1}, False),
        ({"a": 1, "b": 2}, {"a": 1}, False),
        ({"x-match": "any", "a": 1, "b": 2}, {"b": 2}, True),
        ({"x-match": "any", "a": 1, "b": 2}, {"a": 2}, False),
        ({"x-match": "all"}, {}, True),
        ({"x-match": "any"}, {"a": 1}, False),
        ({}, {}, True),
        ({}, {"a": 1}, True),
        ({"x-match": "any", "x-a": 1}, {"x-a": 1}, False),
        ({"x-match": "any-with-x", "x-a": 1}, {"x-a": 1}, True),
        ({"x-match": "any-with-x"}, {"x-match": "any-with-x"}, False),
        ({"x-match": "all", "x-a": 1, "b": 2}, {"b": 2}, True),
        ({"x-match": "all-with-x", "x-a": 1, "b": 2}, {"b": 2}, False),
        ({"x-match": "all-with-x", "x-a": 1, "b": 2}, {"b": 2, "x-a": 1}, True),
        ({"a": None}, {"a": "whatever"}, True),
        ({"a": None}, {"a": None}, True),
        ({"a": None}, {}, False),
        ({"x-match": "any", "a": None, "b": 1}, {"a": 7}, True),
        ({"a": 1}, {"a": None}, False),
    ],
)
def test_a_message_matches_by_its_header_table(arguments: Any, headers: Any, is_match: bool) -> None:
    exchange = HeadersExchange("matching")
    bind(exchange, bare_queue(), "keys do not matter", arguments)

    assert bool(matches(exchange, "none", headers)) is is_match


@pytest.mark.parametrize(
    ("wanted", "found", "is_same"),
    [
        (1, 1.0, True),
        (1, True, False),
        (True, 1, False),
        (True, True, True),
        (0, False, False),
        ("1", 1, False),
        ("text", bytearray(b"text"), True),
        ("text", b"text", True),
        (b"\xff", bytearray(b"\xff"), True),
        (b"\xff", "\ufffd", False),
        (1, Decimal(1), False),
        (Decimal("1.5"), Decimal("1.5"), True),
        (1.5, Decimal("1.5"), False),
        (datetime(2024, 2, 29, tzinfo=UTC), datetime(2024, 2, 29, tzinfo=UTC), True),
        (datetime(2024, 2, 29, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC), False),
        ({"b": [1]}, {"b": [1]}, True),
        ({"b": [1]}, {"b": [True]}, False),
        ({"b": 1, "c": 2}, {"c": 2, "b": 1}, True),
        ([1, 2], [2, 1], False),
        ([], {}, False),
        ("", None, False),
    ],
)
def test_values_are_equal_as_amqp_sees_them(wanted: Any, found: Any, is_same: bool) -> None:
    exchange = HeadersExchange("matching")
    for rule in ("all", "any"):
        bind(exchange, bare_queue(rule), "", {"x-match": rule, "a": wanted})

    assert matches(exchange, "", {"a": found}) == ({"all", "any"} if is_same else set())


# against the definition -----------------------------------------------------------------------------------------------


def naive(arguments: Arguments, table: Arguments) -> bool:
    """RabbitMQ's rule, binding by binding."""
    rule = arguments.get("x-match", "all")
    quantifier: Callable[[list[bool]], bool] = any if rule.startswith("any") else all
    return quantifier(
        [
            name in table and (value is None or same(table[name], value))
            for name, value in arguments.items()
            if name != "x-match" and (rule.endswith("-with-x") or not name.startswith("x-"))
        ]
    )


def same(one: Any, other: Any) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


names = st.sampled_from(["a", "b", "c", "x-a", "x-b"])
values = st.one_of(st.none(), st.booleans(), st.sampled_from([0, 1, 1.0, 2, "", "1", [1], [True], [], {"a": 1}]))
tables = st.dictionaries(names, values, max_size=5)
rules = st.sampled_from([{}, *({"x-match": rule} for rule in ("all", "any", "all-with-x", "any-with-x"))])
argument_tables = st.builds(lambda rule, fields: {**fields, **rule}, rules, tables)


@given(st.lists(argument_tables, max_size=12), st.lists(tables, min_size=1, max_size=5), st.data())
def test_the_index_finds_what_a_naive_scan_finds(
    wanted: list[Arguments], messages: list[Arguments], data: st.DataObject
) -> None:
    exchange = HeadersExchange("matching")
    bindings = {
        str(number): bind(exchange, bare_queue(str(number)), "", arguments) for number, arguments in enumerate(wanted)
    }

    for message in messages:
        assert matches(exchange, "", message) == {
            name for name, binding in bindings.items() if naive(binding.arguments or {}, message)
        }
        if bindings:
            exchange.unbind(bindings.pop(data.draw(st.sampled_from(sorted(bindings)))))


# what it costs --------------------------------------------------------------------------------------------------------


class Counted(str):
    """A value that counts how often somebody looks at it."""

    looks = 0
    __slots__ = ()

    def __hash__(self) -> int:
        Counted.looks += 1
        return super().__hash__()

    def __eq__(self, other: object) -> bool:
        Counted.looks += 1
        return super().__eq__(other)


@pytest.mark.parametrize("rule", ["all", "any"])
def test_what_a_message_costs_does_not_depend_on_bindings_it_does_not_match(rule: str) -> None:
    """All of them ask for the same format too, which all messages have where it counts."""

    def looks(bindings: int) -> int:
        exchange = HeadersExchange("matching")
        shared = {"format": "pdf"} if rule == "all" else {}
        for number in range(bindings):
            bind(exchange, bare_queue(str(number)), "", {"x-match": rule, **shared, "number": str(number)})
        Counted.looks = 0
        assert matches(exchange, "", {"format": Counted("pdf"), "number": Counted("7")}) == {"7"}
        return Counted.looks

    assert looks(5_000) == looks(50)


def nodes(owner: Compactable) -> int:
    return 1 + sum(map(nodes, owner.children()))


def test_bindings_that_ask_for_the_same_share_its_memory_whatever_the_order() -> None:
    exchange = HeadersExchange("matching")
    bind(exchange, bare_queue("one"), "", {"a": 1, "b": 2, "c": 3})
    before = nodes(exchange)

    bind(exchange, bare_queue("two"), "", {"c": 3, "b": 2, "a": 1})

    assert nodes(exchange) == before
    assert matches(exchange, "", {"b": 2, "c": 3, "a": 1}) == {"one", "two"}


@given(st.lists(argument_tables, max_size=12), st.randoms())
def test_the_last_unbinding_leaves_nothing(wanted: list[Arguments], random: Any) -> None:
    exchange = HeadersExchange("matching")
    bindings = [bind(exchange, bare_queue(), "", arguments) for arguments in wanted]
    random.shuffle(bindings)

    for binding in bindings:
        exchange.unbind(binding)

    assert nodes(exchange) == nodes(HeadersExchange("fresh"))
    assert not matches(exchange, "", {"a": 1, "b": 1})


# refusals -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("most", "Invalid x-match field value 'most'"),
        ("", "Invalid x-match field value ''"),
        (1, "Invalid x-match field type signedint (value 1)"),
        (True, "Invalid x-match field type bool (value True)"),
        (None, "Invalid x-match field type void"),
        ([], "Invalid x-match field type array"),
        ({}, "Invalid x-match field type table"),
        (bytearray(b"all"), "Invalid x-match field type binary"),
    ],
)
def test_an_unknown_rule_is_refused_and_named(rule: Any, told: str) -> None:
    with pytest.raises(PreconditionFailed) as refused:
        HeadersExchange("matching").check_binding("", {"x-match": rule}, WHERE)

    assert refused.value.text.startswith(told)
    assert WHERE in refused.value.text


def test_bindings_that_differ_in_arguments_alone_are_two() -> None:
    exchange = HeadersExchange("matching")
    queue = bare_queue()
    bind(exchange, queue, "", {"a": 1})
    second = bind(exchange, queue, "", {"a": 2})

    exchange.unbind(second)

    assert matches(exchange, "", {"a": 1})
    assert not matches(exchange, "", {"a": 2})


def test_routes_are_not_decided_by_the_key() -> None:
    assert not HeadersExchange("matching").routes_by_key
