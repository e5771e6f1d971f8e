"""What a run that fails comes down to: the steps it fails without none of."""

import math
import re
import tempfile
import time
from collections.abc import Sequence
from typing import Final

from tests.simulation.run import Step, carry_out

_CHANGING: Final = re.compile(rf"{tempfile.gettempprefix()}\w+|[0-9]+")


def failure(seed: int, steps: Sequence[Step]) -> str | None:
    """What goes wrong, without the numbers in it and the name of the run's directory; None: nothing does."""
    try:
        carry_out(seed, steps)
    except Exception as fault:  # noqa: BLE001 - whatever a broker raises is a violation
        return f"{type(fault).__name__}: {_CHANGING.sub('N', str(fault)).partition(': ')[2]}"
    return None


def shrunken(seed: int, steps: Sequence[Step], deadline: float = math.inf) -> list[Step]:
    """Leave out halves, quarters, … single steps, as long as it fails in the same way, and until `deadline`."""
    kept = list(steps)
    if time.monotonic() >= deadline:
        return kept
    wanted = failure(seed, kept)
    size = len(kept) // 2
    while size:
        start = 0
        while start < len(kept):
            if time.monotonic() >= deadline:
                return kept
            fewer = kept[:start] + kept[start + size :]
            if failure(seed, fewer) == wanted:
                kept = fewer
            else:
                start += size
        size //= 2
    return kept
