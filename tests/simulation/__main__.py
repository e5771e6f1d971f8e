"""`make simulate SEED=… MINUTES=…`: runs of fresh seeds, or of one, on all cores, until one fails or time is up."""

import argparse
import faulthandler
import json
import math
import multiprocessing
import os
import secrets
import signal
import sys
import time
import traceback
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import FrameType
from typing import Final, NamedTuple

from tests.simulation.exercised import Tally, table
from tests.simulation.run import carry_out, steps_of
from tests.simulation.shrinking import shrunken
from tests.simulation.small_limits import small_limits

SEEDS = Path(__file__).with_name("seeds")
RUN_SECONDS_MAX: Final = 60
"""Of one run, which takes a few tenths; one that does not end is a failure as well."""


class Verdict(NamedTuple):
    seed: int
    operations: int
    failure: str
    exercised: Tally
    has_ended: bool = True  # else nobody knows which of its steps it takes


class TooLongError(Exception):
    """A run does not end."""


def judge(seed: int) -> Verdict:
    with small_limits():
        try:
            run = carry_out(seed, steps_of(seed))
        except TooLongError:
            return Verdict(seed, 0, traceback.format_exc(), Tally(), has_ended=False)
        except Exception:  # noqa: BLE001 - whatever a broker raises is a violation
            return Verdict(seed, 0, traceback.format_exc(), Tally())
        return Verdict(seed, run.operations, "", run.tally)


def main() -> int:
    began = time.monotonic()
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, help="of one run")
    parser.add_argument("--minutes", type=float, default=2.0, help="from the start of the program to its end")
    options = parser.parse_args()
    if options.seed is not None:
        return _tell(judge(options.seed), math.inf)
    return _simulate(secrets.randbelow(2**48), began, began + options.minutes * 60)


class _Worker:
    """A process that carries out every `stride`-th seed."""

    def __init__(self, first: int, stride: int, deadline: float) -> None:
        self.heard, said = multiprocessing.Pipe(duplex=False)
        self.process = multiprocessing.Process(target=_work, args=(first, stride, deadline, said), daemon=True)
        self.process.start()
        said.close()
        self._seed = first

    def next(self) -> Verdict | None:
        """Of the run that has ended; None when there are no more. Tells of a process that died, too."""
        try:
            self._seed = self.heard.recv()
            verdict: Verdict = self.heard.recv()
        except EOFError:
            self.process.join()
            if not self.process.exitcode:
                return None
            why = f"the process ended with {self.process.exitcode}"
            return Verdict(self._seed, 0, why, Tally(), has_ended=False)
        return verdict


def _work(first: int, stride: int, deadline: float, said: "Connection[object, object]") -> None:
    faulthandler.enable()
    signal.signal(signal.SIGALRM, _too_long)
    seed = first
    while time.monotonic() < deadline:
        said.send(seed)
        signal.alarm(RUN_SECONDS_MAX)
        verdict = judge(seed)
        signal.alarm(0)
        said.send(verdict)
        seed += stride


def _too_long(_signal: int, _frame: FrameType | None) -> None:
    raise TooLongError(f"not over after {RUN_SECONDS_MAX} s")


def _simulate(first: int, began: float, deadline: float) -> int:
    print(f"simulating from seed {first} on", flush=True)
    cores = os.cpu_count() or 1
    working = {worker.heard: worker for worker in (_Worker(first + core, cores, deadline) for core in range(cores))}
    runs = operations = 0
    exercised = Tally()
    while working:
        for heard in wait(list(working)):
            worker = working[heard]  # type: ignore[index]
            verdict = worker.next()
            if verdict is None:
                del working[worker.heard]
                continue
            if verdict.failure:
                for other in working.values():
                    other.process.terminate()
                return _tell(verdict, deadline)
            runs += 1
            operations += verdict.operations
            exercised += verdict.exercised
    rate = operations / (time.monotonic() - began)
    print(table(exercised))
    print(f"{operations:,} operations in {runs:,} runs, {rate:,.0f} a second, no violation")
    return 0


def _tell(verdict: Verdict, deadline: float) -> int:
    """Print what failed, and keep what it comes down to, as far as there is time for that, where the tests find it."""
    seed = verdict.seed
    if not verdict.failure:
        print(table(verdict.exercised))
        print(f"seed {seed}: {verdict.operations} operations, no violation")
        return 0
    print(verdict.failure)
    print(f"VIOLATION: seed {seed}; to repeat it: make simulate SEED={seed}", flush=True)
    if not verdict.has_ended:
        return 1
    with small_limits():
        steps = shrunken(seed, steps_of(seed), deadline)
    path = SEEDS / f"{seed}.json"
    path.write_text(json.dumps({"seed": seed, "steps": steps}, indent=None) + "\n")
    print(f"seed {seed}, in {len(steps)} steps, which are kept in {path}:")
    for step in steps:
        print(f"  {step.action:12} {step.dice}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
