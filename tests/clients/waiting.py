"""Waiting for what another process will do: on a condition, with a deadline, never for a fixed time."""

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")

_POLL_SECONDS = 0.01


def eventually(condition: Callable[[], Found | None], what: str, *, seconds: float = 10.0) -> Found:
    """The first true value of `condition`; fails with `what` when there is none within `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(_POLL_SECONDS)
