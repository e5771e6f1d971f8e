"""What a process and all below it cost, as the kernel counts it: CPU seconds and memory, for a broker of any make."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import psutil

KIB: Final = 1024

_IDLE_LOOK_SECONDS: Final = 0.25
_IDLE_SHARE: Final = 0.04  # of one core; an idle Erlang node takes about 0.01
_GONE_SECONDS_MAX: Final = 10.0


def processes_of(root: psutil.Process) -> list[psutil.Process]:
    return [root, *root.children(recursive=True)]


def cpu_seconds(root: psutil.Process) -> float:
    """User and system time of the tree so far, children that ended and were waited for included."""
    total = 0.0
    for process in processes_of(root):
        try:
            total += sum(process.cpu_times()[:4])  # user, system, and both of children that ended
        except psutil.NoSuchProcess:
            continue
    return total


def await_idle(root: psutil.Process, *, seconds_max: float) -> bool:
    """Until the tree hardly works, so that what one run left is not billed to the next; whether it came to that."""
    deadline = time.monotonic() + seconds_max
    before = cpu_seconds(root)
    while time.monotonic() < deadline:
        time.sleep(_IDLE_LOOK_SECONDS)
        now = cpu_seconds(root)
        if now - before < _IDLE_LOOK_SECONDS * _IDLE_SHARE:
            return True
        before = now
    return False


def memory_bytes(processes: Sequence[psutil.Process], *names: str) -> int:
    """Sum of these fields of `smaps_rollup` over the processes."""
    total = 0
    for process in processes:
        for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
            name, _, rest = line.partition(":")
            if name in names:
                total += int(rest.split()[0]) * KIB
    return total


def end(processes: Sequence[psutil.Process]) -> None:
    """Whatever of these still runs is killed."""
    _, alive = psutil.wait_procs(processes, timeout=_GONE_SECONDS_MAX)
    for process in alive:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(alive, timeout=_GONE_SECONDS_MAX)
