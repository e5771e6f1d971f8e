"""Content headers changed in some properties and headers; whatever nobody changes keeps its bytes.

Decoding and encoding again would change types: an int64 of 5 would come out as an int8. So a header is taken apart into
the bytes of its properties, its table into the bytes of its fields, and both are put together again.
"""

import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from ipc.wire.amqp import properties
from ipc.wire.amqp.properties import FIXED_BYTES
from ipc.wire.amqp.tables import raw_elements, raw_fields

HEADERS: Final = 1 << 13
EXPIRATION: Final = 1 << 8
TIMESTAMP: Final = 1 << 6

_FIXED: Final = struct.Struct(">HHQH")
_LENGTH: Final = struct.Struct(">I")
# How RabbitMQ reads them: both 64-bit kinds have a sign.
_INTEGERS: Final = {kind: struct.Struct(f">{code}") for kind, code in zip(b"bBsuIilL", "bBhHiIqq", strict=True)}
_UNSIGNED: Final = frozenset((b"B", b"u", b"i"))


def take_apart(payload: bytes) -> dict[int, bytes]:
    """The bytes of each property that is there, by its flag, in wire order; the header was inspected before."""
    flags = _FIXED.unpack_from(payload)[3]
    parts = {}
    at = FIXED_BYTES
    for flag, size in properties.LAYOUT:
        if flags & flag:
            end = at + _size(payload, at, size)
            parts[flag] = payload[at:end]
            at = end
    return parts


def put_together(body_bytes: int, parts: Mapping[int, bytes]) -> bytes:
    """A header's payload, for a body of this size."""
    flags = sum(parts)
    ordered = (parts[flag] for flag, _size in properties.LAYOUT if flag in parts)
    return _FIXED.pack(properties.BASIC_CLASS, 0, body_bytes, flags) + b"".join(ordered)


def with_property(payload: bytes, flag: int, value: bytes) -> bytes:
    """The header's payload with this property, whether it had one before or not."""
    return put_together(properties.body_size(payload), take_apart(payload) | {flag: value})


def with_header_field(payload: bytes, name: str, amended: Callable[[bytes], bytes]) -> bytes:
    """The same with this field of its headers as `amended` makes it of what was there, which may be empty bytes."""
    parts = take_apart(payload)
    fields = fields_of(parts.get(HEADERS, b""))
    fields[name] = amended(fields.get(name, b""))
    return put_together(properties.body_size(payload), parts | {HEADERS: table_of(fields)})


def fields_of(table: bytes) -> dict[str, bytes]:
    """Kind and value of each field, as bytes; `table` begins with its length. Empty bytes are an empty table."""
    return {name: table[start:end] for name, start, end in raw_fields(table, 0, len(table))} if table else {}


def raw_headers(payload: bytes, at: int) -> dict[str, bytes]:
    """The same of the header table at this index of a header's payload; 0: there is none."""
    return {name: payload[start:end] for name, start, end in raw_fields(payload, at, len(payload))} if at else {}


def table_of(fields: Mapping[str, bytes]) -> bytes:
    """The opposite of `fields_of`."""
    content = b"".join(_name(name) + value for name, value in fields.items())
    return _LENGTH.pack(len(content)) + content


def elements_of(value: bytes) -> list[bytes]:
    """Kind and value of each element of an array; nothing for what is none."""
    return [value[start:end] for start, end in raw_elements(value, 1)] if value[:1] == b"A" else []


def text_of(value: bytes) -> str:
    """A string field's value; empty for anything else."""
    return str(value[1 + _LENGTH.size :], "utf-8", "replace") if value[:1] == b"S" else ""


def number_of(value: bytes) -> int:
    """The value `number` made; 0 for anything else."""
    return int(struct.unpack_from(">q", value, 1)[0]) if value[:1] == b"l" else 0


def integer_of(value: bytes) -> int | None:
    """The value of an integer field of any size; None for anything else."""
    layout = _INTEGERS.get(value[0]) if value else None
    return None if layout is None else int(layout.unpack_from(value, 1)[0])


# kind and value -----------------------------------------------------------------------------------------------------


def text(value: str) -> bytes:
    encoded = value.encode()
    return b"S" + _LENGTH.pack(len(encoded)) + encoded


def number(value: int) -> bytes:
    return b"l" + struct.pack(">q", value)


def integer(value: int, kind: bytes) -> bytes:
    """An integer field of this kind, or of 64 bits where that has no room for its sign."""
    if value < 0 and kind in _UNSIGNED:
        return number(value)
    return kind + _INTEGERS[kind[0]].pack(value)


def moment(milliseconds: int) -> bytes:
    """A timestamp, which has whole seconds."""
    return b"T" + struct.pack(">Q", milliseconds // 1000)


def array(values: Iterable[bytes]) -> bytes:
    content = b"".join(values)
    return b"A" + _LENGTH.pack(len(content)) + content


def table(fields: Mapping[str, bytes]) -> bytes:
    return b"F" + table_of(fields)


def _name(name: str) -> bytes:
    encoded = name.encode("utf-8", "surrogateescape")
    return bytes((len(encoded),)) + encoded


def _size(payload: bytes, at: int, size: int) -> int:
    if size == 0:
        return 1 + payload[at]
    return _LENGTH.size + int(_LENGTH.unpack_from(payload, at)[0]) if size == -1 else size
