"""Broker time: milliseconds since 1970 that start at the wall clock and advance with the monotonic one.

Time that jumps would expire messages and heartbeats early or never; this never does, and is right again after a
restart.
"""

import time


class BrokerClock:
    """Call it for the current broker time in milliseconds."""

    __slots__ = ("_offset_ns",)

    def __init__(self) -> None:
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def __call__(self) -> int:
        return (time.monotonic_ns() + self._offset_ns) // 1_000_000
