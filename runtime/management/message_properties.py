"""Properties of messages, as JSON says them and as bytes, with nothing lost on the way."""

import struct
from typing import Annotated, Any, Final

from msgspec import Meta, Struct

from ipc.wire.amqp import amending, properties
from ipc.wire.amqp.plain import plain
from ipc.wire.amqp.table_writing import encode_table
from ipc.wire.amqp.tables import decode_table
from runtime.management.bodies import Table
from runtime.management.errors import BadRequest

_SHORT_STRING_BYTES_MAX: Final = 255
_TIMESTAMP: Final = struct.Struct(">Q")

Octet = Annotated[int, Meta(ge=0, le=255)]


class Properties(Struct, frozen=True, omit_defaults=True):
    """In the order of their flags, which `properties.LAYOUT` has."""

    content_type: str | None = None
    content_encoding: str | None = None
    headers: Table | None = None
    delivery_mode: Annotated[int, Meta(ge=1, le=2)] | None = None
    priority: Octet | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    expiration: str | None = None
    message_id: str | None = None
    timestamp: Annotated[int, Meta(ge=0)] | None = None
    type: str | None = None
    user_id: str | None = None
    app_id: str | None = None
    cluster_id: str | None = None


_FLAGS: Final = dict(zip(Properties.__struct_fields__, (flag for flag, _size in properties.LAYOUT), strict=True))


def encoded(said: Properties) -> dict[int, bytes]:
    """The bytes of each by its flag. Raises BadRequest, naming it, for what does not fit."""
    parts = {}
    for name, flag in _FLAGS.items():
        value = getattr(said, name)
        if value is not None:
            try:
                parts[flag] = _encoded(name, value)
            except (ValueError, TypeError, OverflowError, struct.error) as fault:
                raise BadRequest(f"property {name} cannot be encoded: {fault}") from fault
    return parts


def _encoded(name: str, value: Any) -> bytes:
    if name == "headers":
        return encode_table(dict(value))
    if name == "timestamp":
        return _TIMESTAMP.pack(value)
    if isinstance(value, int):
        return bytes((value,))
    text = str(value).encode()
    if len(text) > _SHORT_STRING_BYTES_MAX:
        raise ValueError(f"{len(text)} bytes, which is more than {_SHORT_STRING_BYTES_MAX}")
    return bytes((len(text),)) + text


def decoded(header: bytes) -> dict[str, Any]:
    """Those that stand in a content header the broker has taken from its publisher."""
    parts = amending.take_apart(header)
    return {name: _decoded(name, parts[flag]) for name, flag in _FLAGS.items() if flag in parts}


def _decoded(name: str, value: bytes) -> Any:
    if name == "headers":
        return plain(decode_table(value, 0, len(value)))
    if name == "timestamp":
        return _TIMESTAMP.unpack(value)[0]
    if name in ("delivery_mode", "priority"):
        return value[0]
    return value[1:].decode(errors="backslashreplace")
