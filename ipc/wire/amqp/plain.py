"""Field tables as JSON can show them."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any


def plain(value: Any) -> Any:
    """The same without what JSON has no word for: bytes are text, times are seconds since 1970."""
    if isinstance(value, Mapping):
        return {str(name): plain(field) for name, field in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(field) for field in value]
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode(errors="backslashreplace")
    if isinstance(value, datetime):
        return int(value.timestamp())
    if isinstance(value, Decimal):
        return float(value)
    return value
