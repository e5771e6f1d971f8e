"""Results as markdown."""

from collections.abc import Sequence

from bench.measures import LATENCIES, Measure, written
from bench.participants import Participant
from bench.results import Results


def tables(results: Sequence[Results]) -> str:
    """A table for each comparison, with what limited it below."""
    parts = []
    for comparison in dict.fromkeys(result.comparison for result in results):
        own = [result for result in results if result.comparison is comparison]
        parts.append(f"### {comparison.title}\n\n{table(own)}\n{_footnotes(own)}")
    return "\n".join(parts)


def table(results: Sequence[Results]) -> str:
    comparison = results[0].comparison
    has_targets = any(case.targets for case in comparison.cases)
    head = ["case", comparison.base.name, comparison.subject.name, "ratio"]
    head += ["must reach", "met"] if has_targets else []
    lines = [head, ["---"] + ["---:"] * 3 + ["---", "---"][: 2 * has_targets]]
    for result in results:
        row = [result.case.title, cell(result, comparison.base), cell(result, comparison.subject), _ratio(result)]
        lines.append(row + ([_targets(result), _met(result)] if has_targets else []))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def cell(result: Results, participant: Participant) -> str:
    """Median (least to largest) of what the case shows · CPU seconds a million."""
    medians = result.medians(participant)
    if medians is None:
        return "failed" if participant.name in result.failures else "–"
    shown = []
    for measure in result.case.shown:
        least, largest = (written(measure, value) for value in result.spread(participant, measure))
        name = f"{measure.value} " if len(result.case.shown) > 1 else ""
        shown.append(f"{name}{written(measure, medians[measure])} ({_shorter(measure, least)} to {largest})")
    return f"{', '.join(shown)} · {written(Measure.CPU, medians[Measure.CPU])}"


def _shorter(measure: Measure, least: str) -> str:
    return least.removesuffix(" ms") if measure in LATENCIES else least


def _ratio(result: Results) -> str:
    ratio = result.ratio
    return "–" if ratio is None else f"{ratio:.1f} ×"


def _targets(result: Results) -> str:
    other = result.comparison.base.name.split()[0]
    return ", ".join(target.told(other) for target in result.case.targets) or "–"


def _met(result: Results) -> str:
    if not result.case.targets:
        return "–"
    unmet = result.unmet()
    if unmet is None:
        return "unknown"
    return f"**no** ({', '.join(unmet)})" if unmet else "yes"


def _footnotes(results: Sequence[Results]) -> str:
    """What went wrong, and where something else than the broker was the limit."""
    lines = []
    for result in results:
        for participant in (result.comparison.base, result.comparison.subject):
            name = f"{result.case.name}, {participant.name}"
            if participant.name in result.failures:
                lines.append(f"* {name}: failed: {result.failures[participant.name]}")
            runs = result.repetitions(participant)
            lines += [f"* {name}: {what}, in {n} of {runs} runs" for what, n in result.remarks(participant).items()]
    return "\n" + "\n".join(lines) + "\n" if lines else ""
