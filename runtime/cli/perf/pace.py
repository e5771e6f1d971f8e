"""How many messages a rate allows by now."""

from typing import Final

BEHIND_SECONDS_MAX: Final = 1.0  # what could not be sent or taken for longer is not made up for
UNLIMITED: Final = 1 << 62
_NS: Final = 1_000_000_000


class Pace:
    """`rate` a second, 0 for no limit; time comes in as nanoseconds."""

    __slots__ = ("_done", "_rate", "_since_ns")

    def __init__(self, rate: float, now_ns: int) -> None:
        self._rate = rate
        self._since_ns = now_ns
        self._done = 0

    def allows(self, now_ns: int) -> int:
        if not self._rate:
            return UNLIMITED
        due = int((now_ns - self._since_ns) * self._rate / _NS) - self._done
        if due > self._rate * BEHIND_SECONDS_MAX + 1:
            self._since_ns = now_ns
            self._done = -1
            due = 1
        return due

    def did(self, count: int) -> None:
        self._done += count

    def seconds_to_next(self, now_ns: int) -> float:
        """Until one more is allowed."""
        if not self._rate:
            return 0.0
        return max(self._since_ns / _NS + (self._done + 1) / self._rate - now_ns / _NS, 0.0)
