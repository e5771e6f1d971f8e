"""Work that takes long, in slices: between two of them clients have their turn."""

import time
from collections.abc import Iterator

from ipc.limits import STEPS_PER_CLOCK_CHECK
from ipc.slices import Clock


def take_slice(steps: Iterator[None], seconds_max: float, clock: Clock = time.perf_counter) -> bool:
    """Go on for about as long; whether that was all."""
    began = clock()
    for done, _ in enumerate(steps, 1):
        if done % STEPS_PER_CLOCK_CHECK == 0 and clock() - began >= seconds_max:
            return False
    return True
