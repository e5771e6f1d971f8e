"""What clients are told of values they sent: the value itself, and what RabbitMQ calls its type."""

from datetime import datetime
from decimal import Decimal
from typing import Any, Final

_TYPES: Final[dict[type, str]] = {
    str: "longstr",
    bool: "bool",
    float: "double",
    Decimal: "decimal",
    datetime: "timestamp",
    dict: "table",
    list: "array",
    type(None): "void",
}
_SIGNED_INTS: Final = range(-(2**31), 2**31)


def field_type(value: Any) -> str:
    """What RabbitMQ calls the type of a decoded field.

    Sizes of numbers are lost in decoding: they are told as most clients send them, in 32 bits where these are enough.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return "signedint" if value in _SIGNED_INTS else "long"
    return _TYPES.get(type(value), "binary")


def shown(value: Any) -> str:
    """A text in quotes, a number or a boolean as it is, of everything else the type."""
    if isinstance(value, str):
        return f"'{value}'"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else field_type(value)
