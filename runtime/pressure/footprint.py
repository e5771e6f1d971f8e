"""How much memory there is and how much of it is ours: for alarms, the watermark, and where nobody reports pressure."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import psutil

from ipc.limits import KIB
from ipc.messages.commands import Level
from runtime.pressure.cgroups import MemoryControl, memory_controls, of_this_process

# What share of the machine's or a cgroup's memory is still available, and what that calls for; checked from the worst
# down.
_SHORTAGES: Final = ((0.02, Level.CRITICAL), (0.05, Level.RELEASE), (0.10, Level.TRIM))

# What the kernel cannot take back without swap: the heap, and files in memory. Not pages of files on disk: segments are
# mapped to be read, and their pages go when somebody needs the room. What is swapped out wants to come back.
_HELD: Final = frozenset({"Pss_Anon", "Pss_Shmem", "SwapPss"})  # in smaps_rollup: shared pages in shares
_HELD_AT_MOST: Final = frozenset({"RssAnon", "RssShmem", "VmSwap"})  # in status: shared pages in full


def shortage(available_bytes: int, total_bytes: int) -> Level | None:
    """None: there is enough."""
    for share, level in _SHORTAGES:
        if available_bytes <= share * total_bytes:
            return level
    return None


def memory_shortage() -> Level | None:
    """Of the machine, or of our cgroup or one above it, whichever is shorter of memory. Call in a thread."""
    memory = psutil.virtual_memory()
    found = [shortage(memory.available, memory.total), *map(cgroup_shortage, memory_controls(*of_this_process()))]
    return max((level for level in found if level is not None), default=None)


def cgroup_shortage(control: MemoryControl) -> Level | None:
    """None where it has no limit, or does not tell."""
    limits = [limit for file in control.limits if (limit := _number(file)) is not None]
    usage = _number(control.usage)
    if not limits or usage is None:
        return None
    return shortage(min(limits) - usage + _reclaimable(control), min(limits))


def broker_bytes() -> int:
    """What this process and all below it occupy, shared pages counted once (PSS). A few ms: call in a thread."""
    pids = [os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))]
    return sum(_sum(pid, "smaps_rollup", {"Pss"}) or 0 for pid in pids)


def held_bytes(pids: Iterable[int], *, exact_from: float) -> int:
    """What these processes occupy that the kernel cannot take back from them.

    Below `exact_from` it may be less than the answer: pages that forks still share with what they were forked from
    count once for each. The exact figure costs a walk through all page tables (10 ms a gigabyte), the other one 30 µs.
    """
    at_most = {pid: _sum(pid, "status", _HELD_AT_MOST) or 0 for pid in pids}
    if (bytes_max := sum(at_most.values())) < exact_from:
        return bytes_max
    exact = {pid: _sum(pid, "smaps_rollup", _HELD) for pid in at_most}
    return sum(at_most[pid] if held is None else held for pid, held in exact.items())


def memory_total_bytes() -> int:
    """What this machine has, or our cgroup or one above it may have, whichever is less."""
    files = [file for control in memory_controls(*of_this_process()) for file in control.limits]
    return min([psutil.virtual_memory().total, *(limit for file in files if (limit := _number(file)) is not None)])


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # the root has no limit, and "max" is none
        return None


def _reclaimable(control: MemoryControl) -> int:
    try:
        lines = control.statistics.read_text().splitlines()
    except OSError:
        return 0
    return sum(int(number) for name, number in map(str.split, lines) if name in control.reclaimable)


def _sum(pid: int, file: str, names: Iterable[str]) -> int | None:
    """Of lines `Name:  number kB`, in bytes; None when the process has ended or the kernel does not tell."""
    try:
        text = Path(f"/proc/{pid}/{file}").read_text()
    except OSError:
        return None
    fields = (line.partition(":") for line in text.splitlines())
    return sum(int(rest.split()[0]) * KIB for name, _, rest in fields if name in names)
