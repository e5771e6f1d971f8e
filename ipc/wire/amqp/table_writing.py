"""Field tables as bytes: what `tables.py` reads, written without loss.

pamqp would cut the names of fields to 128 bytes and numbers with a fraction to 32 bits. Whole numbers become what every
client knows: 32 bits with a sign, else 64.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from pamqp import encode

from ipc.limits import TABLE_NESTING_MAX

_LENGTH: Final = struct.Struct(">I")
_INT: Final = struct.Struct(">i")
_LONG: Final = struct.Struct(">q")
_DOUBLE: Final = struct.Struct(">d")
_INT_MAX: Final = 2**31 - 1
_LONG_MAX: Final = 2**63 - 1
_NAME_BYTES_MAX: Final = 255


def encode_table(table: Mapping[str, Any]) -> bytes:
    """With its length in front. Raises ValueError, which says what, for a value that no table has room for."""
    return _table(table, TABLE_NESTING_MAX)


def _table(table: Mapping[str, Any], levels: int) -> bytes:
    if not levels:
        raise ValueError(f"more than {TABLE_NESTING_MAX} levels of tables within tables")
    parts = []
    for name, value in table.items():
        encoded = name.encode()
        if len(encoded) > _NAME_BYTES_MAX:
            raise ValueError(f"the name of a field has {len(encoded)} bytes, which is more than {_NAME_BYTES_MAX}")
        parts.append(bytes((len(encoded),)) + encoded + _value(name, value, levels - 1))
    return _long(b"".join(parts))


def _array(items: Sequence[Any], levels: int) -> bytes:
    if not levels:
        raise ValueError(f"more than {TABLE_NESTING_MAX} levels of tables within tables")
    return _long(b"".join(_value("an array", item, levels - 1) for item in items))


def _long(content: bytes) -> bytes:
    return _LENGTH.pack(len(content)) + content


def _value(where: str, value: Any, levels: int) -> bytes:
    for kind, write in _WRITERS:
        if isinstance(value, kind):
            return write(where, value, levels)
    raise ValueError(f"{where[:64]}: a field table has no room for {type(value).__name__}")


def _number(where: str, value: int, _levels: int) -> bytes:
    if -_INT_MAX - 1 <= value <= _INT_MAX:
        return b"I" + _INT.pack(value)
    if -_LONG_MAX - 1 <= value <= _LONG_MAX:
        return b"l" + _LONG.pack(value)
    raise ValueError(f"{where[:64]}: a number of more than 64 bits")


# `bool` before `int`, whose kind it is as well.
_WRITERS: Final[tuple[tuple[type | tuple[type, ...], Callable[[str, Any, int], bytes]], ...]] = (
    (str, lambda _where, value, _levels: b"S" + _long(value.encode())),
    (bool, lambda _where, value, _levels: b"t\x01" if value else b"t\x00"),
    (int, _number),
    (float, lambda _where, value, _levels: b"d" + _DOUBLE.pack(value)),
    (type(None), lambda _where, _value, _levels: b"V"),
    (Mapping, lambda _where, value, levels: b"F" + _table(value, levels)),
    ((list, tuple), lambda _where, value, levels: b"A" + _array(value, levels)),
    ((bytes, bytearray), lambda _where, value, _levels: b"x" + _long(bytes(value))),
    (datetime, lambda _where, value, _levels: b"T" + encode.timestamp(value)),
    (Decimal, lambda _where, value, _levels: b"D" + encode.decimal(value)),
)
