"""The matrix as a picture: rates and CPU time of both brokers, case by case, on logarithmic scales."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure

from bench.cases import Case
from bench.measures import Measure
from bench.participants import Participant
from bench.results import Results

COLOURS: Final = ("#f08a3c", "#2a6f97")  # of the first and the second participant; told apart in grey, too
HEIGHT_OF_CASE: Final = 0.42  # inches
RATE_MIN: Final = 10  # where the scales begin: a logarithmic one has no zero
CPU_MIN: Final = 0.01
_BAR: Final = 0.38

mpl.rcParams["svg.hashsalt"] = "ebbmq"  # the same figures make the same file
mpl.rcParams["svg.fonttype"] = "none"  # text stays text


def draw(results: Sequence[Results], path: Path) -> None:
    """Of the first comparison; the others are about EbbMQ alone."""
    comparison = results[0].comparison
    shown = [result for result in results if result.comparison is comparison and not result.case.is_latency]
    figure = Figure(figsize=(11, 1.6 + HEIGHT_OF_CASE * len(shown)), layout="constrained")
    rates, cpu = figure.subplots(1, 2, sharey=True)
    for place, participant in enumerate((comparison.base, comparison.subject)):
        _bars(rates, shown, participant, place, lambda case: case.counts)
        _bars(cpu, shown, participant, place, lambda case: Measure.CPU)
    rates.set_yticks(range(len(shown)), [_label(result.case) for result in shown], fontsize=8)
    rates.invert_yaxis()
    for axes, title, least in ((rates, "a second", RATE_MIN), (cpu, "CPU seconds a million", CPU_MIN)):
        axes.set_xscale("log")
        axes.set_xlim(left=least)
        axes.set_title(title, fontsize=9)
        axes.grid(axis="x", which="major", linewidth=0.4)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*rates.get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    figure.savefig(path, format="svg", metadata={"Date": None})


def _bars(axes: Any, results: Sequence[Results], participant: Participant, place: int, measure_of: Any) -> None:
    """Medians, with whiskers from the least to the largest."""
    rows, medians, below, above = [], [], [], []
    for row, result in enumerate(results):
        found = result.medians(participant)
        if found is None:
            continue
        measure = measure_of(result.case)
        least, largest = result.spread(participant, measure)
        rows.append(row + (place - 0.5) * _BAR)
        medians.append(found[measure])
        below.append(found[measure] - least)
        above.append(largest - found[measure])
    axes.barh(rows, medians, _BAR, xerr=(below, above), color=COLOURS[place], label=participant.name, ecolor="#444444")


def _label(case: Case) -> str:
    return case.name.replace("-", " ")
