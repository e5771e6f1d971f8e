"""The header `x-delay`: how long a message is to wait at an exchange that delays, as RabbitMQ's plugin reads it.

A number of milliseconds from 1 to 2^32 - 1, or such a number as text; anything else is no delay. Once it has waited the
number is negative, which tells consumers about it and keeps it from waiting again wherever it is published to.
"""

import re
from collections.abc import Mapping
from typing import Final

from ipc.limits import DELAY_MS_MAX
from ipc.wire.amqp import amending

DELAY: Final = "x-delay"

_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,20}")


def delay_of(fields: Mapping[str, bytes]) -> int:
    """Milliseconds that a message with these header fields is to wait; 0: it goes on at once."""
    delay = _number(fields.get(DELAY, b""))
    return delay if delay is not None and 0 < delay <= DELAY_MS_MAX else 0


def spent(header: bytes) -> bytes:
    """The header payload of a message that has waited; it was to wait, so there is a delay."""
    return amending.with_header_field(header, DELAY, _negated)


def _number(value: bytes) -> int | None:
    if value[:1] != b"S":
        return amending.integer_of(value)
    text = amending.text_of(value)
    return int(text) if _NUMBER.fullmatch(text) else None


def _negated(value: bytes) -> bytes:
    delay = -(_number(value) or 0)
    return amending.text(str(delay)) if value[:1] == b"S" else amending.integer(delay, value[:1])
