"""A pass over what a process of the runtime holds itself: the supervisor, or the one behind the HTTP API.

```
what is kept for convenience, collections, caches, one a slice ─► what functions remember ─► garbage ─► free pages
                                                                  release, idle                        release, idle
```
"""

import gc
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from functools import _lru_cache_wrapper, partial
from itertools import chain
from typing import Any, Final, TypeAlias

import trio

from ipc.free_pages import return_free_pages
from ipc.memory_reading import read_memory
from ipc.messages.commands import IDLE, Compact, Level
from ipc.messages.reports import Reclaimable, Reclaimed
from ipc.settings import CompactionSettings
from ipc.slices import Slices
from runtime.owner import Owner, Rebuilding, Rebuilt, owners, rebuild

Remembering: TypeAlias = "_lru_cache_wrapper[Any]"
_OUR_OWN: Final = ("ipc.", "runtime.")


class OwnPass:
    """Passes of one process; `process` is the number under which it reports."""

    def __init__(
        self,
        root: Owner,
        settings: Callable[[], CompactionSettings],
        process: int,
        remembering: "Callable[[], Iterable[Remembering]]",
    ) -> None:
        """`remembering`: functions whose answers may be forgotten."""
        self._root = root
        self._settings = settings
        self._process = process
        self._remembering = remembering

    async def run(self, compact: Compact, resting: Collection[str] = ()) -> Reclaimed:
        """`resting`: kinds of collections that are passed by."""
        began = time.perf_counter()
        before = await trio.to_thread.run_sync(read_memory)
        tally = _Tally()
        how = Rebuilding(self._settings(), compact.level, trio.current_time(), resting)
        for part in (partial(self._rebuild, how), partial(self._tidy, compact)):
            try:
                await part(tally)
            except MemoryError:  # the rest of it is left out, and the pass goes on
                tally.failures += 1
        after = await trio.to_thread.run_sync(read_memory)
        return Reclaimed(
            shard=self._process,
            pass_number=compact.pass_number,
            level=compact.level,
            trigger=compact.trigger,
            seconds=time.perf_counter() - began,
            slice_seconds_longest=tally.slices.seconds_longest,
            slice_cpu_seconds_longest=tally.slices.cpu_seconds_longest,
            steps=tally.steps,
            freed_bytes_by_kind=+tally.freed | {"allocator": max(0, before.rss - after.rss)},
            freed_bytes_by_vhost={},
            failures=tally.failures,
            before=before,
            after=after,
        )

    async def estimate(self, level: Level) -> Reclaimable:
        """What a pass would free of collections and caches; nothing is. It answers nobody's number."""
        began = time.perf_counter()
        tally = _Tally()
        await self._rebuild(Rebuilding(self._settings(), level, trio.current_time(), is_dry=True), tally)
        return Reclaimable(
            0,
            self._process,
            is_last=True,
            level=level,
            by_kind=dict(+tally.freed),
            by_vhost={},
            failures=tally.failures,
            seconds=time.perf_counter() - began,
            slice_seconds_longest=tally.slices.seconds_longest,
            reading=await trio.to_thread.run_sync(read_memory),
        )

    async def _rebuild(self, how: Rebuilding, tally: "_Tally") -> None:
        steps = rebuild(self._root, how)
        while True:
            with tally.slices:
                step = next(steps, None)
            if step is None:
                return
            tally.count(step)
            await trio.lowlevel.checkpoint()

    async def _tidy(self, compact: Compact, tally: "_Tally") -> None:
        gives_back = compact.level >= Level.RELEASE or compact.trigger == IDLE
        with tally.slices:
            if gives_back:
                for function in self._remembering():
                    function.cache_clear()
            gc.collect()
        if gives_back:
            await trio.to_thread.run_sync(self._release)
            await return_free_pages(trio.to_thread.run_sync, tally.slices)

    def _release(self) -> None:
        for owner in owners(self._root):
            owner.release()


class _Tally:
    """What a pass adds up."""

    def __init__(self) -> None:
        self.slices = Slices(time.perf_counter, time.thread_time)
        self.freed: Counter[str] = Counter()
        self.failures = self.steps = 0

    def count(self, step: Rebuilt) -> None:
        self.freed[step.kind] += step.size_bytes
        self.failures += step.failed
        self.steps += 1


def remembering_functions() -> "list[Remembering]":
    """Those of our own modules that remember a bounded number of answers: of what clients say, not of the program."""
    modules = [module for name, module in list(sys.modules.items()) if name.startswith(_OUR_OWN)]
    return bounded(chain.from_iterable(vars(module).values() for module in modules))


def all_remembering_functions() -> "list[Remembering]":
    """The same of libraries too, and those that belong to objects. Tens of milliseconds."""
    return bounded(gc.get_objects())


def bounded(objects: Iterable[object]) -> "list[Remembering]":
    """Those that are such functions."""
    found = [one for one in objects if isinstance(one, _lru_cache_wrapper)]
    return [one for one in found if one.cache_parameters()["maxsize"] is not None]
