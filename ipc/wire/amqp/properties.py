"""Content headers: body size and the few properties a broker itself looks at, without decoding the rest.

```
class u16 = 60 | weight u16 = 0 | body size u64 | flags u16 | properties in order of their flags, highest bit first
```
(specification §4.2.6.1). What is stored and sent on is the header's bytes as they came.
"""

import struct
from typing import Any, Final, NamedTuple

from ipc.errors import FrameError, SyntaxRefused
from ipc.wire.amqp.tables import check_table, decode_table

BASIC_CLASS: Final = 60
FIXED_BYTES: Final = 14  # up to and including the flags
SIZE_END: Final = 12  # what comes after the body size is the same in most messages of a publisher

_FIXED = struct.Struct(">HHQH")
_SIZE = struct.Struct(">I")

_HEADERS: Final = 1 << 13
_DELIVERY_MODE: Final = 1 << 12
_PRIORITY: Final = 1 << 11
_TIMESTAMP: Final = 1 << 6

# In wire order: (flag, fixed size in bytes); 0 is a short string, -1 the header table.
_LAYOUT: Final = (
    (1 << 15, 0),  # content_type
    (1 << 14, 0),  # content_encoding
    (_HEADERS, -1),
    (_DELIVERY_MODE, 1),
    (_PRIORITY, 1),
    (1 << 10, 0),  # correlation_id
    (1 << 9, 0),  # reply_to
    (1 << 8, 0),  # expiration
    (1 << 7, 0),  # message_id
    (_TIMESTAMP, 8),
    (1 << 5, 0),  # type
    (1 << 4, 0),  # user_id
    (1 << 3, 0),  # app_id
    (1 << 2, 0),  # cluster_id
)


class Facts(NamedTuple):
    """What the properties after the fixed part say."""

    is_persistent: bool
    priority: int
    headers_at: int  # index of the header table's length within the header payload; 0: there is none


NO_FACTS: Final = Facts(is_persistent=False, priority=0, headers_at=0)


def body_size(payload: bytes | memoryview) -> int:
    """Raises FrameError (501) for a header that is too short, of another class or of a weight other than 0."""
    if len(payload) < FIXED_BYTES:
        raise FrameError("content header of fewer than 14 bytes")
    class_id, weight, size, _flags = _FIXED.unpack_from(payload)
    if class_id != BASIC_CLASS or weight:
        raise FrameError(f"content header of class {class_id}, weight {weight}")
    return int(size)


def inspect(payload: bytes) -> Facts:
    """Check that the properties are whole and find what matters; raises SyntaxRefused (502).

    A consumer would choke on a header that does not parse, so a broken one must not get past its publisher.
    """
    flags = _FIXED.unpack_from(payload)[3]
    if flags & 3:
        raise SyntaxRefused("content header with property flags beyond those of class basic")
    at = FIXED_BYTES
    is_persistent, priority, headers_at = False, 0, 0
    try:
        for flag, size in _LAYOUT:
            if not flags & flag:
                continue
            if size == 0:
                at += 1 + payload[at]
            elif size == -1:
                headers_at = at
                at += 4 + _SIZE.unpack_from(payload, at)[0]
            else:
                is_persistent = is_persistent or (flag == _DELIVERY_MODE and payload[at] == 2)
                priority = payload[at] if flag == _PRIORITY else priority
                at += size
    except (IndexError, struct.error) as short:
        raise SyntaxRefused("content header ends within its properties") from short
    if at != len(payload):
        raise SyntaxRefused("content header does not end with its properties")
    if headers_at:
        check_table(payload, headers_at, len(payload))
    return Facts(is_persistent, priority, headers_at)


def headers(payload: bytes, facts: Facts) -> dict[str, Any]:
    """The decoded header table; empty without one. Raises SyntaxRefused (502) for what cannot be decoded."""
    if not facts.headers_at:
        return {}
    return decode_table(payload, facts.headers_at, len(payload))
