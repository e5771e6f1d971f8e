"""Keeps a segment's pages that come back as fast as they are given back: each time for twice as long, up to a limit."""

from ipc.limits import THRASH_DOUBLINGS_MAX, THRASH_SECONDS


class ThrashGuard:
    """What a segment remembers of the releases of its pages; times are milliseconds of broker time."""

    __slots__ = ("_doublings", "_released_at", "_rests_until", "is_released")

    def __init__(self) -> None:
        self.is_released = False  # and not used since
        self._released_at = 0
        self._rests_until = 0
        self._doublings = 0

    def released(self, now: int) -> None:
        self.is_released = True
        self._released_at = now

    def may_release(self, now: int) -> bool:
        """Whether its pages may be given back now."""
        return not self.is_released and now >= self._rests_until

    def came_back(self, now: int) -> None:
        """Somebody needs its pages."""
        if not self.is_released:
            return
        self.is_released = False
        pause = round(THRASH_SECONDS * 1000)
        if now - self._released_at < pause:
            self._rests_until = now + (pause << self._doublings)
            self._doublings = min(self._doublings + 1, THRASH_DOUBLINGS_MAX)
        elif now >= self._rests_until + (pause << self._doublings):
            self._doublings = 0
