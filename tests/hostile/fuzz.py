"""`make fuzz`: every decoder in turn, for a share of the seconds each; ends with 1 at the first finding.

Where atheris is installed it leads the way by coverage, each target in a process of its own, because it never returns.
It only sees code that is imported under its eyes, and not compiled code, so the hot modules run interpreted. Elsewhere
damage is dealt out at random, from a seed that is printed.
"""

import argparse
import importlib.util
import os
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Final

from tests.hostile.damage import damaged

ROOT: Final = Path(__file__).parents[2]
INPUT_BYTES_MAX: Final = 16 * 1024
_NEVER_SECONDS: Final = 20  # one input that takes longer is a hang


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="all targets together")
    parser.add_argument("--target", help="only this one")
    parser.add_argument("--guided", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000), help="of unguided damage")
    options = parser.parse_args()
    if options.guided:
        return guided(options.target, options.seconds)
    has_guide = importlib.util.find_spec("atheris") is not None
    names = [options.target] if options.target else target_names()
    print(f"{len(names)} targets, {'guided by atheris' if has_guide else f'without atheris, seed {options.seed}'}")
    for name in names:
        share = options.seconds / len(names)
        found = spawn_guided(name, share) if has_guide else unguided(name, share, Random(options.seed))
        if not found:
            return 1
    return 0


def target_names() -> list[str]:
    from tests.hostile.targets import TARGETS

    return list(TARGETS)


def unguided(name: str, seconds: float, random: Random) -> bool:
    """Whether nothing was found."""
    from tests.hostile.targets import TARGETS, try_out

    target = TARGETS[name]
    examples = target.examples()
    deadline, inputs = time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        data = damaged(random.choice(examples), random)
        try:
            try_out(target, data)
        except Exception as finding:  # noqa: BLE001 - that is what is looked for
            print(f"FOUND in {name}: {finding!r}\nbytes.fromhex({data.hex()!r})")
            return False
        inputs += 1
    print(f"{name}: {inputs} inputs")
    return True


def spawn_guided(name: str, seconds: float) -> bool:
    command = [sys.executable, "-m", "tests.hostile.fuzz", "--guided", "--target", name, "--seconds", str(seconds)]
    environment = os.environ | {"EBBMQ_PURE": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    ending = [line for line in done.stderr.splitlines() if "DONE" in line or "Done" in line]
    print(f"{name}: {ending[-1] if ending else done.stderr[-6000:]}")
    return done.returncode == 0


def guided(name: str, seconds: float) -> int:
    import atheris

    with atheris.instrument_imports(include=["ipc", "shards", "runtime", "pamqp"]):
        from tests.hostile.targets import TARGETS, try_out
    target = TARGETS[name]
    corpus = Path(tempfile.mkdtemp(prefix="ebbmq-fuzz-"))
    for number, example in enumerate(target.examples()):
        (corpus / str(number)).write_bytes(example)
    arguments = [
        sys.argv[0],
        f"-max_total_time={max(1, int(seconds))}",
        f"-max_len={INPUT_BYTES_MAX}",
        f"-timeout={_NEVER_SECONDS}",
        f"-artifact_prefix={corpus}/finding-",
        str(corpus),
    ]
    atheris.Setup(arguments, lambda data: try_out(target, bytes(data)))
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
