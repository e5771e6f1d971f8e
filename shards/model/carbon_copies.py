"""`CC` and `BCC`, headers with more routing keys, of which nobody is shown the second: sender-selected distribution."""

import struct
from typing import Final

from ipc.errors import PreconditionFailed
from ipc.wire.amqp import amending
from ipc.wire.amqp.properties import COPY_HEADERS, Facts
from ipc.wire.amqp.tables import raw_fields

_HIDDEN: Final = "BCC"
_LENGTH: Final = struct.Struct(">I")

_ERLANG_KINDS: Final = {
    b"t": "bool",
    b"b": "byte",
    b"B": "unsignedbyte",
    b"s": "short",
    b"u": "unsignedshort",
    b"I": "signedint",
    b"i": "unsignedint",
    b"l": "long",
    b"L": "long",
    b"f": "float",
    b"d": "double",
    b"D": "decimal",
    b"S": "longstr",
    b"x": "binary",
    b"A": "array",
    b"F": "table",
    b"T": "timestamp",
    b"V": "void",
    b"\0": "void",
}
"""What RabbitMQ calls the kinds of fields in its texts."""


def copies(header: bytes, facts: Facts) -> tuple[str, ...]:
    """The routing keys in `CC` and `BCC`; raises PreconditionFailed (406) where these are no arrays.

    Elements that are no strings are passed over, as RabbitMQ does.
    """
    keys: list[str] = []
    for name, start, end in raw_fields(header, facts.headers_at, len(header)):
        if name not in COPY_HEADERS:
            continue
        value = header[start:end]
        if value[:1] != b"A":
            kind = _ERLANG_KINDS[value[:1]]
            raise PreconditionFailed(f'invalid message: {{unacceptable_type_in_header,"{name}",{kind}}}')
        keys += (amending.text_of(element) for element in amending.elements_of(value) if element[:1] == b"S")
    return tuple(keys)


def without_hidden(header: bytes, facts: Facts) -> bytes:
    """The header payload as consumers may see it: without `BCC`; everything else keeps its bytes."""
    at = facts.headers_at
    begin = at + _LENGTH.size
    kept = []
    for name, _kind_at, end in raw_fields(header, at, len(header)):
        if name != _HIDDEN:
            kept.append(header[begin:end])
        begin = end
    fields = b"".join(kept)
    return header[:at] + _LENGTH.pack(len(fields)) + fields + header[begin:]
