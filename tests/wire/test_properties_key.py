"""Bindings are named as RabbitMQ names them."""

import pytest

from ipc.wire.amqp.properties_key import properties_key


@pytest.mark.parametrize(
    ("routing_key", "key"),
    [("", "~"), ("k", "k"), ("a b#~/", "a+b%23%7E%2F"), ("news.*", "news.%2A"), ("ä", "%C3%A4")],
)
def test_without_arguments_it_is_the_routing_key_as_a_form_sends_it(routing_key: str, key: str) -> None:
    assert properties_key(routing_key, {}) == key


def test_arguments_are_told_apart_by_a_hash() -> None:
    one, other = properties_key("k", {"n": 1}), properties_key("k", {"n": 2})

    assert one.startswith("k~") and other.startswith("k~")
    assert one != other


def test_the_order_of_arguments_makes_no_difference() -> None:
    assert properties_key("", {"a": 1, "b": 2}) == properties_key("", {"b": 2, "a": 1})
