"""Notices that a peak has passed, from nothing but how much is allocated: only then is there anything to give back.

```
 allocated ▲        ╭──╮ peak
           │     ╭──╯  │          high while within a sixteenth (and a megabyte) of the peak
           │ ────╯     ╰──────────────── … passed when it was not high for some time
```
Looking at everything costs time in proportion to what there is. This costs one number, so while nothing happens, or
what happens is a steady coming and going, nothing is looked at.
"""

from typing import Final

from ipc.limits import IDLE_BYTES_MIN, IDLE_LOOK_SECONDS_MAX, IDLE_LOOK_SECONDS_MIN, IDLE_SHARE_MIN

_LOOKS_PER_INTERVAL: Final = 4


class PassedPeak:
    """Sizes in bytes; `now` in seconds of a clock that does not go back."""

    __slots__ = ("_high_at", "_peak")

    def __init__(self) -> None:
        self._peak = 0
        self._high_at = 0.0

    def has_passed(self, allocated: int, now: float, seconds: float) -> bool:
        """Whether the highest since the last peak was over `seconds` ago, and well above what is left."""
        if allocated > self._peak:
            self._peak = allocated
        if self._peak - allocated < max(IDLE_BYTES_MIN, self._peak * IDLE_SHARE_MIN):
            self._high_at = now
            return False
        return now - self._high_at >= seconds

    def forget(self, allocated: int, now: float) -> None:
        """What it has left was given back: the next peak begins here."""
        self._peak = allocated
        self._high_at = now


def look_seconds(interval_seconds: float) -> float:
    """Until the next look, a few of which are taken in an interval; 0: peaks are left alone, but that may change."""
    if not interval_seconds:
        return IDLE_LOOK_SECONDS_MAX
    return min(max(interval_seconds / _LOOKS_PER_INTERVAL, IDLE_LOOK_SECONDS_MIN), IDLE_LOOK_SECONDS_MAX)
