"""Kinds and vhosts whose turn it is not, in a pass that nobody asked for: those with an interval of their own."""

from collections.abc import Iterable
from itertools import chain
from typing import Final

from ipc.settings import CompactionSettings, ShrinkSettings

NEVER: Final = 0.0


class Rests:
    """When each kind of collection and each vhost with an interval of its own was last looked at, in milliseconds."""

    __slots__ = ("_looked_at",)

    def __init__(self) -> None:
        self._looked_at: dict[str, int] = {}

    def resting(self, settings: CompactionSettings, now: int) -> frozenset[str]:
        """Names of kinds and vhosts that are passed by in the pass which begins now; the others are looked at."""
        own: Iterable[tuple[str, ShrinkSettings]] = chain(settings.kinds.items(), settings.vhosts.items())
        seconds = {name: rule.idle_trim_seconds for name, rule in own if rule.idle_trim_seconds is not None}
        resting = {name for name, interval in seconds.items() if not self._is_due(name, interval, now)}
        # Only names that the settings know, so that it stays as small as they are.
        self._looked_at = {name: self._looked_at.get(name, 0) if name in resting else now for name in seconds}
        return frozenset(resting)

    def _is_due(self, name: str, seconds: float, now: int) -> bool:
        if seconds == NEVER:
            return False
        return name not in self._looked_at or now - self._looked_at[name] >= seconds * 1000
