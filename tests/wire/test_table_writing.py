"""Field tables are written so that nothing is lost when they are read again."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.limits import TABLE_NESTING_MAX
from ipc.wire.amqp.table_writing import encode_table
from ipc.wire.amqp.tables import decode_table

_names = st.text(max_size=60).filter(lambda name: len(name.encode()) <= 255)
_values: Any = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_names, inner, max_size=4),
    max_leaves=20,
)


def read(table: bytes) -> dict[str, Any]:
    return decode_table(table, 0, len(table))


@given(st.dictionaries(_names, _values, max_size=6))
def test_what_was_written_is_read_again(table: dict[str, Any]) -> None:
    assert read(encode_table(table)) == table


def test_long_names_of_fields_are_not_cut() -> None:
    assert read(encode_table({"n" * 255: 1})) == {"n" * 255: 1}


def test_times_decimals_and_bytes_are_written() -> None:
    table = {"t": datetime(2026, 1, 2, tzinfo=UTC), "d": Decimal("1.5"), "x": b"\xff"}

    assert read(encode_table(table)) == table | {"x": bytearray(b"\xff")}


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"n": 2**63}, "64 bits"),
        ({"n" * 256: 1}, "256 bytes"),
        ({"n": {1, 2}}, "no room for set"),
        ({"n": "\ud800"}, "surrogates"),
    ],
)
def test_what_no_table_has_room_for_is_refused(table: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        encode_table(table)


def test_tables_nested_deeper_than_a_broker_reads_are_refused() -> None:
    table: dict[str, Any] = {}
    for _ in range(TABLE_NESTING_MAX):
        table = {"t": table}

    with pytest.raises(ValueError, match="levels"):
        encode_table(table)
    assert read(encode_table(table["t"])) == table["t"]
