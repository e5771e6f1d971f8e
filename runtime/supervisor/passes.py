"""What compaction passes did: the last of them, report by report, and counters of all since the start."""

from collections import Counter, deque
from collections.abc import Iterator
from typing import Final

from ipc.limits import PASSES_REMEMBERED_MAX
from ipc.messages.commands import Level
from ipc.messages.reports import Reclaimed
from runtime.owner import Owner

UNASKED: Final = 0  # the number of passes that the supervisor did not ask for


class Pass:
    """One pass over all processes, complete once it has `seconds`."""

    def __init__(self, number: int, level: Level, trigger: str, *, began_at: float) -> None:
        """`began_at`: seconds since 1970."""
        self.number = number
        self.level = level
        self.trigger = trigger
        self.began_at = began_at
        self.seconds: float | None = None
        self.unanswered: tuple[int, ...] = ()
        self.reports: list[Reclaimed] = []


class Passes(Owner):
    """Counters are bounded because triggers, levels and kinds are the broker's own words."""

    COLLECTIONS = ("_passes",)

    def __init__(self) -> None:
        self._passes: deque[Pass] = deque(maxlen=PASSES_REMEMBERED_MAX)
        self.counts: Counter[tuple[str, Level]] = Counter()  # by trigger and level
        self.freed_bytes_by_kind: Counter[str] = Counter()
        self.slice_seconds_longest = 0.0
        self.failures = 0
        self.unanswered = 0  # shards that did not report in time

    def __iter__(self) -> Iterator[Pass]:
        """The last ones, oldest first."""
        return iter(self._passes)

    def __len__(self) -> int:
        return len(self._passes)

    def begin(self, number: int, level: Level, trigger: str, *, began_at: float) -> Pass:
        begun = Pass(number, level, trigger, began_at=began_at)
        self._passes.append(begun)
        self.counts[trigger, level] += 1
        return begun

    def note(self, report: Reclaimed, *, now: float) -> None:
        """A process reports at `now`, in seconds since 1970; it may be late, and its pass forgotten.

        A report without a number is of a pass that a shard ran by itself, which is a pass of its own here.
        """
        self.freed_bytes_by_kind.update(report.freed_bytes_by_kind)
        self.slice_seconds_longest = max(self.slice_seconds_longest, report.slice_seconds_longest)
        self.failures += report.failures
        if report.pass_number == UNASKED:
            alone = self.begin(UNASKED, report.level, report.trigger, began_at=now - report.seconds)
            alone.reports.append(report)
            self.end(alone, seconds=report.seconds, unanswered=())
            return
        for done in reversed(self._passes):
            if done.number == report.pass_number:
                done.reports.append(report)
                return

    def end(self, done: Pass, *, seconds: float, unanswered: tuple[int, ...]) -> None:
        """`unanswered`: shards that did not report in time."""
        done.seconds = seconds
        done.unanswered = unanswered
        self.unanswered += len(unanswered)
