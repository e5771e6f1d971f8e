"""A compaction pass as a host runs it: some steps after a turn, some after the next, and blocking work meanwhile."""

from collections.abc import Callable, Iterator
from random import Random

from shards.compaction.coldest import Label
from shards.compaction.compactable import Offload, Step
from tests.simulation.exercised import Exercised, Tally

_SLICE_STEPS_MAX = 40


class SlicedPass:
    """`dice` decide how long its slices are, whatever happens between them."""

    def __init__(self, steps: Iterator[tuple[Label, Step]], dice: int, tally: Tally) -> None:
        self.is_over = False
        self._steps = steps
        self._chance = Random(dice)
        self._tally = tally
        self._slices = 0
        self._blocking: Callable[[], None] | None = None
        tally[Exercised.PASS] += 1

    def take_slice(self) -> None:
        """Some steps; none after one that asks for blocking work, which ends when the next slice begins."""
        self._slices += 1
        self._tally[Exercised.PASS_IN_SLICES] += self._slices == 2
        self._unblock()
        for _ in range(self._chance.randrange(_SLICE_STEPS_MAX)):
            if not self._take_step() or self._blocking is not None:
                return

    def finish(self) -> None:
        self._unblock()
        while self._take_step():
            self._unblock()

    def _take_step(self) -> bool:
        label_and_step = next(self._steps, None)
        if label_and_step is None:
            self.is_over = True
            return False
        step = label_and_step[1]
        if isinstance(step, Offload):
            self._blocking = step.work
        return True

    def _unblock(self) -> None:
        blocking, self._blocking = self._blocking, None
        if blocking is None:
            return
        try:
            blocking()
        except OSError:
            pass  # counted by the host
