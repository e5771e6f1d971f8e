"""When a process that died may start again: doubling delays, and a limit beyond which a restart is no cure."""

from collections import deque
from typing import Final

STEADY_SECONDS: Final = 10.0  # a life this long was a good one: the next delay is the shortest again
WINDOW_SECONDS: Final = 60.0


class Restarts:
    """The deaths of one child within the last minute.

    `per_minute_max` bites only if `seconds_max` leaves room for that many deaths in a minute.
    """

    def __init__(self, *, seconds_min: float, seconds_max: float, per_minute_max: int) -> None:
        self._seconds_min = seconds_min
        self._seconds_max = max(seconds_min, seconds_max)
        self._per_minute_max = per_minute_max
        self._deaths: deque[float] = deque(maxlen=per_minute_max + 1)
        self._delay = seconds_min

    def delay(self, *, born: float, died: float) -> float | None:
        """Seconds to wait before the next start; None: more deaths than allowed within a minute."""
        self._deaths.append(died)
        if len(self._deaths) > self._per_minute_max and died - self._deaths[0] <= WINDOW_SECONDS:
            return None
        if died - born >= STEADY_SECONDS:
            self._delay = self._seconds_min
        delay = self._delay
        self._delay = min(self._seconds_max, max(delay * 2, self._seconds_min))
        return delay
