"""What a pass takes of an event loop at a time: by the clock, as clients wait for it, and of CPU, as is its own doing.

Where others want the processors too, a slice may wait for one in its midst; then the first says more than the second.
"""

from collections.abc import Callable

Clock = Callable[[], float]


class Slices:
    """A context for each of them; seconds that the longest took."""

    __slots__ = ("_began", "_clock", "_cpu_began", "_cpu_clock", "cpu_seconds_longest", "seconds_longest")

    def __init__(self, clock: Clock, cpu_clock: Clock) -> None:
        self._clock = clock
        self._cpu_clock = cpu_clock
        self._began = self._cpu_began = 0.0
        self.seconds_longest = 0.0
        self.cpu_seconds_longest = 0.0

    def __enter__(self) -> None:
        self._began, self._cpu_began = self._clock(), self._cpu_clock()

    def __exit__(self, *_ending: object) -> None:
        self.seconds_longest = max(self.seconds_longest, self._clock() - self._began)
        self.cpu_seconds_longest = max(self.cpu_seconds_longest, self._cpu_clock() - self._cpu_began)
