"""What all runs of one case showed, by participant, and what that comes to: medians, spread, targets."""

import statistics
from collections import Counter

from bench.cases import Case, Comparison
from bench.load import Run
from bench.measures import Measure, Outcome
from bench.participants import Participant


class Results:
    """Of one case; `failures` are sentences by the participant's name."""

    def __init__(self, comparison: Comparison, case: Case) -> None:
        self.comparison = comparison
        self.case = case
        self.failures: dict[str, str] = {}
        self._runs: dict[str, list[Run]] = {}

    def add(self, participant: Participant, run: Run) -> None:
        self._runs.setdefault(participant.name, []).append(run)

    def repetitions(self, participant: Participant) -> int:
        return len(self._runs.get(participant.name, ()))

    def medians(self, participant: Participant) -> Outcome | None:
        """Of every measure on its own; None without any run."""
        runs = self._runs.get(participant.name)
        if not runs:
            return None
        return {measure: statistics.median(values) for measure, values in self._values(participant).items()}

    def spread(self, participant: Participant, measure: Measure) -> tuple[float, float]:
        """The least and the largest."""
        values = self._values(participant)[measure]
        return min(values), max(values)

    def _values(self, participant: Participant) -> dict[Measure, list[float]]:
        runs = self._runs[participant.name]
        return {measure: [run.outcome[measure] for run in runs] for measure in runs[0].outcome}

    @property
    def ratio(self) -> float | None:
        """Of the second participant's medians to the first one's; of latencies, how many times shorter."""
        base, subject = self.medians(self.comparison.base), self.medians(self.comparison.subject)
        if base is None or subject is None:
            return None
        measure = self.case.shown[0] if self.case.is_latency else self.case.counts
        if not base[measure] or not subject[measure]:
            return None
        return base[measure] / subject[measure] if self.case.is_latency else subject[measure] / base[measure]

    def unmet(self) -> list[str] | None:
        """Names of the measures whose targets are not met; None where that cannot be told, or nothing is asked."""
        subject = self.medians(self.comparison.subject)
        if not self.case.targets or subject is None:
            return None
        base = self.medians(self.comparison.base)
        met = [(target, target.is_met(subject, base)) for target in self.case.targets]
        unmet = [target.measure.value for target, is_met in met if is_met is False]
        return None if not unmet and any(is_met is None for _, is_met in met) else unmet

    def remarks(self, participant: Participant) -> Counter[str]:
        """How many runs had which limit other than the broker, as the load tool says before the colon."""
        runs = self._runs.get(participant.name, ())
        return Counter(remark for run in runs for remark in {note.partition(":")[0] for note in run.notes})
