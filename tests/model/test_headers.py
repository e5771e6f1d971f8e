"""The headers exchange: all or any, with or without `x-` arguments, presence and equality by AMQP's types."""

from typing import Any

import pytest

from ipc.errors import PreconditionFailed
from shards.model.exchanges.headers import HeadersExchange, check_match_argument
from tests.model.making import bare_queue, bind, matches


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
        ({"x-match": "any", "x-a": 1}, {"x-a": 1}, False),
        ({"x-match": "any-with-x", "x-a": 1}, {"x-a": 1}, True),
        ({"x-match": "all", "x-a": 1, "b": 2}, {"b": 2}, True),
        ({"x-match": "all-with-x", "x-a": 1, "b": 2}, {"b": 2}, False),
        ({"a": None}, {"a": "whatever"}, True),
        ({"a": None}, {}, False),
        ({"a": 1}, {"a": True}, False),
        ({"a": True}, {"a": 1}, False),
        ({"a": True}, {"a": True}, True),
        ({"a": "1"}, {"a": 1}, False),
        ({"a": {"b": [1]}}, {"a": {"b": [1]}}, True),
    ],
)
def test_a_message_matches_by_its_header_table(arguments: Any, headers: Any, is_match: bool) -> None:
    exchange = HeadersExchange("matching")
    bind(exchange, bare_queue(), "keys do not matter", arguments)

    assert bool(matches(exchange, "none", headers)) is is_match


@pytest.mark.parametrize("rule", ["most", "", 1, True, None, [], {}])
def test_an_unknown_rule_is_refused(rule: Any) -> None:
    with pytest.raises(PreconditionFailed):
        check_match_argument({"x-match": rule})


def test_bindings_that_differ_in_arguments_alone_are_two() -> None:
    exchange = HeadersExchange("matching")
    queue = bare_queue()
    bind(exchange, queue, "", {"a": 1})
    second = bind(exchange, queue, "", {"a": 2})

    exchange.unbind(second)

    assert matches(exchange, "", {"a": 1})
    assert not matches(exchange, "", {"a": 2})


def test_routes_are_not_decided_by_the_key() -> None:
    assert not HeadersExchange.routes_by_key
