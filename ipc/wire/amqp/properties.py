"""Content headers: body size and the few properties a broker itself looks at, without decoding the rest.

```
class u16 = 60 | weight u16 = 0 | body size u64 | flags u16 | properties in order of their flags, highest bit first
```
(specification §4.2.6.1). What is stored and sent on is the header's bytes as they came.
"""

import re
import struct
from functools import lru_cache
from typing import Any, Final, NamedTuple

from ipc.errors import FrameError, PreconditionFailed, SyntaxRefused
from ipc.limits import TIME_MS_MAX
from ipc.wire.amqp.tables import check_table, decode_table

BASIC_CLASS: Final = 60
FIXED_BYTES: Final = 14  # up to and including the flags
SIZE_END: Final = 12  # what comes after the body size is the same in most messages of a publisher

_FIXED = struct.Struct(">HHQH")
_SIZE = struct.Struct(">I")

_HEADERS: Final = 1 << 13
_DELIVERY_MODE: Final = 1 << 12
_PRIORITY: Final = 1 << 11
_REPLY_TO: Final = 1 << 9
_EXPIRATION: Final = 1 << 8
_TIMESTAMP: Final = 1 << 6
_USER_ID: Final = 1 << 4

COPY_HEADERS: Final = ("CC", "BCC")
"""Headers with routing keys beside the one of `basic.publish`; nobody is shown the second."""
REPLY_QUEUES: Final = ("amq.rabbitmq.reply-to", "amq.direct.reply-to")
"""What stands in `reply_to` when the answer shall go straight to a consumer: RabbitMQ's name, and LavinMQ's."""

_REPLY_NAMES: Final = frozenset(name.encode() for name in REPLY_QUEUES)
_CC, _BCC = (bytes((len(name),)) + name.encode() for name in COPY_HEADERS)  # as they begin a field of a table
_DEMANDING: Final = frozenset((_REPLY_TO, _EXPIRATION, _USER_ID))  # what has to be looked into
_NUMBER: Final = re.compile(r"[+-]?[0-9]+")

_IDENTITIES: Final = {"correlation_id": 1 << 10, "message_id": 1 << 7, "timestamp": _TIMESTAMP}

# In wire order: (flag, fixed size in bytes); 0 is a short string, -1 the header table.
LAYOUT: Final = (
    (1 << 15, 0),  # content_type
    (1 << 14, 0),  # content_encoding
    (_HEADERS, -1),
    (_DELIVERY_MODE, 1),
    (_PRIORITY, 1),
    (1 << 10, 0),  # correlation_id
    (_REPLY_TO, 0),
    (_EXPIRATION, 0),
    (1 << 7, 0),  # message_id
    (_TIMESTAMP, 8),
    (1 << 5, 0),  # type
    (_USER_ID, 0),
    (1 << 3, 0),  # app_id
    (1 << 2, 0),  # cluster_id
)


class Facts(NamedTuple):
    """What the properties after the fixed part say."""

    is_persistent: bool
    priority: int
    headers_at: int  # index of the header table's length within the header payload; 0: there is none
    may_have_copies: bool = False  # something in its header table looks like `CC` or `BCC`
    expires: bool = False  # there is an `expiration`, which is a number of milliseconds
    reply_to_at: int = 0  # index of a `reply_to` that has to be replaced by a real name; 0: there is none such
    user_id: bytes | None = None
    has_timestamp: bool = False


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
    """Check that the properties are whole and find what matters.

    Raises SyntaxRefused (502), because a consumer would choke on a header that does not parse, so a broken one must not
    get past its publisher; and PreconditionFailed (406) for an `expiration` that is no number of milliseconds.
    """
    places = _places(payload)
    is_persistent = _DELIVERY_MODE in places and payload[places[_DELIVERY_MODE]] == 2
    priority = payload[places[_PRIORITY]] if _PRIORITY in places else 0
    headers_at = places.get(_HEADERS, 0)
    if headers_at:
        check_table(payload, headers_at, len(payload))
    may_have_copies = headers_at > 0 and (_CC in payload or _BCC in payload)
    has_timestamp = _TIMESTAMP in places
    if _DEMANDING.isdisjoint(places):
        return Facts(is_persistent, priority, headers_at, may_have_copies, has_timestamp=has_timestamp)
    if _EXPIRATION in places:
        _check_expiration(str(_short_string(payload, places[_EXPIRATION]), "utf-8", "replace"))
    reply_to_at = places.get(_REPLY_TO, 0)
    return Facts(
        is_persistent,
        priority,
        headers_at,
        may_have_copies,
        expires=_EXPIRATION in places,
        reply_to_at=reply_to_at if reply_to_at and _short_string(payload, reply_to_at) in _REPLY_NAMES else 0,
        user_id=_short_string(payload, places[_USER_ID]) if _USER_ID in places else None,
        has_timestamp=has_timestamp,
    )


def _places(payload: bytes) -> dict[int, int]:
    """Where each property that is there begins, by its flag."""
    flags = _FIXED.unpack_from(payload)[3]
    if flags & 3:
        raise SyntaxRefused("content header with property flags beyond those of class basic")
    places = {}
    at = FIXED_BYTES
    try:
        for flag, size in _layout(flags):
            places[flag] = at
            if size == 0:
                at += 1 + payload[at]
            elif size == -1:
                at += 4 + _SIZE.unpack_from(payload, at)[0]
            else:
                at += size
    except (IndexError, struct.error) as short:
        raise SyntaxRefused("content header ends within its properties") from short
    if at != len(payload):
        raise SyntaxRefused("content header does not end with its properties")
    return places


@lru_cache(maxsize=64)  # publishers use few combinations
def _layout(flags: int) -> tuple[tuple[int, int], ...]:
    """The rows of `LAYOUT` for the properties that are there."""
    return tuple((flag, size) for flag, size in LAYOUT if flags & flag)


def _short_string(payload: bytes, at: int) -> bytes:
    return payload[at + 1 : at + 1 + payload[at]]


def _check_expiration(text: str) -> None:
    """RabbitMQ takes whole numbers from 0 to ten years, and tells in Erlang's words what is wrong with others."""
    number = _NUMBER.match(text)
    if number is None:
        reason = "no_integer"
    elif number.end() < len(text):
        reason = f'{{leftover_string,"{text[number.end() :]}"}}'
    elif int(text) < 0:
        reason = f"{{value_negative,{int(text)}}}"
    elif int(text) > TIME_MS_MAX:
        reason = f"{{value_too_large,{int(text)}}}"
    else:
        return
    raise PreconditionFailed(f"invalid expiration '{text}': {reason}")


def headers(payload: bytes, facts: Facts) -> dict[str, Any]:
    """The decoded header table; empty without one. Raises SyntaxRefused (502) for what cannot be decoded."""
    if not facts.headers_at:
        return {}
    return decode_table(payload, facts.headers_at, len(payload))


def identities(payload: bytes) -> dict[str, Any]:
    """The properties that tell messages apart, as bytes; those that are there. The header was inspected before."""
    places = _places(payload)
    return {
        name: payload[places[flag] : places[flag] + 8] if flag == _TIMESTAMP else _short_string(payload, places[flag])
        for name, flag in _IDENTITIES.items()
        if flag in places
    }
