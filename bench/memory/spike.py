"""What is left of a spike of load once all of it is gone: private memory of all processes, before, at its peak, after.

`python -m bench.memory.spike [--broker rabbitmq] [--keep] [--idle 6] [--level critical] [--factor 1] [--times 2]`
prints a markdown table. A spike is 1,000 connections with 5 channels each, 5,000 queues bound to a topic exchange and
500,000 deliveries that nobody acknowledges. Then all of it goes, or all but every hundredth of each kind, and a pass is
asked for (SIGUSR1, or pressure until it is critical); with `--idle` nobody asks. RabbitMQ knows no such signal and is
given the same time.
"""

import argparse
import statistics
import time
from typing import Final

from msgspec import Struct

from bench.memory.readings import MEGABYTE, Ebb, await_steady, megabytes, private_bytes
from bench.memory.subject import Subject, add_option, started
from bench.memory.tide import Size, Tide
from bench.page import machine
from runtime.supervisor.descriptors import raise_limit

LEFT_BYTES_MAX: Final = 15 * MEGABYTE
AT_ONCE_SECONDS: Final = 2.0
WATCHED_SECONDS: Final = 4.0
NOBODY: Final = "nobody asks"
WARM_UP: Final = Size(connections=2, channels=2, queues=2, deliveries=2)
KEPT_EACH: Final = 100
STEADY_BYTES: Final = 200_000
STEADY_SECONDS_MAX: Final = 20.0


class Outcome(Struct, frozen=True):
    """Bytes of private memory in one run."""

    before: int
    peak: int
    gone: int  # when the last of it had gone and nobody had done anything about it yet
    ebb: Ebb

    @property
    def returned(self) -> float:
        """Share of the growth, at `at_once`."""
        return (self.peak - self.ebb.at_once) / (self.peak - self.before)


def measure(subject: Subject, size: Size, *, times: int, keep_each: int, level: str, seconds: float) -> list[Outcome]:
    """So many spikes one after the other on one broker, which was used before: first-time costs are not a spike's."""
    warm_up = Tide(subject.port, WARM_UP)
    warm_up.rise()
    warm_up.fall()
    warm_up.close()
    subject.ask("release")
    before = await_steady(lambda: private_bytes(subject.root), within=STEADY_BYTES, seconds_max=STEADY_SECONDS_MAX)
    found = []
    for _ in range(times):
        tide = Tide(subject.port, size)
        try:
            tide.rise()
            peak = private_bytes(subject.root)
            tide.fall(keep_each=keep_each)
            time.sleep(1)
            gone = private_bytes(subject.root)
            subject.ask(level)
            at_once = seconds if level == NOBODY else AT_ONCE_SECONDS
            ebb = Ebb.watch(subject.root, before + LEFT_BYTES_MAX, at_once_seconds=at_once, seconds=seconds)
            found.append(Outcome(before, peak, gone, ebb))
        finally:
            tide.close()
    return found


def row(name: str, outcomes: list[Outcome]) -> str:
    """Medians over the repetitions; the range of what is left."""
    left = [outcome.ebb.at_once - outcome.before for outcome in outcomes]
    reached = [outcome.ebb.reached_after for outcome in outcomes]
    times = sorted(seconds for seconds in reached if seconds is not None)
    when = f"{statistics.median(times):.1f} s" if len(times) == len(outcomes) else "not reached"
    cells = (
        megabytes(statistics.median(outcome.before for outcome in outcomes)),
        megabytes(statistics.median(outcome.peak for outcome in outcomes)),
        megabytes(statistics.median(outcome.gone for outcome in outcomes)),
        megabytes(statistics.median(outcome.ebb.at_once for outcome in outcomes)),
        f"{megabytes(statistics.median(left))} ({min(left) / MEGABYTE:.1f} to {max(left) / MEGABYTE:.1f})",
        f"{100 * statistics.median(outcome.returned for outcome in outcomes):.0f} %",
        when,
    )
    return f"| {name} | {' | '.join(cells)} |"


HEAD: Final = (
    "| | before | peak | all gone | then | beyond before | returned | within 15 MB after |\n"
    "|---|---:|---:|---:|---:|---:|---:|---:|"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repetitions", type=int, default=3)
    add_option(parser)
    parser.add_argument("--factor", type=float, default=1.0, help="of the spike's size (default: 1)")
    parser.add_argument("--times", type=int, default=2, help="spikes one after the other on one broker (default: 2)")
    parser.add_argument("--keep", action="store_true", help="every hundredth connection, queue and delivery stays")
    parser.add_argument("--idle", type=float, default=0.0, help="seconds to wait instead of sending a signal")
    parser.add_argument("--level", choices=("release", "critical"), default="release")
    parser.add_argument("--set", action="append", default=[], help="a setting for the broker, section.key=value")
    options = parser.parse_args()
    raise_limit()
    size = Size().scaled(options.factor)
    arguments = [word for setting in options.set for word in ("--set", setting)]
    spikes: list[list[Outcome]] = [[] for _ in range(options.times)]
    for _ in range(options.repetitions):
        with started(options.broker, arguments) as subject:
            found = measure(
                subject,
                size,
                times=options.times,
                keep_each=KEPT_EACH if options.keep else 0,
                level=NOBODY if options.idle else options.level,
                seconds=options.idle or WATCHED_SECONDS,
            )
            for outcomes, outcome in zip(spikes, found, strict=True):
                outcomes.append(outcome)
    then = (
        f"nobody asks, {options.idle:g} s" if options.idle else f"{AT_ONCE_SECONDS:g} s after a pass, {options.level}"
    )
    print(f"{machine()}; median of {options.repetitions}; then: {then}.\n\n{HEAD}")
    for number, outcomes in enumerate(spikes, 1):
        print(row(f"spike {number}", outcomes))


if __name__ == "__main__":
    main()
