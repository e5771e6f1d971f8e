"""How long a shard may leave a question unanswered: noted soon, for a person to read, and given up only very late.

Most silence is not death: a debugger, a machine without memory, a disk that does not answer all pass, and a shard that
was killed for them would have to recover on the same machine. So the second limit is long, and a shard that recovers
virtual hosts, which takes as long as their files are large, is never given up.

A question that could not be asked is tried again, and the time counts: nobody reads there, or somebody else was sending
for a moment, and an answer to what was never asked would not come.

Time that nobody looked does not count. When the supervisor itself was stopped, the shard's answer waits to be read.
"""

from enum import Enum, auto
from typing import Final

from ipc.settings import MainSettings

LOOKS_PER_SILENCE: Final = 2  # in the time after which silence is noted


class Finding(Enum):
    """What a look came to, and what to do about it."""

    ASK = auto()  # everything is answered: ask again; or the question could not be asked: try again
    WAIT = auto()
    SILENT = auto()  # say so; told once a silence
    LOST = auto()  # end it


class Silence:
    """Of one process; `now` is in seconds of a clock that does not go back."""

    def __init__(self, now: float) -> None:
        self.seconds = 0.0  # since the oldest question that was not answered, as far as somebody looked
        self._lost_seconds = 0.0  # the part of it in which there was no good reason
        self._looked_at = now
        self._is_due = False  # to be asked, or asked
        self._is_asked = False
        self._is_noted = False

    def look(self, now: float, main: MainSettings, *, is_recovering: bool) -> Finding:
        """To be called every `pause(main)` seconds; `asked` follows on ASK, if the question could be asked."""
        passed = min(now - self._looked_at, 2 * pause(main))
        self._looked_at = now
        if not self._is_due:
            self._is_due = True
            return Finding.ASK
        self.seconds += passed
        if not is_recovering:
            self._lost_seconds += passed
        if 0 < main.shard_silent_seconds_max <= self._lost_seconds:
            return Finding.LOST
        if self.seconds >= main.shard_silent_seconds and not self._is_noted:
            self._is_noted = True
            return Finding.SILENT
        return Finding.WAIT if self._is_asked else Finding.ASK

    def asked(self) -> None:
        """The question is on its way."""
        self._is_asked = True

    def heard(self) -> bool:
        """It said something; whether that ends a silence that was noted."""
        was_noted = self._is_noted
        self.seconds = self._lost_seconds = 0.0
        self._is_due = self._is_asked = self._is_noted = False
        return was_noted


def pause(main: MainSettings) -> float:
    """Seconds between two looks."""
    return main.shard_silent_seconds / LOOKS_PER_SILENCE
