"""Runs the matrix: brokers side by side, taking turns within one run, medians and spread of what they do.

`python -m bench.matrix [--cases a,b] [--repetitions 5] [--seconds 5] [--minutes 35] [--write]` prints markdown tables;
`--write` also puts them into docs/measurements.md, with a plot. Each repetition goes through all cases of a comparison,
and in each case through its participants, in an order that turns round from one repetition to the next: a minute in
which the machine was slow then costs every case a little instead of one case everything. When the time is up, no
further repetition begins.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from msgspec import structs

from bench import load
from bench.cases import COMPARISONS, Comparison
from bench.measures import written
from bench.page import IMAGES, machine, replace_section
from bench.participants import Participant, Running
from bench.results import Results
from bench.table import tables

draw: Callable[[Sequence[Results], Path], None] | None
try:
    from bench import plot
except ImportError:  # matplotlib is an extra
    draw = None
else:
    draw = plot.draw

SECTION: Final = "matrix"
PLOT: Final = "matrix.svg"


def chosen(names: Sequence[str]) -> list[Comparison]:
    """All comparisons, or those with the cases of these names and nothing else in them."""
    known = [case.name for comparison in COMPARISONS for case in comparison.cases]
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(f"no such case: {', '.join(unknown)}; there are {', '.join(known)}")
    if not names:
        return list(COMPARISONS)
    cut = [
        structs.replace(comparison, cases=tuple(case for case in comparison.cases if case.name in names))
        for comparison in COMPARISONS
    ]
    return [comparison for comparison in cut if comparison.cases]


def measure(
    comparison: Comparison, repetitions: int, seconds: float, until: float, data_on: str | None
) -> list[Results]:
    """Every case so often, or until a further repetition would end after `until` on the monotonic clock."""
    results = [Results(comparison, case) for case in comparison.cases]
    with ExitStack() as stack:
        brokers = {
            participant: stack.enter_context(participant.start(data_on))
            for participant in (comparison.base, comparison.subject)
            if participant.is_here()
        }
        longest = 0.0
        for repetition in range(repetitions):
            started = time.monotonic()
            if repetition and started + longest > until:
                break
            _repeat(results, list(brokers.items())[:: -1 if repetition % 2 else 1], seconds)
            longest = max(longest, time.monotonic() - started)
    return results


def _repeat(results: Sequence[Results], brokers: Sequence[tuple[Participant, Running]], seconds: float) -> None:
    for result in results:
        for participant, broker in brokers:
            try:
                run = load.run(result.case, broker, seconds)
            except load.LoadFailed as failed:
                result.failures[participant.name] = str(failed)
                _say(f"{result.case.name}, {participant.name}: failed: {failed}")
                continue
            result.add(participant, run)
            shown = ", ".join(written(measure, run.outcome[measure]) for measure in result.case.shown)
            _say(f"{result.case.name}, {participant.name}: {shown}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def deadlines(comparisons: Sequence[Comparison], minutes: float) -> Iterator[tuple[Comparison, float]]:
    """Each with the end of its share of the time, on the monotonic clock."""
    begin = time.monotonic()
    cases = sum(len(comparison.cases) for comparison in comparisons)
    done = 0
    for comparison in comparisons:
        done += len(comparison.cases)
        yield comparison, begin + minutes * 60 * done / cases


def report(results: Sequence[Results], seconds: float) -> str:
    """The section without its picture."""
    least = min(result.repetitions(result.comparison.subject) for result in results)
    return (
        f"{machine()}. Brokers taking turns, {least} repetitions of {seconds:g} s each. Median (least to largest) "
        f"a second · CPU seconds of the broker a million messages or operations.\n\n{tables(results)}"
    )


def write(results: Sequence[Results], text: str) -> None:
    if draw is None:
        _say("no plot: matplotlib is not installed (pip install 'ebbmq[bench]')")
        replace_section(SECTION, text)
        return
    IMAGES.mkdir(exist_ok=True)
    draw(results, IMAGES / PLOT)
    replace_section(SECTION, f"![Rates and CPU time of both brokers, case by case](img/{PLOT})\n\n{text}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cases", default="", help="names, separated by commas (default: all)")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each run (default: 5)")
    parser.add_argument("--minutes", type=float, default=35.0, help="begin no repetition that would end later")
    parser.add_argument("--data-on", help="directory for the brokers' data (default: the system's temporary one)")
    parser.add_argument("--write", action="store_true", help="into docs/; only a run of all cases may")
    options = parser.parse_args()
    names = [name for name in options.cases.replace(",", " ").split() if name]
    if names and options.write:
        raise SystemExit("--write needs all cases: a part of them would replace the whole section")

    results: list[Results] = []
    for comparison, until in deadlines(chosen(names), options.minutes):
        results += measure(comparison, options.repetitions, options.seconds, until, options.data_on)
    text = report(results, options.seconds)
    print(text)
    if options.write:
        write(results, text)


if __name__ == "__main__":
    main()
