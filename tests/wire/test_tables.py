"""Field tables: sound ones are read like pamqp reads them, bombs are refused in bounded time."""

import datetime
import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import decode, encode
from pamqp.common import FieldTable

from ipc.errors import SyntaxRefused
from ipc.limits import TABLE_FIELDS_MAX, TABLE_NESTING_MAX
from ipc.wire.amqp.tables import check_table, decode_fields, decode_table, table_end

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.text("xyz€", max_size=20)
    | st.integers(0, 2**32 - 1).map(lambda seconds: datetime.datetime.fromtimestamp(seconds, datetime.UTC)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abcö", max_size=5), inner, max_size=4),
    max_leaves=20,
)
TABLES = st.dictionaries(st.text("abcö-.", max_size=12), VALUES, max_size=6)


@given(TABLES)
def test_a_table_is_read_as_pamqp_reads_it(table: FieldTable) -> None:
    raw = encode.field_table(table)

    check_table(raw, 0, len(raw))

    assert decode_table(raw, 0, len(raw)) == decode.field_table(raw)[1]


@given(TABLES, st.binary(max_size=9), st.binary(max_size=9))
def test_a_table_may_lie_anywhere_in_any_buffer(table: FieldTable, before: bytes, after: bytes) -> None:
    raw = encode.field_table(table)
    buffer = memoryview(bytearray(before + raw + after))

    assert table_end(buffer, len(before), len(buffer)) == len(before) + len(raw)
    assert decode_table(buffer, len(before), len(buffer)) == decode.field_table(raw)[1]


@given(TABLES)
def test_a_truncated_table_is_refused_at_every_byte(table: FieldTable) -> None:
    raw = encode.field_table(table)

    for size in range(len(raw)):
        with pytest.raises(SyntaxRefused):
            check_table(raw, 0, size)


@given(st.binary(max_size=200))
def test_whatever_passes_the_check_can_be_decoded_or_is_refused(content: bytes) -> None:
    try:
        decode_fields(content, 0, len(content))
    except SyntaxRefused:
        pass


def test_every_kind_of_value_is_known() -> None:
    kinds = {
        b"t\x01": True,
        b"b\xff": -1,
        b"B\xff": 255,
        b"s\xff\xff": -1,
        b"u\xff\xff": 65535,
        b"I\xff\xff\xff\xff": -1,
        b"i\xff\xff\xff\xff": 2**32 - 1,
        b"l" + b"\xff" * 8: -1,
        b"L" + b"\xff" * 8: -1,
        b"f\x00\x00\x00\x00": 0.0,
        b"d" + bytes(8): 0.0,
        b"S\x00\x00\x00\x02hi": "hi",
        b"x\x00\x00\x00\x02\x00\x01": b"\x00\x01",
        b"V": None,
        b"\x00": None,
        b"A\x00\x00\x00\x02t\x01": [True],
        b"F\x00\x00\x00\x00": {},
    }
    for raw, value in kinds.items():
        assert decode_fields(b"\x01k" + raw, 0, 2 + len(raw)) == {"k": value}


def test_nesting_is_allowed_up_to_the_limit_and_no_deeper() -> None:
    def nested(levels: int) -> bytes:
        table = b""
        for _ in range(levels - 1):
            table = b"\x00F" + struct.pack(">I", len(table)) + table
        return table

    allowed, bomb = nested(TABLE_NESTING_MAX), nested(TABLE_NESTING_MAX + 1)

    decode_fields(allowed, 0, len(allowed))
    with pytest.raises(SyntaxRefused, match="nested deeper"):
        decode_fields(bomb, 0, len(bomb))


def test_a_table_of_very_many_fields_is_refused() -> None:
    bomb = b"\x00V" * (TABLE_FIELDS_MAX + 1)

    with pytest.raises(SyntaxRefused, match="more than"):
        decode_fields(bomb, 0, len(bomb))


def test_the_largest_table_is_read_in_linear_time() -> None:
    """pamqp alone copies 16 MiB for each of 4096 fields here and takes many seconds."""
    table = b"\x00V" * (TABLE_FIELDS_MAX - 1) + b"\x00S" + struct.pack(">I", 16 << 20) + bytes(16 << 20)

    began = time.perf_counter()
    decode_fields(table, 0, len(table))

    assert time.perf_counter() - began < 1.0


@pytest.mark.parametrize(
    "fields",
    [
        b"\x01kS\x00\x00\x00\x09short",
        b"\x01k?",
        b"\x09k",
        b"\x01",
        b"\x01kA\x00\x00\x00\x02S\x00",
        b"\x01kT" + b"\xff" * 8,
        b"\x01\xffV",
        b"\x01kF\x00\x00\x00\x02\x05a",
    ],
    ids=[
        "long string",
        "unknown kind",
        "long name",
        "name only",
        "array",
        "year 292 million",
        "not UTF-8",
        "inner name",
    ],
)
def test_unsound_fields_are_refused(fields: bytes) -> None:
    with pytest.raises(SyntaxRefused):
        decode_fields(fields, 0, len(fields))
