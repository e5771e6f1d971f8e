"""Field tables: checked for shape before anybody decodes them, then decoded in time linear in their size.

`length u32 | (name shortstr | kind u8 | value)*` (specification §4.2.5.5, kinds as in RabbitMQ's errata). pamqp decodes
tables recursively and copies the rest of the buffer for every field, so here pamqp sees single values only, and never a
table that was not walked first: the walk is iterative, allocates nothing per field and knows two limits.
"""

import struct
from collections.abc import Iterator
from typing import Any, Final

from pamqp import decode

from ipc.errors import SyntaxRefused
from ipc.limits import TABLE_FIELDS_MAX, TABLE_NESTING_MAX

Buffer = bytes | bytearray | memoryview

_LENGTH: Final = struct.Struct(">I")
_TABLE: Final = ord("F")
_ARRAY: Final = ord("A")
_MEASURED: Final = frozenset(b"SxFA")  # kinds that bring their own length
_SIZES: Final = {
    **dict.fromkeys(b"V\x00", 0),
    **dict.fromkeys(b"tbB", 1),
    **dict.fromkeys(b"su", 2),
    **dict.fromkeys(b"Iif", 4),
    **dict.fromkeys(b"D", 5),
    **dict.fromkeys(b"lLdT", 8),
}
_DECODERS: Final = {kind[0]: decoder for kind, decoder in decode.TABLE_MAPPING.items()}


def check_table(buffer: Buffer, start: int, end: int) -> None:
    """Walk the table whose length prefix is at `start` and which must not pass `end`.

    Raises SyntaxRefused (502) for lengths that do not nest, an unknown kind, more than TABLE_FIELDS_MAX fields or more
    than TABLE_NESTING_MAX levels. What passes can be decoded; only text that is not UTF-8 and dates that do not exist
    are still found out then.
    """
    _check_fields(buffer, start + _LENGTH.size, table_end(buffer, start, end))


def table_end(buffer: Buffer, start: int, end: int) -> int:
    """Where the table whose length prefix is at `start` ends; raises SyntaxRefused when that is beyond `end`."""
    if end - start < _LENGTH.size:
        raise SyntaxRefused("field table without its length")
    (size,) = _LENGTH.unpack_from(buffer, start)
    if start + _LENGTH.size + size > end:
        raise SyntaxRefused("field table is longer than what holds it")
    return int(start + _LENGTH.size + size)


def decode_table(buffer: Buffer, start: int, end: int) -> dict[str, Any]:
    """The checked and decoded table whose length prefix is at `start`; values as pamqp represents them."""
    return decode_fields(buffer, start + _LENGTH.size, table_end(buffer, start, end))


def decode_fields(buffer: Buffer, start: int, end: int) -> dict[str, Any]:
    """The same for a table without its length prefix, as AMQPLAIN sends it."""
    _check_fields(buffer, start, end)
    try:
        return _table(buffer, start, end)
    except (ValueError, OverflowError, OSError, ArithmeticError) as fault:
        raise SyntaxRefused("a value in a field table cannot be read") from fault


def raw_fields(buffer: Buffer, start: int, end: int) -> Iterator[tuple[str, int, int]]:
    """Name, and where kind and value begin and end, of each field of a checked table with its length prefix.

    Octets of a name that are no UTF-8 come as lone surrogates, from which the same octets can be made again.
    """
    position = start + _LENGTH.size
    limit = table_end(buffer, start, end)
    while position < limit:
        kind_at = position + 1 + buffer[position]
        name = str(buffer[position + 1 : kind_at], "utf-8", "surrogateescape")
        position = _value_end(buffer, kind_at)
        yield name, kind_at, position


def raw_elements(buffer: Buffer, start: int) -> Iterator[tuple[int, int]]:
    """Where kind and value of each element begin and end, of a checked array with its length prefix."""
    position = start + _LENGTH.size
    limit = position + _LENGTH.unpack_from(buffer, start)[0]
    while position < limit:
        end = _value_end(buffer, position)
        yield position, end
        position = end


def _value_end(buffer: Buffer, kind_at: int) -> int:
    kind = buffer[kind_at]
    start = kind_at + 1
    if kind in _MEASURED:
        return int(start + _LENGTH.size + _LENGTH.unpack_from(buffer, start)[0])
    return start + _SIZES[kind]


def _check_fields(buffer: Buffer, start: int, end: int) -> None:
    position = start
    ends, keyed = [end], [True]
    fields = 0
    while ends:
        limit = ends[-1]
        if position == limit:
            ends.pop()
            keyed.pop()
            continue
        fields += 1
        if fields > TABLE_FIELDS_MAX:
            raise SyntaxRefused(f"field table of more than {TABLE_FIELDS_MAX} fields")
        if keyed[-1]:
            position += 1 + buffer[position]
        if position >= limit:
            raise SyntaxRefused("field name is longer than its table")
        kind = buffer[position]
        position += 1
        size = _SIZES.get(kind)
        if size is None:
            size = _measure(buffer, kind, position, limit)
            position += _LENGTH.size
        if position + size > limit:
            raise SyntaxRefused("field value is longer than its table")
        if kind in (_TABLE, _ARRAY):
            if len(ends) == TABLE_NESTING_MAX:
                raise SyntaxRefused(f"field table nested deeper than {TABLE_NESTING_MAX} levels")
            ends.append(position + size)
            keyed.append(kind == _TABLE)
        else:
            position += size


def _measure(buffer: Buffer, kind: int, position: int, limit: int) -> int:
    if kind not in _MEASURED:
        raise SyntaxRefused(f"unknown field kind 0x{kind:02X}")
    if limit - position < _LENGTH.size:
        raise SyntaxRefused("field value without its length")
    (size,) = _LENGTH.unpack_from(buffer, position)
    return int(size)


# From here on the shape is known to be sound: nothing is checked twice, and recursion ends at TABLE_NESTING_MAX.


def _table(buffer: Buffer, position: int, end: int) -> dict[str, Any]:
    table = {}
    while position < end:
        name_end = position + 1 + buffer[position]
        name = str(buffer[position + 1 : name_end], "utf-8")
        table[name], position = _value(buffer, name_end)
    return table


def _array(buffer: Buffer, position: int, end: int) -> list[Any]:
    values = []
    while position < end:
        value, position = _value(buffer, position)
        values.append(value)
    return values


def _value(buffer: Buffer, position: int) -> tuple[Any, int]:
    kind = buffer[position]
    start = position + 1
    if kind not in _MEASURED:
        end = start + _SIZES[kind]
        return _DECODERS[kind](bytes(buffer[start:end]))[1], end
    (size,) = _LENGTH.unpack_from(buffer, start)
    content = start + _LENGTH.size
    end = content + size
    if kind == _TABLE:
        return _table(buffer, content, end), end
    if kind == _ARRAY:
        return _array(buffer, content, end), end
    return _DECODERS[kind](bytes(buffer[start:end]))[1], end
