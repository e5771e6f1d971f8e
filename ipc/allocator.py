"""What each kind of process asks of the C library's allocator; where that is not glibc, nothing changes."""

import ctypes
from collections.abc import Callable
from typing import Final

from ipc.limits import ALLOCATOR_KEPT_BYTES, ALLOCATOR_MAPPED_BYTES

# From malloc.h.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8


def return_large_blocks() -> None:
    """For a process that needs much memory for moments only: large blocks are mapped, and go back when they are freed.

    A password check takes 19 MiB for 20 ms. By default glibc serves the second one from the heap of whichever thread
    runs it, and `malloc_trim` does not reach the top of such a heap. Measured: 20 MiB more for ever, none with these
    settings. To be called before the first thread starts.
    """
    _set({_M_MMAP_THRESHOLD: ALLOCATOR_MAPPED_BYTES, _M_ARENA_MAX: 1})


def keep_large_blocks() -> None:
    """For a process that frees buffers and needs them again at once: they stay in the heap until `trim_allocator`.

    Tails and outboxes grow and empty with every turn. By default each of them is mapped and unmapped, and the kernel
    clears every page of it every time: with 16 KiB bodies that was more than half of a shard's time (33 CPU seconds a
    million messages, 18 with these settings). What has no use any more goes back with the next compaction pass.
    """
    _set(
        {
            _M_MMAP_THRESHOLD: ALLOCATOR_KEPT_BYTES,
            _M_TRIM_THRESHOLD: ALLOCATOR_KEPT_BYTES,
            _M_ARENA_MAX: 1,
        }
    )


def trim_allocator() -> bool:
    """Return free pages of the C heap to the kernel; False where the C library cannot.

    Measured: 0.1 ms with nothing to return, 40 to 170 ms for 300 to 900 MB, and ctypes releases the GIL: call it in a
    thread.
    """
    trim = _find("malloc_trim", ctypes.c_size_t)
    if trim is None:
        return False
    trim(0)
    return True


def _set(options: dict[int, int]) -> None:
    set_option = _find("mallopt", ctypes.c_int, ctypes.c_int)
    if set_option is not None:
        for option, value in options.items():
            set_option(option, value)


def _find(name: str, *argument_types: type) -> Callable[..., int] | None:
    try:
        found = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError):
        return None
    found.argtypes = argument_types
    found.restype = ctypes.c_int
    function: Callable[..., int] = found
    return function
