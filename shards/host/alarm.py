"""Rings when the first appointment in the agenda has come, so that the pump makes a turn although nobody spoke."""

import math
from collections.abc import Callable
from typing import Any

import trio

from shards.host.bell import Bell
from shards.model.agenda import Agenda


class Alarm:
    """Set again whenever the agenda's first appointment has changed."""

    def __init__(self, agenda: Agenda[Any], bell: Bell, clock: Callable[[], int]) -> None:
        self._agenda = agenda
        self._bell = bell
        self._clock = clock
        self._set_to = 0
        self._changed = trio.Event()

    def set(self) -> None:
        """Called after each turn."""
        due = self._agenda.next_due
        if due != self._set_to:
            self._set_to = due
            self._changed.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._changed = trio.Event()
            seconds = (self._set_to - self._clock()) / 1000 if self._set_to else math.inf
            with trio.move_on_after(max(0.0, seconds)) as until_due:
                await self._changed.wait()
            if until_due.cancelled_caught:
                # The turn sets it to what comes next; if it does not, the same must not ring for ever.
                self._set_to = 0
                self._bell.ring()
