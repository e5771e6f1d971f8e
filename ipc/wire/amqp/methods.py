"""Control methods as typed objects, on pamqp; `basic.publish`, `deliver` and `ack` of the hot path do without them.

pamqp checks names against a narrow regular expression when it *encodes*; brokers accept any UTF-8, so replies are
encoded here from its field types without that check. It also takes what is there when a string claims to be longer, its
tables cost quadratic time and come out with less than went in, so arguments are read and written here, too.
"""

import struct
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

from pamqp import base, commands, encode

from ipc.errors import NotImplementedRefusal, SyntaxRefused
from ipc.wire.amqp import frames
from ipc.wire.amqp.fields import FieldReader
from ipc.wire.amqp.table_writing import encode_table

Method = base.Frame
Made = TypeVar("Made", bound=Method)

_INDEX: Final = struct.Struct(">I")


def decode(payload: bytes) -> Method:
    """The method in a method frame's payload.

    Raises NotImplementedRefusal (540) for a class or method that does not exist and SyntaxRefused (502) for fields that
    cannot be read or are followed by something else.
    """
    if len(payload) < _INDEX.size:
        raise SyntaxRefused("method frame of fewer than four bytes")
    (index,) = _INDEX.unpack_from(payload)
    kind: type[Method] | None = commands.INDEX_MAPPING.get(index)
    if kind is None:
        raise NotImplementedRefusal(f"no method {index & 0xFFFF} in class {index >> 16}")
    method = kind.__new__(kind)  # every field is read; the constructor would only validate and warn
    fields = FieldReader(payload, _INDEX.size)
    try:
        _read_fields(method, fields)
    except SyntaxRefused as fault:
        raise SyntaxRefused(f"{method.name} cannot be read: {fault.text}") from fault
    if fields.position != len(payload):
        raise SyntaxRefused(f"{method.name} does not end with its last field")
    return method


def name(index: int) -> str:
    """What a method that exists is called, `Connection.Open`; `index` holds its class in the high half."""
    return str(commands.INDEX_MAPPING[index].name)  # type: ignore[attr-defined]  # pamqp types the values as `type`


def make(kind: type[Made], **fields: Any) -> Made:
    """A method with any names: pamqp's constructors only allow what the specification's grammar does."""
    method = kind()
    for field, value in fields.items():
        setattr(method, field, value)
    return method


def frame(channel: int, method: Method) -> bytes:
    """A whole method frame, ready to be sent."""
    return frames.pack(frames.METHOD, channel, _INDEX.pack(method.index) + _fields(method))


_READERS: Final[dict[str, Callable[[FieldReader], Any]]] = {
    "octet": FieldReader.octet,
    "short": FieldReader.short,
    "long": FieldReader.long,
    "longlong": FieldReader.long_long,
    "shortstr": FieldReader.short_string,
    "longstr": FieldReader.long_string,
    "table": FieldReader.table,
}

_KINDS: Final[Iterable[type[Method]]] = commands.INDEX_MAPPING.values()

# Read off once. `amqp_type` puts a name together each time, and the interpreter's cache of attributes keeps thousands
# of those alive: strewn over the heap, they held on to much of what a shard needed at its peak (measured: 5 of 36 MB).
_FIELDS: Final[dict[type[Method], tuple[tuple[str, str], ...]]] = {
    kind: tuple((field, kind.amqp_type(field)) for field in kind.__slots__) for kind in _KINDS
}


def _read_fields(method: Method, fields: FieldReader) -> None:
    octet = bit = 0
    for field, kind in _FIELDS[type(method)]:
        if kind != "bit":
            bit = 0
            setattr(method, field, _READERS[kind](fields))
            continue
        if bit == 0:
            octet = fields.octet()
        setattr(method, field, bool(octet >> bit & 1))
        bit = (bit + 1) % 8


def _fields(method: Method) -> bytes:
    parts: list[bytes] = []
    bits = bit = 0
    for field, kind in _FIELDS[type(method)]:
        value: Any = getattr(method, field)
        if kind == "bit":
            bits |= bool(value) << bit
            bit += 1
            continue
        if bit:
            parts.append(bytes((bits,)))
            bits = bit = 0
        parts.append(encode_table(value or {}) if kind == "table" else encode.by_type(value, kind))
    if bit:
        parts.append(bytes((bits,)))
    return b"".join(parts)
