"""How many Python objects a message costs on its way through the core: allocations counted, at both speeds.

`python -m bench.allocations [--write]` prints a markdown table. A hook in the interpreter's allocators
(`PyMem_SetAllocator`; allocations.c, compiled when this runs) counts every request for memory while the core publishes,
delivers and acknowledges, once with N messages in each turn and once with 2 N, in the same number of turns. What is the
same in both belongs to a turn, what doubled belongs to the messages.

Objects the interpreter keeps in free lists (short tuples, floats, slices …) reach no allocator. `python -m
bench.instructions --calls` shows that the compiled path does not ask for those either: it counts the calls of every
function of the interpreter, and only those that touch no object but a buffer are called for each message.
"""

import argparse
import ctypes
import gc
import json
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import astuple

from bench.core import SHAPES, Conversation, Shape, core
from bench.fresh_broker import ROOT, environment
from bench.page import replace_section, version

SECTION: Final = "allocations"
SOURCE: Final = Path(__file__).with_suffix(".c")
MESSAGES: Final = 300  # above the integers the interpreter keeps ready
TURNS: Final = 200
WARM_UP_TURNS: Final = 50  # caches, free lists and buffers have grown by then
SPEEDS: Final = {"interpreted": {"EBBMQ_PURE": "1"}, "compiled": {}}

RAW, MEMORY, OBJECT = range(3)  # allocator domains, as CPython numbers them


class Counts(Struct, frozen=True):
    """Requests for memory, in one shape of conversation; a resize is not an object."""

    objects: float
    blocks: float  # of other memory, such as what lists and dictionaries point to
    resizes: float

    def minus(self, other: "Counts") -> "Counts":
        return Counts(self.objects - other.objects, self.blocks - other.blocks, self.resizes - other.resizes)

    def over(self, count: int) -> "Counts":
        return Counts(self.objects / count, self.blocks / count, self.resizes / count)


class Counter:
    """The hook, in place from the moment it is constructed to the end of the process."""

    def __init__(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            library = Path(directory) / "allocations.so"
            compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")
            subprocess.run([*compiler, "-shared", "-fPIC", "-O2", str(SOURCE), "-o", str(library)], check=True)
            self._library = ctypes.PyDLL(str(library))
        self._library.allocations.restype = self._library.resizes.restype = ctypes.c_ulonglong
        self._library.start_counting()

    def read(self) -> Counts:
        allocations, resizes = self._library.allocations, self._library.resizes
        return Counts(
            allocations(OBJECT), allocations(MEMORY) + allocations(RAW), sum(map(resizes, (RAW, MEMORY, OBJECT)))
        )


def count(counter: Counter, shape: Shape, messages: int) -> Counts:
    """Of `TURNS` turns with so many messages each."""
    with core() as opened:
        conversation = Conversation(opened, shape, messages=messages, turns=WARM_UP_TURNS + TURNS)
        for _ in range(WARM_UP_TURNS):
            conversation.turn()
        gc.collect()
        gc.disable()
        before = counter.read()
        for _ in range(TURNS):
            conversation.turn()
        after = counter.read()
        gc.enable()
        if not conversation.is_settled:
            raise SystemExit(f"{shape.name}: not every message was delivered")
        return after.minus(before)


def split(counter: Counter, shape: Shape) -> tuple[Counts, Counts]:
    """A message: by itself, and with its share of what a turn takes."""
    once, twice = count(counter, shape, MESSAGES), count(counter, shape, 2 * MESSAGES)
    return twice.minus(once).over(TURNS * MESSAGES), once.over(TURNS * MESSAGES)


def measured(speed: str) -> dict[str, tuple[Counts, Counts]]:
    """By shape, in a process of that speed."""
    told = subprocess.run(
        [sys.executable, "-m", "bench.allocations", "--here"],
        cwd=ROOT,
        env=environment(SPEEDS[speed]) | {"PYTHONHASHSEED": "0"},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=300,
    )
    return {name: (Counts(*own), Counts(*all_told)) for name, (own, all_told) in json.loads(told.stdout).items()}


def table() -> str:
    lines = [
        "| allocations | objects | other blocks | resizes | objects, with a share of what a turn takes |",
        "|---|---:|---:|---:|---:|",
    ]
    for speed in SPEEDS:
        for name, (own, all_told) in measured(speed).items():
            figures = (f"{value:.3f}" for value in (own.objects, own.blocks, own.resizes))
            lines.append(f"| {name}, {speed} | {' | '.join(figures)} | {all_told.objects:.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--write", action="store_true", help="into docs/measurements.md")
    options = parser.parse_args()
    if options.here:
        counter = Counter()
        print(json.dumps({shape.name: [astuple(part) for part in split(counter, shape)] for shape in SHAPES}))
        return
    facts = f"{version()}, {MESSAGES} and {2 * MESSAGES} messages a turn, {TURNS} turns each; figures a message"
    text = f"{facts}.\n\n{table()}\n"
    print(text)
    if options.write:
        replace_section(SECTION, text)


if __name__ == "__main__":
    main()
