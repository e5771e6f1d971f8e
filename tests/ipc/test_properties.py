"""Content headers: the facts the broker needs are found, whatever else is in them, and what is broken is refused."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands

from ipc.errors import FrameError, PreconditionFailed, Refusal, SyntaxRefused
from ipc.wire.amqp import properties

texts = st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
every_property = st.fixed_dictionaries(
    {
        "content_type": texts,
        "content_encoding": texts,
        "headers": st.one_of(st.none(), st.dictionaries(st.text("ab", min_size=1, max_size=3), st.integers(-5, 5))),
        "delivery_mode": st.sampled_from([None, 1, 2]),
        "priority": st.one_of(st.none(), st.integers(0, 255)),
        "correlation_id": texts,
        "reply_to": texts,
        "expiration": st.one_of(st.none(), st.integers(0, 315_360_000_000).map(str)),
        "message_id": texts,
        "timestamp": st.one_of(st.none(), st.just(datetime(2024, 2, 29, 12, tzinfo=UTC))),
        "message_type": texts,
        "user_id": texts,
        "app_id": texts,
    }
)


def payload(size_bytes: int = 5, **given_properties: Any) -> bytes:
    marshalled = commands.Basic.Properties(**given_properties).marshal()
    return b"\x00\x3c\x00\x00" + size_bytes.to_bytes(8, "big") + marshalled


@given(every_property)
def test_facts_are_found_among_any_other_properties(given_properties: dict[str, Any]) -> None:
    header = payload(**given_properties)

    facts = properties.inspect(header)

    # What pamqp does not send, it was not given: 0 and "" among the numbers and texts.
    sent = commands.Basic.Properties()
    sent.unmarshal(int.from_bytes(header[12:14], "big"), header[14:])
    assert facts.is_persistent is (sent.delivery_mode == 2)
    assert facts.priority == (sent.priority or 0)
    assert facts.expires is bool(sent.expiration)
    assert (facts.user_id or b"") == (sent.user_id or "").encode()
    assert properties.headers(header, facts) == (sent.headers or {})


@pytest.mark.parametrize("expiration", ["0", "60000", "+5", "0060", "315360000000"])
def test_an_expiration_is_any_whole_number_of_milliseconds(expiration: str) -> None:
    assert properties.inspect(payload(expiration=expiration)).expires


@pytest.mark.parametrize(
    ("expiration", "reason"),
    [
        ("soon", "no_integer"),
        (" 60", "no_integer"),
        ("-1", "{value_negative,-1}"),
        ("60s", '{leftover_string,"s"}'),
        ("1.5", '{leftover_string,".5"}'),
        ("1_000", '{leftover_string,"_000"}'),
        ("٣", "no_integer"),
    ],
)
def test_an_expiration_that_is_none_is_refused_in_rabbitmqs_words(expiration: str, reason: str) -> None:
    with pytest.raises(PreconditionFailed) as refused:
        properties.inspect(payload(expiration=expiration))

    assert refused.value.text == f"invalid expiration '{expiration}': {reason}"


def test_only_a_pseudo_queues_name_in_reply_to_is_to_be_replaced() -> None:
    for name in properties.REPLY_QUEUES:
        header = payload(headers={"a": 1}, reply_to=name, message_id="7")
        at = properties.inspect(header).reply_to_at
        assert header[at + 1 : at + 1 + header[at]] == name.encode()
    assert properties.inspect(payload(reply_to="amq.rabbitmq.reply-to.name")).reply_to_at == 0
    assert properties.inspect(payload(correlation_id="amq.rabbitmq.reply-to")).reply_to_at == 0


def test_headers_that_may_carry_routing_keys_are_noticed() -> None:
    assert properties.inspect(payload(headers={"CC": ["a"]})).may_have_copies
    assert properties.inspect(payload(headers={"x": 1, "BCC": ["a"]})).may_have_copies
    assert not properties.inspect(payload(headers={"cc": ["a"], "ACCT": "b"})).may_have_copies
    assert not properties.inspect(payload(correlation_id="CC")).may_have_copies


@given(every_property, st.data())
def test_a_header_cut_anywhere_is_refused(given_properties: dict[str, Any], data: st.DataObject) -> None:
    header = payload(**given_properties)
    cut = data.draw(st.integers(properties.FIXED_BYTES, len(header)))

    if cut == len(header):
        properties.inspect(header)
    else:
        with pytest.raises(SyntaxRefused):
            properties.inspect(header[:cut])


@given(every_property, st.binary(min_size=1, max_size=3))
def test_a_header_that_goes_on_behind_its_properties_is_refused(given_properties: dict[str, Any], more: bytes) -> None:
    with pytest.raises(SyntaxRefused):
        properties.inspect(payload(**given_properties) + more)


@given(st.binary(min_size=2, max_size=60))
def test_random_properties_are_inspected_or_refused(rest: bytes) -> None:
    header = b"\x00\x3c\x00\x00" + bytes(8) + rest
    try:
        facts = properties.inspect(header)
    except Refusal:
        return
    try:
        properties.headers(header, facts)
    except SyntaxRefused:
        return


@pytest.mark.parametrize("size_bytes", [0, 5, 2**63, 2**64 - 1])
def test_the_body_size_is_read(size_bytes: int) -> None:
    assert properties.body_size(payload(size_bytes)) == size_bytes


@pytest.mark.parametrize("header", [b"", bytes(13), b"\x00\x3d" + bytes(12), b"\x00\x3c\x00\x01" + bytes(10)], ids=len)
def test_a_header_that_is_none_is_refused(header: bytes) -> None:
    with pytest.raises(FrameError):
        properties.body_size(header)


@pytest.mark.parametrize("flags", [1, 2, 3])
def test_flags_beyond_those_of_the_class_are_refused(flags: int) -> None:
    with pytest.raises(SyntaxRefused):
        properties.inspect(b"\x00\x3c" + bytes(10) + flags.to_bytes(2, "big"))


def test_only_delivery_mode_two_is_persistent() -> None:
    found = {mode: properties.inspect(b"\x00\x3c" + bytes(10) + b"\x10\x00" + bytes((mode,))) for mode in range(256)}

    assert [mode for mode, facts in found.items() if facts.is_persistent] == [2]


def test_a_header_table_that_cannot_be_walked_is_refused_at_once() -> None:
    with pytest.raises(SyntaxRefused):
        properties.inspect(b"\x00\x3c" + bytes(10) + b"\x20\x00" + b"\x00\x00\x00\x03\x01a?")


def test_every_flag_has_a_place() -> None:
    flags = [flag for flag, _size in properties.LAYOUT]

    assert flags == [1 << bit for bit in range(15, 1, -1)]
