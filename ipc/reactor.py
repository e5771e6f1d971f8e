"""Waits for many descriptors in an epoll of its own, beside trio's loop and cheaper than through it.

A task that serves a thousand sockets would pay for a registration, a scheduling and two system calls of trio's per
event. It asks here instead. While there is traffic it waits here for a moment before it goes through trio's loop, which
costs as much as serving a small message; it yields to trio when a descriptor that another task waits for is readable,
and after a millisecond at most. Where spinning is set, it asks again and again before it sleeps, because waking a core
takes longer still.

Threads beside it wait for the GIL. One that has waited for a switch interval asks for it, and then gets it; but whoever
lets go of it for a moment, as the loop does when it yields, starts that interval anew and mostly has it back before the
thread is awake. Were the interval longer than what lies between two yields, threads would starve for as long as there
is work (measured with CPython's 5 ms: for a minute and more).
"""

import select
import sys
import time
from collections.abc import Callable
from typing import Final

import trio

from ipc.limits import LINGER_SECONDS, SPINS_SKIPPED_MAX, SWITCH_SECONDS, YIELD_SECONDS_MAX

READABLE: Final = select.EPOLLIN
WRITABLE: Final = select.EPOLLOUT
HUNG_UP: Final = select.EPOLLRDHUP  # the other end sends no more; what it sent before may still be there to be read
GONE: Final = select.EPOLLHUP | select.EPOLLERR

_EVENTS_MAX: Final = 256


class Reactor:
    """`ready` holds what was reported and not served yet: events by descriptor, in the order of the reports."""

    def __init__(self, *, spin_seconds: float = 0.0) -> None:
        """Also sets the interpreter's switch interval."""
        sys.setswitchinterval(SWITCH_SECONDS)
        self.ready: dict[int, int] = {}
        self._epoll = select.epoll()
        self._fell_asleep = trio.Event()
        self.is_asleep = False  # waits in trio's loop, where only a descriptor wakes it
        self._heeded = -1
        self._owes_yield = False
        self._yielded_at = 0.0
        self._spin = Spin(spin_seconds)

    def add(self, descriptor: int, events: int) -> None:
        self._epoll.register(descriptor, events)

    def change(self, descriptor: int, events: int) -> None:
        self._epoll.modify(descriptor, events)

    def remove(self, descriptor: int) -> None:
        """Nothing of it is reported any more, not even what was reported and not served."""
        self._epoll.unregister(descriptor)
        self.ready.pop(descriptor, None)

    def heed(self, descriptor: int) -> None:
        """Yield to trio when this is readable, because a task waits for it there."""
        self._heeded = descriptor
        self.add(descriptor, READABLE)

    async def wait(self, *, has_work: bool, lingers: bool, must_return: bool = False) -> None:
        """Until something is ready, or not at all when there is work anyway; other tasks run often enough.

        `lingers`: more is likely to come in the next moment. `must_return`: come back after a moment even if nothing is
        ready, because time itself makes a difference.
        """
        if has_work or self.ready or ((lingers or must_return) and self._linger()) or must_return:
            if self._owes_yield or time.perf_counter() - self._yielded_at > YIELD_SECONDS_MAX:
                await trio.lowlevel.checkpoint()
                self._yielded()
        else:
            self.is_asleep = True
            self._fell_asleep.set()
            try:
                await trio.lowlevel.wait_readable(self._epoll.fileno())
            finally:
                self.is_asleep = False
            self._yielded()

    async def asleep(self) -> None:
        """Returns when nothing is left to be done, until a descriptor is ready again."""
        if not self.is_asleep:
            self._fell_asleep = trio.Event()
            await self._fell_asleep.wait()

    def poll(self, seconds: float = 0.0) -> bool:
        """Add to `ready` what is reported within this time; whether it was anything to serve."""
        reported = self._epoll.poll(seconds, _EVENTS_MAX)
        for descriptor, events in reported:
            if descriptor == self._heeded:
                self._owes_yield = True
            else:
                self.ready[descriptor] = self.ready.get(descriptor, 0) | events
        return bool(reported)

    def close(self) -> None:
        self._epoll.close()

    def _linger(self) -> bool:
        return self._spin.until(self.poll) or self.poll(LINGER_SECONDS)

    def _yielded(self) -> None:
        self._owes_yield = False
        self._yielded_at = time.perf_counter()


class Spin:
    """Asking again and again for a short time, where that is set and has lately been worth it."""

    __slots__ = ("_failures", "_seconds", "_skipped")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._failures = 0
        self._skipped = 0

    def until(self, poll: Callable[[], bool]) -> bool:
        """Whether `poll` found something in time; after each failure in a row, twice as many spins are left out."""
        if not self._seconds:
            return False
        if self._skipped < min(1 << self._failures, SPINS_SKIPPED_MAX) - 1:
            self._skipped += 1
            return False
        self._skipped = 0
        end = time.perf_counter() + self._seconds
        while time.perf_counter() < end:
            if poll():
                self._failures = 0
                return True
        self._failures += 1
        return False
