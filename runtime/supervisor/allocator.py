"""Keeps the C library from holding on to memory that the supervisor needs for moments only.

A password check takes 19 MiB for 20 ms. By default glibc serves the second one from the heap of whichever thread runs
it, and `malloc_trim` does not reach the top of such a heap. Measured: 20 MiB more for ever, none with these settings.
"""

import ctypes
from typing import Final

from ipc.limits import KIB

# From malloc.h.
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8

MAPPED_FROM_BYTES: Final = 256 * KIB  # larger blocks are mapped, and so go back to the kernel the moment they are freed


def return_large_blocks() -> None:
    """To be called before the first thread starts; where the C library is not glibc, nothing changes."""
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    set_option(_M_MMAP_THRESHOLD, MAPPED_FROM_BYTES)
    set_option(_M_ARENA_MAX, 1)
