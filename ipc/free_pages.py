"""Free pages of the C heap go back to the kernel beside an event loop, whose own thread has a cache of blocks."""

from collections.abc import Awaitable, Callable
from typing import Any

from ipc.allocator import renew_cache, trim_allocator
from ipc.slices import Slices


async def return_free_pages(in_thread: Callable[[Callable[[], Any]], Awaitable[Any]], slices: Slices) -> None:
    """But for a slice, `in_thread`; where the C library cannot, nothing happens."""
    # Trimmed before as well: the cache is to take blocks from where there is room that stays.
    await in_thread(trim_allocator)
    with slices:
        renew_cache()
    await in_thread(trim_allocator)
