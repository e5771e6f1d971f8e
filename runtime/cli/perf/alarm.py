"""Ctrl-C and SIGTERM as something that can be waited for, so that they interrupt nothing in the middle."""

import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
RINGS_MAX: Final = 64  # taken at a time


class Alarm:
    """Its descriptor is readable once somebody wants the end."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    @property
    def rings(self) -> bool:
        found, _, _ = select.select([self], [], [], 0)
        return bool(found)

    def hush(self) -> None:
        """It may ring again, for somebody who wants it twice."""
        os.read(self._descriptor, RINGS_MAX)


@contextmanager
def heard_signals() -> Iterator[Alarm]:
    """While the block runs, also where the shell had SIGINT ignored for us."""
    heard, ring = os.pipe()
    os.set_blocking(ring, False)

    def hear(_number: int, _frame: FrameType | None) -> None:
        try:
            os.write(ring, b"!")
        except BlockingIOError:
            pass  # it rings already

    before = {number: signal.signal(number, hear) for number in SIGNALS}
    try:
        yield Alarm(heard)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(ring)
        os.close(heard)
