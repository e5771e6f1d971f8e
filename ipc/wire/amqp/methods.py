"""Control methods as typed objects, on pamqp; `basic.publish`, `deliver` and `ack` of the hot path do without them.

pamqp checks names against a narrow regular expression when it *encodes*; brokers accept any UTF-8, so replies are
encoded here from its field types without that check. It also takes what is there when a string claims to be longer, and
its tables cost quadratic time, so arguments are read here, too.
"""

import struct
from collections.abc import Callable
from typing import Any, Final

from pamqp import base, commands, encode

from ipc.errors import NotImplementedRefusal, SyntaxRefused
from ipc.wire.amqp import frames
from ipc.wire.amqp.fields import FieldReader

Method = base.Frame

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


def _read_fields(method: Method, fields: FieldReader) -> None:
    octet = bit = 0
    for field in method.__slots__:
        kind = method.amqp_type(field)
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
    for field in method.__slots__:
        kind = method.amqp_type(field)
        value: Any = getattr(method, field)
        if kind == "bit":
            bits |= bool(value) << bit
            bit += 1
            continue
        if bit:
            parts.append(bytes((bits,)))
            bits = bit = 0
        parts.append(encode.by_type(value, kind))
    if bit:
        parts.append(bytes((bits,)))
    return b"".join(parts)
