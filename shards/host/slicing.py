"""Work that takes long, in slices: between two of them clients have their turn."""

import time
from collections.abc import Iterator

from ipc.limits import STEPS_PER_CLOCK_CHECK


def take_slice(steps: Iterator[None], seconds_max: float) -> bool:
    """Go on for about as long; whether that was all."""
    began = time.perf_counter()
    for done, _ in enumerate(steps, 1):
        if done % STEPS_PER_CLOCK_CHECK == 0 and time.perf_counter() - began >= seconds_max:
            return False
    return True
