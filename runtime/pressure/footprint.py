"""How much memory there is and how much of it is ours, for machines without pressure reports and for the watermark."""

import os
from pathlib import Path
from typing import Final

import psutil

from ipc.messages.commands import Level

# What share of the machine's memory is still available, and what that calls for; checked from the worst down.
_SHORTAGES: Final = ((0.02, Level.CRITICAL), (0.05, Level.RELEASE), (0.10, Level.TRIM))


def shortage(available_bytes: int, total_bytes: int) -> Level | None:
    """None: there is enough."""
    for share, level in _SHORTAGES:
        if available_bytes <= share * total_bytes:
            return level
    return None


def system_shortage() -> Level | None:
    memory = psutil.virtual_memory()
    return shortage(memory.available, memory.total)


def broker_bytes() -> int:
    """What this process and all below it occupy, shared pages counted once (PSS). A few ms: call in a thread."""
    pids = [os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))]
    return sum(map(_proportional_bytes, pids))


def _proportional_bytes(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:  # it ended meanwhile
        return 0
    for line in text.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0
