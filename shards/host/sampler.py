"""Has the shard's counters sampled every few seconds, in slices between which clients are served."""

import time
from collections.abc import Callable

import trio

from ipc.limits import INVENTORY_SLICE_SECONDS_MAX, SAMPLE_SECONDS
from shards.inventory.sampling import take_samples
from shards.model.vhosts import VHosts


async def sample_for_ever(vhosts: VHosts, clock: Callable[[], int]) -> None:
    """Until cancelled."""
    while True:
        await trio.sleep(SAMPLE_SECONDS)
        began = time.perf_counter()
        for _step in take_samples(vhosts, clock()):
            if time.perf_counter() - began >= INVENTORY_SLICE_SECONDS_MAX:
                await trio.lowlevel.checkpoint()
                began = time.perf_counter()
