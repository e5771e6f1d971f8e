"""Headers taken apart and put together again keep every byte that nobody changed."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands, encode

from ipc.wire.amqp import amending, properties


def payload(**facts: Any) -> bytes:
    return b"\0\x3c\0\0" + (5).to_bytes(8, "big") + commands.Basic.Properties(**facts).marshal()


def test_a_header_put_together_again_is_the_same() -> None:
    header = payload(content_type="text/plain", headers={"a": 1, "b": "two"}, delivery_mode=2, expiration="100")

    assert amending.put_together(5, amending.take_apart(header)) == header


def test_a_table_put_together_again_is_the_same() -> None:
    table = encode.field_table({"n": 5, "s": "text", "t": {"deep": [1, 2.5, None]}, "b": True})

    assert amending.table_of(amending.fields_of(table)) == table


@given(st.binary(min_size=1, max_size=255))
def test_a_name_that_is_no_text_keeps_its_octets(name: bytes) -> None:
    content = bytes((len(name),)) + name + b"t\x01"
    table = len(content).to_bytes(4, "big") + content

    assert amending.table_of(amending.fields_of(table)) == table


def test_a_property_can_be_left_out_and_another_added() -> None:
    parts = amending.take_apart(payload(expiration="100", message_id="m"))
    del parts[amending.EXPIRATION]
    parts[amending.HEADERS] = amending.table_of({"why": amending.text("expired")})

    amended = amending.put_together(5, parts)

    facts = properties.inspect(amended)
    assert not facts.expires
    assert properties.headers(amended, facts) == {"why": "expired"}
