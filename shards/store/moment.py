"""When it is, for stores that mark what they read and write: the turn under way knows, a store alone does not."""

from typing import Final, Protocol

from msgspec import Struct


class Moment(Protocol):
    """Broker time in milliseconds, as of the turn under way."""

    @property
    def now(self) -> int: ...


class _Still(Struct, frozen=True):
    now: int = 0


STILL: Final[Moment] = _Still()
