"""From readings of memory pressure to compaction passes: how hard, how often, and never a storm.

```
 rung      climbs when pressure comes back within `escalate_seconds` of the last pass's end,
 CRITICAL  stays when it comes back within twice that time,
 RELEASE   and sinks by one for every `escalate_seconds` of calm beyond.
 TRIM      Each reading has bounds of its own: a pass is never below its floor nor above its ceiling.
```

One pass at a time. A reading that comes during a pass tells of memory which that pass is about to give back, so it is
dropped (lasting pressure reports itself again) unless it asks for more than the pass does. One that comes before the
cool-down is over is held until then, merged with its like. The cool-down doubles with every pass that brought the same
level no relief, because one more of the same will not either. Whoever can tell that it was relieved says so (`is_new`);
of all others calm is the sign.
"""

from math import inf

from msgspec import Struct

from ipc.limits import COOL_DOWN_DOUBLINGS_MAX
from ipc.messages.commands import Level
from ipc.settings import CompactionSettings


class Reading(Struct, frozen=True):
    """Somebody says memory is short: who, and between which levels an answer makes sense."""

    trigger: str
    floor: Level = Level.TRIM
    ceiling: Level = Level.CRITICAL
    is_new: bool = False  # there was enough again since this source reported last


class Pass(Struct, frozen=True):
    """A pass to be run now; `finished()` must follow."""

    level: Level
    trigger: str


class Ladder:
    """`now` is in seconds of a clock that does not go back; settings come in with each call: they may change."""

    def __init__(self) -> None:
        self._rung = Level.TRIM
        self._held: Reading | None = None
        self._held_since = -inf
        self._last: Pass | None = None
        self._is_running = False
        self._ended = -inf
        self._in_vain = 0

    def observe(self, reading: Reading, now: float) -> None:
        """Note a reading; `take()` says whether a pass comes of it."""
        if self._is_running and self._last is not None and reading.floor <= self._last.level:
            return
        if self._held is None:
            self._held_since = now
            self._held = reading
        else:
            self._held = _merge(self._held, reading)

    def take(self, now: float, settings: CompactionSettings) -> Pass | None:
        """The pass to run now, if any."""
        if self._held is None or now < self.wakes_at(settings):
            return None
        calm_seconds = max(0.0, self._held_since - self._ended)
        self._rung = min(self._next_rung(calm_seconds, settings.escalate_seconds), self._held.ceiling)
        step = Pass(max(self._rung, self._held.floor), self._held.trigger)
        is_repeated = not self._held.is_new and self._last is not None and self._last.level == step.level
        self._in_vain = self._in_vain + 1 if is_repeated and calm_seconds < settings.escalate_seconds else 0
        self._held = None
        self._last = step
        self._is_running = True
        return step

    def finished(self, now: float) -> None:
        """The pass that was taken is over."""
        assert self._is_running
        self._is_running = False
        self._ended = now

    def level(self, now: float, escalate_seconds: float) -> Level | None:
        """What pressure calls for at the moment: the pass under way, or the last one less what calm has sunk since."""
        if self._last is None:
            return None
        if self._is_running:
            return self._last.level
        calm_seconds = now - self._ended
        if escalate_seconds == 0 or calm_seconds >= (self._last.level + 1) * escalate_seconds:
            return None
        return Level(self._last.level - max(0, int(calm_seconds / escalate_seconds) - 1))

    def wakes_at(self, settings: CompactionSettings) -> float:
        """When `take()` is worth asking next; infinity while only a reading or a pass's end can change its answer."""
        if self._is_running or self._held is None:
            return inf
        is_other = self._held.is_new or (self._last is not None and self._held.floor > self._last.level)
        doublings = 0 if is_other else min(self._in_vain, COOL_DOWN_DOUBLINGS_MAX)
        return self._ended + settings.cool_down_seconds * (1 << doublings)

    def _next_rung(self, calm_seconds: float, escalate_seconds: float) -> Level:
        if self._last is None:
            return Level.TRIM
        if calm_seconds < escalate_seconds:
            return Level(min(self._rung + 1, Level.CRITICAL))
        if escalate_seconds == 0:
            return Level.TRIM
        sunk = int(calm_seconds / escalate_seconds) - 1
        return Level(max(self._rung - sunk, Level.TRIM))


def _merge(held: Reading, reading: Reading) -> Reading:
    worse = reading if reading.floor > held.floor else held
    return Reading(worse.trigger, worse.floor, max(held.ceiling, reading.ceiling), held.is_new or reading.is_new)
