"""What a run of the load tool tells, and how many of each thing is written for people."""

from collections.abc import Mapping
from enum import Enum
from typing import Final

Outcome = Mapping["Measure", float]
"""One run of one case against one broker, or the medians of several."""

MILLION: Final = 1_000_000
THOUSAND: Final = 1_000
_EXACT_BELOW: Final = 10_000  # rates below are written out
_TENTHS_BELOW: Final = 20  # of CPU seconds: what is smaller has two decimals where it matters


class Measure(Enum):
    """Rates are a second, CPU is of all the broker's processes; the value is what a table calls it."""

    PUBLISHED = "in"
    CONSUMED = "out"
    TOTAL = "sum"  # published and consumed
    CHURNED = "rate"
    MEDIAN_MS = "p50"
    P99_MS = "p99"
    CPU = "CPU"  # seconds a million of what the case counts


LATENCIES: Final = (Measure.MEDIAN_MS, Measure.P99_MS)


def written(measure: Measure, value: float) -> str:
    if measure in LATENCIES:
        return f"{value:.2f} ms"
    if measure is Measure.CPU:
        return f"{value:.2f}" if value < _TENTHS_BELOW else f"{value:.0f}"
    if value >= MILLION:
        return f"{value / MILLION:.2f} M"
    if value >= _EXACT_BELOW:
        return f"{value / THOUSAND:.0f} k"
    return f"{value:,.0f}"
