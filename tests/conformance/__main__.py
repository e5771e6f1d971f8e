"""`python -m tests.conformance [--suites a,b] [--control]`: one line a suite, then what failed and whether it is known.

Ends with 1 when a test failed that has no row in docs/conformance.md, or a suite did not run as it should. The control
only tells: what fails there is a fact about the suite, and a reason for a row.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.conformance import known
from tests.conformance.brokers import ebbmq, rabbitmq
from tests.conformance.known import KnownFailure
from tests.conformance.obtaining import obtain
from tests.conformance.running import Run, run
from tests.conformance.suites import Suite, chosen
from tests.conformance.verdicts import Outcome, Verdict

BUILD: Final = Path(__file__).parents[2] / "build" / "conformance"


def summary(ran: Run) -> str:
    counts = [f"{ran.count(Outcome.PASSED)} passed", f"{ran.count(Outcome.FAILED)} failed"]
    if skipped := ran.count(Outcome.SKIPPED):
        counts.append(f"{skipped} skipped")
    return f"{ran.suite.name}: {', '.join(counts)}"


def details(ran: Run, rows: Sequence[KnownFailure]) -> list[str]:
    """Each failure, known or new; rows that tell the truth no longer; and what else was wrong."""
    lines = [f"  known: {failure.test}" for failure in ran.failures if is_known(ran, failure, rows)]
    for failure in unknown(ran, rows):
        lines += [f"  FAILED: {failure.test}", f"          {failure.message or 'without a word'}"]
    lines += [
        f"  passes, and needs no row any more: {row.test}"
        for row in rows
        if row.suite == ran.suite.name and row.is_steady
        if not any(row.covers(row.suite, failure.test) for failure in ran.failures)
    ]
    return lines + [f"  TROUBLE: {trouble}; see {ran.output}" for trouble in ran.troubles]


def unknown(ran: Run, rows: Sequence[KnownFailure]) -> list[Verdict]:
    return [failure for failure in ran.failures if not is_known(ran, failure, rows)]


def is_known(ran: Run, failure: Verdict, rows: Sequence[KnownFailure]) -> bool:
    return any(row.covers(ran.suite.name, failure.test) for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--suites", default="", help="names, separated by commas (default: all)")
    parser.add_argument("--control", action="store_true", help="against RabbitMQ instead")
    options = parser.parse_args()

    suites: Sequence[Suite] = chosen(options.suites)
    make = rabbitmq() if options.control else ebbmq()
    rows = [] if options.control else known.read(known.PAGE.read_text())
    print(f"{make.name}, with the suites of {', '.join(f'{suite.name} {suite.version}' for suite in suites)}")
    as_they_should = True
    for suite in suites:
        obtained = obtain(suite, BUILD / suite.name / "suite")
        ran = run(suite, obtained, make, BUILD / suite.name / ("control" if options.control else "run"))
        print("\n".join([summary(ran), *details(ran, rows)]), flush=True)
        as_they_should &= not ran.troubles and not unknown(ran, rows)
    sys.exit(0 if as_they_should or options.control else 1)


if __name__ == "__main__":
    main()
