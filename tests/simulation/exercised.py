"""What a run has exercised: a simulation that never tears a write proves nothing about torn writes."""

from collections import Counter
from enum import Enum


class Exercised(Enum):
    """One kind of fault, or of thing that is checked; the value says how it is called where numbers are told."""

    KILL = "ends of the process between two turns"
    STOP = "ends of the process within a call to the disk"
    STOP_IN_SYNC = "of those within a sync"
    STOP_IN_COMMIT = "of those around a commit of definitions"
    STOP_IN_RECOVERY = "of those while it recovered"
    REFUSAL_IN_RECOVERY = "starts that the disk refused"
    POWER_FAILURE = "power failures"
    CLEAN_RESTART = "clean restarts"
    WRITE_LOST = "unsynced writes lost"
    WRITE_TORN = "unsynced writes torn"
    ENTRY_LOST = "unsynced directory entries lost"
    NO_SPACE = "calls refused for want of space"
    IO_ERROR = "calls that failed"
    SYNC_FAILURE = "syncs that failed"
    LOOK_FAILED = "reads that failed"
    SLOW_SYNC = "turns while something was being synced"
    CHECKPOINT = "checkpoints"
    NO_MEMORY_FOR_A_COPY = "copies that found no memory"
    NO_MEMORY_FOR_A_MAP = "maps that found no memory"
    PASS = "compaction passes"
    PASS_IN_SLICES = "of those with turns between their steps"
    CONFIRM = "copies of messages confirmed or committed"
    DELIVERY = "messages delivered"
    SETTLEMENT = "messages settled"
    DEAD_LETTER = "messages buried"
    DELAYED = "messages that had to wait at an exchange"
    REPEATED = "messages that came again"
    SWITCH = "vhosts that wait for the disk from now on, or no more"
    NOTHING = "steps with nothing to be done, which are not counted"
    AUDIT = "queues compared after an end"


Tally = Counter[Exercised]


def table(tally: Tally) -> str:
    """All of it, a line each: what stands at 0 has not been tried."""
    return "\n".join(f"{tally[kind]:>12,} {kind.value}" for kind in Exercised)
