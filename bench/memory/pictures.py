"""Pictures for docs/memory.md: memory over time with the passes marked, of spikes and of a broker short of memory.

`python -m bench.memory.pictures [--only spike,tight]` (or `make bench-memory`) writes docs/img/memory-spike.svg and
docs/img/memory-tight.svg and prints the rows that belong to them. RabbitMQ is beside ours where it is installed.
"""

import argparse
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from bench.fresh_rabbitmq import find_version
from bench.memory import spike, tight
from bench.memory.plot import Curve, Panel, draw
from bench.memory.recorder import Point, Recorder, passes_of
from bench.memory.subject import EBBMQ, RABBITMQ, started
from bench.memory.tide import Size
from bench.page import IMAGES, machine
from ipc.messages import control
from runtime.supervisor.descriptors import raise_limit

IDLE_TRIM_SECONDS: Final = 5.0  # instead of the default's minute: the picture would be mostly waiting
OURS: Final = "#2a6f97"
THEIRS: Final = "#f08a3c"
CACHED: Final = "#b9b9b9"
HEAPS: Final = "#7b5ea7"


class Spikes(Struct, frozen=True):
    """What was seen of two spikes, one after the other."""

    outcomes: tuple[spike.Outcome, ...]
    points: tuple[Point, ...]
    passes: tuple[control.Pass, ...]

    @classmethod
    def record(cls, broker: str, *, level: str, seconds: float, arguments: tuple[str, ...] = ()) -> "Spikes":
        with started(broker, arguments) as subject, Recorder(subject.root) as recorder:
            outcomes = spike.measure(subject, Size(), times=2, keep_each=0, level=level, seconds=seconds)
            passes = passes_of(subject.data) if subject.data is not None else []
        return cls(tuple(outcomes), tuple(recorder.points), tuple(passes))


def draw_spike() -> None:
    asked = Spikes.record(EBBMQ, level="release", seconds=spike.WATCHED_SECONDS)
    idle = ("--set", f"compaction.idle_trim_seconds={IDLE_TRIM_SECONDS:g}")
    alone = Spikes.record(EBBMQ, level=spike.NOBODY, seconds=2 * IDLE_TRIM_SECONDS, arguments=idle)
    panels = [
        Panel("two spikes, SIGUSR1 after each", (Curve.private("EbbMQ", asked.points, OURS),), asked.passes),
        Panel(
            f"the same, and nobody asks: it goes {IDLE_TRIM_SECONDS:g} s after the peak has passed",
            (Curve.private("EbbMQ", alone.points, OURS),),
            alone.passes,
        ),
    ]
    rows = [("EbbMQ, SIGUSR1", asked), (f"EbbMQ, {2 * IDLE_TRIM_SECONDS:g} s later", alone)]
    version = find_version()
    if version is not None:
        theirs = Spikes.record(RABBITMQ, level=spike.NOBODY, seconds=2 * IDLE_TRIM_SECONDS)
        name = f"RabbitMQ {version}"
        curves = (Curve.private("EbbMQ, SIGUSR1", asked.points, OURS), Curve.private(name, theirs.points, THEIRS))
        panels.append(Panel("two spikes on both brokers, each at its own pace", curves, is_logarithmic=True))
        rows.append((name, theirs))
    draw(panels, IMAGES / "memory-spike.svg")
    print(f"{machine()}\n\n{spike.HEAD}")
    for name, found in rows:
        for number, outcome in enumerate(found.outcomes, 1):
            print(spike.row(f"{name}, spike {number}", [outcome]))


def draw_tight() -> None:
    shards = 2
    limit_bytes, eaten_bytes = tight.LIMIT_MIB * tight.MIB, tight.EATEN_MIB * tight.MIB
    outcome = tight.measure(
        shards=shards,
        sets=1,
        sizes=tight.SIZES,
        limit_bytes=limit_bytes,
        eaten_bytes=eaten_bytes,
        bytes_per_second=tight.BYTES_PER_SECOND,
        seconds=tight.SECONDS,
        arguments=(),
    )
    curves = (
        Curve.charged("the group", outcome.points, "usage", CACHED),
        Curve.charged("… heaps in it", outcome.points, "anonymous", HEAPS),
        Curve.private("the broker, private", outcome.points, OURS),
    )
    title = f"{tight.LIMIT_MIB} MiB, of which a neighbour takes {tight.EATEN_MIB} again and again; {shards} shards"
    draw([Panel(title, curves, outcome.passes, outcome.alarms, limit_bytes)], IMAGES / "memory-tight.svg")
    print(f"{machine()}\n\n{tight.table(outcome)}")


DRAWN: Final[dict[str, Callable[[], None]]] = {"spike": draw_spike, "tight": draw_tight}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", default=",".join(DRAWN), help="which, separated by commas (default: all)")
    options = parser.parse_args()
    raise_limit()
    for name in options.only.split(","):
        DRAWN[name]()


if __name__ == "__main__":
    main()
