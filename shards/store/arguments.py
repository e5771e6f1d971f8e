"""Argument tables as bytes: msgpack that gives back every value of a decoded AMQP field table as the type it was."""

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, TypeAlias

import msgspec
from msgspec.msgpack import Ext

Arguments: TypeAlias = dict[str, Any]
"""A decoded AMQP field table: str, bytes, bytearray, bool, int, float, None, datetime, Decimal, lists and tables."""

# msgspec alone would give a Decimal and a naive datetime back as text, and a bytearray as bytes.
DECIMAL: Final = 1
DATETIME: Final = 2
BYTEARRAY: Final = 3

_encoder = msgspec.msgpack.Encoder(order="deterministic")


def encode_arguments(arguments: Arguments) -> bytes:
    """Equal tables give equal bytes, whatever the order of their fields."""
    return _encoder.encode(_marked(arguments))


def decode_arguments(stored: bytes) -> Arguments:
    """Raises msgspec.DecodeError or ValueError for what `encode_arguments` did not write."""
    return _decoder.decode(stored)


def _marked(value: Any) -> Any:
    mark = _MARKS.get(type(value))
    return value if mark is None else mark(value)


_MARKS: Final[dict[type, Callable[[Any], Any]]] = {
    dict: lambda table: {name: _marked(value) for name, value in table.items()},
    list: lambda values: [_marked(value) for value in values],
    Decimal: lambda number: Ext(DECIMAL, str(number).encode()),
    datetime: lambda moment: Ext(DATETIME, moment.isoformat().encode()),
    bytearray: lambda octets: Ext(BYTEARRAY, bytes(octets)),
}

_UNMARKS: Final[dict[int, Callable[[memoryview], Any]]] = {
    DECIMAL: lambda content: Decimal(str(content, "ascii")),
    DATETIME: lambda content: datetime.fromisoformat(str(content, "ascii")),
    BYTEARRAY: bytearray,
}


def _unmarked(code: int, content: memoryview) -> Any:
    unmark = _UNMARKS.get(code)
    if unmark is None:
        raise ValueError(f"argument of unknown kind {code}")
    return unmark(content)


_decoder = msgspec.msgpack.Decoder(Arguments, ext_hook=_unmarked)
