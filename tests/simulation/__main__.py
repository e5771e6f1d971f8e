"""`make simulate SEED=… MINUTES=…`: runs of fresh seeds, or of one, on all cores, until one fails or time is up."""

import argparse
import json
import multiprocessing
import os
import secrets
import sys
import time
import traceback
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import NamedTuple

from tests.simulation.run import carry_out, steps_of
from tests.simulation.shrinking import shrunken
from tests.simulation.small_limits import small_limits

SEEDS = Path(__file__).with_name("seeds")


class Verdict(NamedTuple):
    seed: int
    operations: int
    failure: str


def judge(seed: int) -> Verdict:
    with small_limits():
        try:
            return Verdict(seed, carry_out(seed, steps_of(seed)).operations, "")
        except Exception:  # noqa: BLE001 - whatever a broker raises is a violation
            return Verdict(seed, 0, traceback.format_exc())


def _work(first: int, stride: int, deadline: float, verdicts: "SimpleQueue[Verdict | None]") -> None:
    """Every `stride`-th seed until it is time."""
    seed = first
    while time.monotonic() < deadline:
        verdicts.put(judge(seed))
        seed += stride
    verdicts.put(None)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, help="of one run")
    parser.add_argument("--minutes", type=float, default=2.0)
    options = parser.parse_args()
    if options.seed is not None:
        return _tell(judge(options.seed))
    return _simulate(secrets.randbelow(2**48), options.minutes * 60)


def _simulate(first: int, seconds: float) -> int:
    print(f"simulating from seed {first} on", flush=True)
    began = time.monotonic()
    cores = os.cpu_count() or 1
    verdicts: SimpleQueue[Verdict | None] = multiprocessing.SimpleQueue()
    workers = [
        multiprocessing.Process(target=_work, args=(first + core, cores, began + seconds, verdicts), daemon=True)
        for core in range(cores)
    ]
    for worker in workers:
        worker.start()
    runs = operations = 0
    working = cores
    while working:
        verdict = verdicts.get()
        if verdict is None:
            working -= 1
            continue
        runs += 1
        operations += verdict.operations
        if verdict.failure:
            for worker in workers:
                worker.terminate()
            return _tell(verdict)
    rate = operations / (time.monotonic() - began)
    print(f"{operations} operations in {runs} runs, {rate:.0f} a second, no violation")
    return 0


def _tell(verdict: Verdict) -> int:
    """Print what failed, and keep it where the tests find it."""
    if not verdict.failure:
        print(f"seed {verdict.seed}: {verdict.operations} operations, no violation")
        return 0
    print(verdict.failure)
    with small_limits():
        steps = shrunken(verdict.seed, steps_of(verdict.seed))
    path = SEEDS / f"{verdict.seed}.json"
    path.write_text(json.dumps({"seed": verdict.seed, "steps": steps}, indent=None) + "\n")
    print(f"seed {verdict.seed}, in {len(steps)} steps, which are kept in {path}:")
    for step in steps:
        print(f"  {step.action:12} {step.dice}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
