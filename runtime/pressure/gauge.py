"""What the watcher of memory pressure knows at the moment, for whoever wants to show it."""

from ipc.messages.commands import Level
from ipc.settings import CompactionSettings
from runtime.decisions.ladder import Ladder


class Gauge:
    """Written by the watcher; `source` is empty until it has found one."""

    def __init__(self) -> None:
        self.source = ""
        self.ladder = Ladder()

    def level(self, now: float, settings: CompactionSettings) -> Level | None:
        """How hard memory is being asked for; None: not at all. `now` by the watcher's clock."""
        return self.ladder.level(now, settings.escalate_seconds)
