"""Wakes the pump from wherever something has given it work: another task, or another thread."""

import os


class Bell:
    """An eventfd; what it is rung for stands elsewhere."""

    __slots__ = ("descriptor",)

    def __init__(self) -> None:
        self.descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def ring(self) -> None:
        """May be called from any thread, and any number of times."""
        os.eventfd_write(self.descriptor, 1)

    def silence(self) -> None:
        """It was heard."""
        os.eventfd_read(self.descriptor)

    def close(self) -> None:
        os.close(self.descriptor)
