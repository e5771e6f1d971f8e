"""From readings of memory and disk to alarms: raised at a border, over only some way behind it, looked at in time.

```
memory  0 ──────────── limit × clear_share ════ limit ──────►     raised from the limit on; between the two it stays
disk    0 ── minimum ════ minimum × clear_ratio ──────────► free  raised below the minimum  what it was
```
The nearer a reading is to the border it could cross, the sooner the next look: whoever fills memory or disk at
`GROWTH_BYTES_PER_SECOND_MAX` gets beyond by what comes within the shortest pause.
"""

from math import inf

from msgspec import Struct

from ipc.limits import GROWTH_BYTES_PER_SECOND_MAX, LOOKING_SHARE_MAX
from ipc.messages.commands import Alarms
from ipc.settings import AlarmSettings


class Readings(Struct, frozen=True):
    """What there is now, in bytes."""

    memory_bytes: int  # of all our processes, what the kernel cannot take back
    memory_total_bytes: int  # what the machine has, or our cgroup may
    disk_free_bytes: int | None  # on the data's file system; None: it does not say


def memory_limit(memory_total_bytes: int, settings: AlarmSettings) -> float:
    """The lower one of both limits; infinity without any."""
    limits = (settings.memory_bytes_max, int(memory_total_bytes * settings.memory_share_max))
    return min((limit for limit in limits if limit), default=inf)


def memory_border(raised: Alarms, memory_total_bytes: int, settings: AlarmSettings) -> float:
    """Memory is short from here on."""
    limit = memory_limit(memory_total_bytes, settings)
    return limit * settings.memory_clear_share if raised.memory else limit


def disk_border(raised: Alarms, settings: AlarmSettings) -> float:
    """Disk is short below this; 0: never."""
    return settings.disk_free_bytes_min * (settings.disk_clear_ratio if raised.disk else 1)


def decide(raised: Alarms, readings: Readings, settings: AlarmSettings) -> Alarms:
    """The alarms that are raised now, after `raised` were."""
    free = readings.disk_free_bytes
    return Alarms(
        memory=readings.memory_bytes >= memory_border(raised, readings.memory_total_bytes, settings),
        disk=free < disk_border(raised, settings) if free is not None else raised.disk,
    )


def pause_seconds(raised: Alarms, readings: Readings, settings: AlarmSettings, *, looking_seconds: float) -> float:
    """Until the next look; `looking_seconds` is how long the last one took."""
    distances = [abs(memory_border(raised, readings.memory_total_bytes, settings) - readings.memory_bytes)]
    if readings.disk_free_bytes is not None and settings.disk_free_bytes_min:
        distances.append(abs(disk_border(raised, settings) - readings.disk_free_bytes))
    soonest = min(min(distances) / GROWTH_BYTES_PER_SECOND_MAX, settings.look_seconds_max)
    return max(soonest, settings.look_seconds_min, looking_seconds * (1 / LOOKING_SHARE_MAX - 1))
