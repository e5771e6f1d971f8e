"""Properties go from JSON into messages and back, and what is none is refused with its name."""

from typing import Any

import msgspec
import pytest

from ipc.wire.amqp import amending, properties
from runtime.management.errors import BadRequest
from runtime.management.message_properties import Properties, decoded, encoded

ALL: dict[str, Any] = {
    "content_type": "text/plain",
    "content_encoding": "gzip",
    "headers": {"a": 1, "b": 1.1, "c": [True, None, {"d": "ä"}], "n" * 200: 2**40},
    "delivery_mode": 2,
    "priority": 255,
    "correlation_id": "c",
    "reply_to": "r",
    "expiration": "1000",
    "message_id": "m",
    "timestamp": 2**63,
    "type": "t",
    "user_id": "u",
    "app_id": "a",
    "cluster_id": "x",
}


def header(said: dict[str, Any]) -> bytes:
    return amending.put_together(0, encoded(msgspec.convert(said, Properties)))


def test_all_properties_come_back_as_they_were_said() -> None:
    assert decoded(header(ALL)) == ALL


@pytest.mark.parametrize("name", ALL)
def test_each_property_comes_back_alone(name: str) -> None:
    assert decoded(header({name: ALL[name]})) == {name: ALL[name]}


def test_what_is_written_is_what_a_broker_accepts() -> None:
    facts = properties.inspect(header(ALL))

    assert (facts.is_persistent, facts.priority, facts.expires, facts.user_id) == (True, 255, True, b"u")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"message_id": "m" * 256}, "message_id cannot be encoded: 256 bytes"),
        ({"timestamp": 2**64}, "timestamp cannot be encoded"),
        ({"headers": {"n": 2**64}}, "headers cannot be encoded: n: a number of more than 64 bits"),
    ],
)
def test_what_has_no_room_is_refused_by_name(said: dict[str, Any], told: str) -> None:
    with pytest.raises(BadRequest, match=told):
        header(said)
