"""Both speeds are given the same conversations and must give the same bytes, state and files after every step.

`EBBMQ_SEEDS=1000:5000 pytest tests/speed/test_differential.py` compares others, and more of them, than every run does.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from ipc.speed import PURE_VARIABLE, read_speed
from tests.speed.compose import compose
from tests.speed.stage import Step, unpack

ROOT: Final = Path(__file__).parents[2]
CORPUS: Final = sorted((Path(__file__).parent / "corpus").glob("*.bin"))
SEEDS: Final = range(*map(int, os.environ.get("EBBMQ_SEEDS", "0:150").split(":")))

pytestmark = pytest.mark.skipif(
    read_speed(os.environ).name != "compiled", reason="one speed only: there is nothing to compare"
)


class Player:
    """A process that runs at one speed and tells what every step of a conversation comes to."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._scripts = process.stdin
        self._lines = process.stdout
        self.speed = self._lines.readline().decode().strip()

    def begin(self, script: bytes) -> None:
        self._scripts.write(len(script).to_bytes(4, "little") + script)
        self._scripts.flush()

    def lines(self) -> Iterator[str]:
        while line := self._lines.readline().decode().rstrip("\n"):
            yield line


@contextmanager
def player(*, pure: bool) -> Iterator[Player]:
    # Where text is hashed differently in every process, sets have another order, and that is no difference.
    environment = os.environ | {PURE_VARIABLE: "1" if pure else "", "PYTHONHASHSEED": "0", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.speed.driver"],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        yield Player(process)
    finally:
        process.kill()  # it may be the one that does not come back from a step
        process.wait()


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[Player, Player]]:
    with player(pure=False) as compiled, player(pure=True) as interpreted:
        assert (compiled.speed, interpreted.speed) == ("compiled", "interpreted")
        yield compiled, interpreted


def assert_alike(both: Sequence[Player], script: bytes, name: str) -> None:
    _setting, steps = unpack(script)
    for one in both:
        one.begin(script)
    compiled, interpreted = (list(one.lines()) for one in both)
    assert len(compiled) == len(interpreted) == len(steps) + 1, f"{name}: a process ended"
    for number, (fast, slow, step) in enumerate(zip(compiled, interpreted, [*steps, Step(255, 0)], strict=True)):
        if fast != slow:
            pytest.fail(f"{name}, step {number} of {len(steps)}, {step}:\ncompiled    {fast}\ninterpreted {slow}")
        assert " !" not in fast, f"{name}, step {number}, {step}: both broke: {fast}"


def test_conversations_come_to_the_same_at_both_speeds(both: tuple[Player, Player]) -> None:
    for seed in SEEDS:
        assert_alike(both, compose(seed), f"seed {seed}")


@pytest.mark.parametrize("file", CORPUS, ids=lambda file: file.name)
def test_the_corpus_comes_to_the_same_at_both_speeds(both: tuple[Player, Player], file: Path) -> None:
    assert_alike(both, file.read_bytes(), file.name)
