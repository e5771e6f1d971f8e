"""What one more of a thing costs while it stands: private memory of all processes, divided by how many were added.

`python -m bench.memory.standing_cost [--broker rabbitmq] [--factor 1]` prints a markdown table. A first few of each
kind come before, so that what is paid once is not counted. EbbMQ is read after a pass, RabbitMQ, which knows none, when
it has come to rest or had as much time.
"""

import argparse
from itertools import pairwise
from typing import Final

from bench.memory.readings import await_steady, private_bytes
from bench.memory.subject import EBBMQ, add_option, name_of, started
from bench.memory.tide import Size, Tide
from bench.page import machine
from runtime.supervisor.descriptors import raise_limit

TARGETS: Final = {"connection with 5 channels": 20_000, "queue with a topic binding": 3_000, "delivery": 32}
WARM_UP: Final = Size(connections=20, channels=5, queues=50, deliveries=1_000)
STEADY_BYTES: Final = 100_000
STEADY_SECONDS_MAX: Final = 20.0


def measure(broker: str, size: Size) -> dict[str, float]:
    """Bytes of private memory for one of each."""
    with started(broker) as subject:

        def read() -> int:
            subject.ask("release")  # holes between what stands are not its cost
            return await_steady(
                lambda: private_bytes(subject.root), within=STEADY_BYTES, seconds_max=STEADY_SECONDS_MAX
            )

        warm_up = Tide(subject.port, WARM_UP)
        warm_up.rise()
        warm_up.fall()
        tide = Tide(subject.port, size)
        readings = [read()]
        for step in (tide.connect, tide.declare, tide.deliver):
            step()
            readings.append(read())
        counts = (size.connections, size.queues, size.deliveries)
        grown = (later - before for before, later in pairwise(readings))
        costs = dict(zip(TARGETS, (bytes_ / count for bytes_, count in zip(grown, counts, strict=True)), strict=True))
        tide.close()
        warm_up.close()
        return costs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add_option(parser)
    parser.add_argument("--factor", type=float, default=1.0)
    options = parser.parse_args()
    raise_limit()
    size = Size().scaled(options.factor)
    print(f"{machine()}.\n\n| one more | {name_of(options.broker)}, private memory | target |\n|---|---:|---:|")
    for name, cost in measure(options.broker, size).items():
        target = f"{TARGETS[name]:,} B" if options.broker == EBBMQ else ""
        print(f"| {name} | {cost:,.0f} B | {target} |")


if __name__ == "__main__":
    main()
