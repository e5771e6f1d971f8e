"""`make torture`: many rounds, ten to a data directory; ends with 1 at a broken promise and says how to repeat it."""

import argparse
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

from tests.torture.life import BrokenPromise, Life

ROUNDS_OF_LIFE = 10


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000), help="of the first ten rounds")
    options = parser.parse_args()
    seed, left = options.seed, options.rounds
    while left > 0:
        rounds = min(left, ROUNDS_OF_LIFE)
        if not live(seed, rounds):
            return 1
        seed, left = seed + 1, left - rounds
    print(f"{options.rounds} rounds, no promise broken")
    return 0


def live(seed: int, rounds: int) -> bool:
    home = Path(tempfile.mkdtemp(prefix="ebbmq-torture-"))
    life = Life(home, seed)
    try:
        life.begin()
        for number in range(rounds):
            print(life.round(number), flush=True)
        life.end()
    except (BrokenPromise, AssertionError) as broken:
        print(f"BROKEN by seed {seed}: {broken}\nlog:\n{life.broker.log[-4000:]}", file=sys.stderr)
        print(f"directory kept: {home}; again: make torture SEED={seed} ROUNDS={rounds}", file=sys.stderr)
        return False
    finally:
        life.broker.end_by_force()
    shutil.rmtree(home)
    return True


if __name__ == "__main__":
    sys.exit(main())
