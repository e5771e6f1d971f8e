"""What each kind of process asks of the C library's allocator; where that is not glibc, nothing changes."""

import ctypes
import sys
from collections.abc import Callable
from functools import cache
from typing import Any, Final

from ipc.limits import ALLOCATOR_KEPT_BYTES, ALLOCATOR_MAPPED_BYTES, HOLES_BYTES_MAX, KIB

# From malloc.h.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
_HOLES: Final = tuple(range(64 * KIB, 1024, -1024)) + tuple(range(1032, 8, -16))  # sizes of blocks, largest first
_CACHED: Final = range(24, 1033, 16)  # sizes of blocks of which each thread has a cache
_CACHED_EACH: Final = 7
_SMALL_OBJECT_BYTES: Final = 64  # about what is asked of the interpreter's own allocator each time


class _Information(ctypes.Structure):
    """`struct mallinfo2` of malloc.h."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    )


def environment(allocator: str) -> dict[str, str]:
    """What an interpreter must find in its environment to have its objects from "libc", or from "python" as usual.

    The interpreter's own allocator takes a megabyte from the kernel at a time and returns it when all of it is free: a
    handful of objects that live on keep nearly all of a spike. The C library's gives back every free page, once it is
    asked (`trim_allocator`); where it cannot be asked, nothing is added.
    """
    can_trim = _find("malloc_trim", ctypes.c_size_t) is not None
    return {"PYTHONMALLOC": "malloc"} if allocator == "libc" and can_trim else {}


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


def renew_cache() -> None:
    """Have this thread's cache of small free blocks hold others than those a spike left in it, before it is trimmed.

    glibc keeps up to seven freed blocks of each size for the thread that freed them, and counts them as used: they lie
    wherever a spike's last objects did, and each keeps a page (measured: 1.5 MB after a spike of 36). Nothing empties
    that cache. So all of it is taken out, and as many again, which come from where there is room between other blocks;
    those go back first and fill it. Measured: 0.6 ms.
    """
    allocate = _find("malloc", ctypes.c_size_t, returns=ctypes.c_void_p)
    release = _find("free", ctypes.c_void_p)
    if allocate is None or release is None:
        return
    for size in _CACHED:
        blocks = [allocate(size) for _ in range(2 * _CACHED_EACH)]
        for block in reversed(blocks):
            release(block)


def allocated_bytes() -> int:
    """What this process has asked for and not freed, roughly: a measure of peaks, whatever pages were given back.

    Measured: 2 ms with 50,000 holes in the heap, which nobody can allocate from meanwhile; without the GIL.
    """
    blocks = sys.getallocatedblocks() * _SMALL_OBJECT_BYTES  # none where the interpreter has its objects from libc
    ask = _find("mallinfo2", returns=_Information)
    if ask is None:
        return blocks
    information = ask()
    return int(information.uordblks + information.hblkhd + blocks)


def fill_holes() -> int:
    """For a process that is to be forked: leave no free room between its blocks; the bytes it took.

    What the copies allocate would go there, into pages they share until then, and each of these would exist twice. Big
    holes are filled first and whole, so that of their pages only the one with the block's head is touched.
    """
    allocate = _find("malloc", ctypes.c_size_t, returns=ctypes.c_void_p)
    release = _find("free", ctypes.c_void_p)
    end_of_heap = _find("sbrk", ctypes.c_ssize_t, returns=ctypes.c_void_p)
    ask = _find("mallinfo2", returns=_Information)
    if allocate is None or release is None or end_of_heap is None or ask is None:
        return 0
    beyond = end_of_heap(0) - ask().keepcost  # from there on nothing was ever in use
    filled = 0
    for size in _HOLES:
        while (block := allocate(size)) and block < beyond and filled < HOLES_BYTES_MAX:
            filled += size
        release(block)
    return filled


def _set(options: dict[int, int]) -> None:
    set_option = _find("mallopt", ctypes.c_int, ctypes.c_int)
    if set_option is not None:
        for option, value in options.items():
            set_option(option, value)


@cache  # each library object makes types of its own, which only a collection of cycles would free
def _find(name: str, *argument_types: type, returns: type = ctypes.c_int) -> Callable[..., Any] | None:
    try:
        found = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError):
        return None
    found.argtypes = argument_types
    found.restype = returns
    function: Callable[..., Any] = found
    return function
