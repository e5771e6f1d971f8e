"""The conversations of the corpus, and what becomes of them when they are damaged, leave the broker standing.

Here for a moment; for longer, and with every byte watched, in `make sanitize`. `EBBMQ_FUZZ_SECONDS` is how long in all,
`EBBMQ_FUZZ_SEED` where it begins. A process that a sanitizer ends leaves the conversation it was at in the file that it
has named before.
"""

import os
import tempfile
import time
from itertools import count
from pathlib import Path
from random import Random
from typing import Final

import pytest

from tests.speed.stage import Step, pack, play, unpack

CORPUS: Final = sorted((Path(__file__).parent / "corpus").glob("*.bin"))
SECONDS: Final = float(os.environ.get("EBBMQ_FUZZ_SECONDS", "3"))
FIRST_SEED: Final = int(os.environ.get("EBBMQ_FUZZ_SEED", "0"))


def replay(script: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        for number, line in enumerate(play(script, Path(directory))):
            assert " !" not in line, f"step {number}: {line}"


def damaged(seed: int) -> bytes:
    """A conversation with bytes changed, lost or doubled, or with steps of another one in between."""
    random = Random(seed)
    setting, steps = unpack(random.choice(CORPUS).read_bytes())
    if random.random() < 0.2:
        _setting, others = unpack(random.choice(CORPUS).read_bytes())
        at = random.randrange(len(steps))
        steps[at:at] = others[random.randrange(len(others)) :][:20]
    for _ in range(random.randrange(1, 6)):
        at = random.randrange(len(steps))
        steps[at : at + 1] = damaged_step(steps[at], random)
    return pack(setting, steps)


def damaged_step(step: Step, random: Random) -> list[Step]:
    data = bytearray(step.data)
    if not data or random.random() < 0.2:
        return random.choice(([], [step, step], [step._replace(kind=random.randrange(8))]))
    at = random.randrange(len(data))
    match random.randrange(5):
        case 0:
            del data[at : at + random.choice((1, 4, 50))]
        case 1:
            data[at:at] = data[at : at + random.choice((1, 4, 50))]
        case 2:
            data[at:at] = random.randbytes(random.choice((1, 4, 50)))
        case _:
            data[at] = random.choice((0, 1, 0x7F, 0x80, 0xCE, 0xFF, random.randrange(256)))
    return [step._replace(data=bytes(data))]


@pytest.mark.parametrize("file", CORPUS, ids=lambda file: file.name)
def test_a_conversation_of_the_corpus_breaks_nothing(file: Path) -> None:
    replay(file.read_bytes())


@pytest.mark.timeout(SECONDS + 120)
def test_damaged_conversations_break_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    at_work = tmp_path / "conversation.bin"
    with capfd.disabled():
        print(f"\nfuzzing for {SECONDS:g} s from seed {FIRST_SEED}; at work: {at_work}", flush=True)
    end = time.monotonic() + SECONDS
    for seed in count(FIRST_SEED):
        script = damaged(seed)
        at_work.write_bytes(script)
        try:
            replay(script)
        except AssertionError as fault:
            pytest.fail(f"seed {seed}: {fault}")
        if time.monotonic() > end:
            break
    with capfd.disabled():
        print(f"{seed + 1 - FIRST_SEED} damaged conversations", flush=True)
