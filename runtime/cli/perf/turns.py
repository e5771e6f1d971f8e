"""Workers of one process take turns: each is a generator that says what it waits for and goes on when it has come.

One alone could as well block, and where it can it does, which saves a system call for each turn; `select` is what waits
for microseconds (`poll` and `epoll` know milliseconds only), and that is what rates need.
"""

import os
import select
import socket
import time
from collections.abc import Generator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final, Protocol

PRECISE_NS: Final = 1_000  # how late the kernel may wake us; its default, 50 µs, is half the pause of 10,000 a second
WORKERS_A_PROCESS_MAX: Final = 500  # select takes descriptors below 1,024

_TIMER_SLACK: Final = Path("/proc/self/timerslack_ns")


# What may happen on a socket. Plain numbers: arithmetic on flags of an Enum costs a microsecond each time.
NOTHING: Final = 0
READABLE: Final = 1
WRITABLE: Final = 2
EITHER: Final = READABLE | WRITABLE

Wait = tuple[int, float]
"""For any of these events, at most so many seconds; what is sent back: whether there is something to read."""

Turns = Generator[Wait, bool, None]


class Worker(Protocol):
    """Whoever takes turns, on one socket."""

    @property
    def socket(self) -> socket.socket: ...

    def run(self) -> Turns: ...


def take_turns(workers: Sequence[Worker]) -> None:
    """Until all have come to their end."""
    if len(workers) == 1:
        _run_alone(workers[0])
    else:
        _run_together(workers)


def _run_alone(worker: Worker) -> None:
    own, none = [worker.socket.fileno()], ()
    turns = worker.run()
    wait = next(turns, None)
    while wait is not None:
        events, seconds = wait
        readable, _, _ = select.select(
            own if events & READABLE else none, own if events & WRITABLE else none, none, seconds
        )
        wait = _resume(turns, is_readable=bool(readable))


def _run_together(workers: Sequence[Worker]) -> None:
    """Everyone whose wait is over gets one turn a round."""
    running = {worker.socket.fileno(): worker.run() for worker in workers}
    waits: dict[int, tuple[int, float]] = {}
    for descriptor, turns in running.items():
        _note(waits, descriptor, next(turns, None))
    while waits:
        readers = [descriptor for descriptor, (events, _) in waits.items() if events & READABLE]
        writers = [descriptor for descriptor, (events, _) in waits.items() if events & WRITABLE]
        pause = min(wake for _, wake in waits.values()) - time.monotonic()
        found_readable, found_writable, _ = select.select(readers, writers, (), max(pause, 0.0))
        readable, writable = set(found_readable), set(found_writable)
        now = time.monotonic()
        over = [d for d, (_, wake) in waits.items() if d in readable or d in writable or wake <= now]
        for descriptor in over:
            _note(waits, descriptor, _resume(running[descriptor], is_readable=descriptor in readable))


def _note(waits: dict[int, tuple[int, float]], descriptor: int, wait: Wait | None) -> None:
    if wait is None:
        waits.pop(descriptor, None)
    else:
        waits[descriptor] = (wait[0], time.monotonic() + wait[1])


def _resume(turns: Turns, *, is_readable: bool) -> Wait | None:
    try:
        return turns.send(is_readable)
    except StopIteration:
        return None


def wake_precisely() -> None:
    """Ask the kernel to end this process's pauses when they end; one that cannot is late by 50 µs."""
    try:
        _TIMER_SLACK.write_text(str(PRECISE_NS))
    except OSError:
        pass


def spread(workers: int, processes: int) -> list[range]:
    """Which workers, by number, go into which of at most `processes` processes; 0: at most one a core."""
    wanted = processes or os.cpu_count() or 1
    needed = -(-workers // WORKERS_A_PROCESS_MAX)
    count = min(workers, max(wanted, needed))
    bounds = [workers * number // count for number in range(count)] + [workers]
    return [range(first, last) for first, last in pairwise(bounds)]
