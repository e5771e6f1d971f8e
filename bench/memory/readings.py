"""Private memory of a broker, all its processes together, as it goes up and comes down again."""

import time
from collections.abc import Callable
from typing import Final

import psutil
from msgspec import Struct

from bench.process_tree import memory_bytes, processes_of

MEGABYTE: Final = 1_000_000
_LOOK_SECONDS: Final = 0.05


def private_bytes(root: psutil.Process) -> int:
    """Pages that no other process has, those of mapped files included."""
    return memory_bytes(processes_of(root), "Private_Clean", "Private_Dirty")


def megabytes(count: float) -> str:
    return f"{count / MEGABYTE:.1f} MB"


class Ebb(Struct, frozen=True):
    """How private memory came down after something was done about it; bytes, and seconds since then."""

    at_once: int
    settled: int
    reached_after: float | None  # when it was first at or below the target; None: never while it was watched

    @classmethod
    def watch(cls, root: psutil.Process, target: int, *, at_once_seconds: float, seconds: float) -> "Ebb":
        """`at_once` is what is left after the first, `settled` after the second of these times."""
        began = time.monotonic()
        passed = 0.0
        at_once: int | None = None
        reached: float | None = None
        now = private_bytes(root)
        while passed < seconds:
            now = private_bytes(root)
            passed = time.monotonic() - began
            if reached is None and now <= target:
                reached = passed
            if at_once is None and passed >= at_once_seconds:
                at_once = now
            time.sleep(_LOOK_SECONDS)
        return cls(now if at_once is None else at_once, now, reached)


def await_steady(read: Callable[[], int], *, within: int, seconds_max: float) -> int:
    """The reading once it moves by less than `within` from one second to the next."""
    deadline = time.monotonic() + seconds_max
    before = read()
    while True:
        time.sleep(1)
        now = read()
        if abs(now - before) < within or time.monotonic() > deadline:
            return now
        before = now
