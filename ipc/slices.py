"""What a pass takes of an event loop at a time: by the clock, as clients wait for it, and of CPU, as is its own doing.

Where others want the processors too, a slice may wait for one in its midst; then the first says more than the second.
"""

from collections.abc import Callable
from typing import Self

Clock = Callable[[], float]


class Slices:
    """A context for each of them; seconds that the longest took, and of CPU all of them."""

    __slots__ = (
        "_began",
        "_clock",
        "_cpu_began",
        "_cpu_clock",
        "cpu_seconds",
        "cpu_seconds_longest",
        "seconds_longest",
    )

    def __init__(self, clock: Clock, cpu_clock: Clock) -> None:
        self._clock = clock
        self._cpu_clock = cpu_clock
        self._began = self._cpu_began = 0.0
        self.seconds_longest = 0.0
        self.cpu_seconds = 0.0
        self.cpu_seconds_longest = 0.0

    def seconds(self) -> float:
        """Since this one began."""
        return self._clock() - self._began

    def __enter__(self) -> Self:
        self._began, self._cpu_began = self._clock(), self._cpu_clock()
        return self

    def __exit__(self, *_ending: object) -> None:
        cpu_seconds = self._cpu_clock() - self._cpu_began
        self.cpu_seconds += cpu_seconds
        self.cpu_seconds_longest = max(self.cpu_seconds_longest, cpu_seconds)
        self.seconds_longest = max(self.seconds_longest, self.seconds())
