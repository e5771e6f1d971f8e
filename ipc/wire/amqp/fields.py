"""Arguments of a method read one after the other, strictly: a field that is longer than its method is refused.

pamqp's own readers take what is there when a string claims to be longer, so a truncated method would pass.
"""

import struct
from typing import Any, Final

from ipc.errors import SyntaxRefused
from ipc.wire.amqp.tables import check_table, decode_table, table_end

_OCTET: Final = struct.Struct(">B")
_SHORT: Final = struct.Struct(">H")
_LONG: Final = struct.Struct(">I")
_LONG_LONG: Final = struct.Struct(">Q")


class FieldReader:
    """Reads fields of `payload` from `position` on; every method raises SyntaxRefused (502) for what is not there."""

    __slots__ = ("_payload", "position")

    def __init__(self, payload: bytes, position: int) -> None:
        self._payload = payload
        self.position = position

    def octet(self) -> int:
        return self._number(_OCTET)

    def short(self) -> int:
        return self._number(_SHORT)

    def long(self) -> int:
        return self._number(_LONG)

    def long_long(self) -> int:
        return self._number(_LONG_LONG)

    def short_string(self) -> str:
        return _text(self._bytes(self.octet()))

    def long_string(self) -> bytes:
        return self._bytes(self.long())

    def raw_table(self) -> bytes:
        """A field table of sound shape as it was sent, length prefix included."""
        end = table_end(self._payload, self.position, len(self._payload))
        check_table(self._payload, self.position, end)
        return self._bytes(end - self.position)

    def table(self) -> dict[str, Any]:
        table = decode_table(self._payload, self.position, len(self._payload))
        self.position = table_end(self._payload, self.position, len(self._payload))
        return table

    def _number(self, kind: struct.Struct) -> int:
        if len(self._payload) - self.position < kind.size:
            raise SyntaxRefused("method ends before its last field")
        (value,) = kind.unpack_from(self._payload, self.position)
        self.position += kind.size
        return int(value)

    def _bytes(self, size: int) -> bytes:
        end = self.position + size
        if end > len(self._payload):
            raise SyntaxRefused("string is longer than its method")
        piece = self._payload[self.position : end]
        self.position = end
        return piece


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as fault:
        raise SyntaxRefused("short string is not UTF-8") from fault
