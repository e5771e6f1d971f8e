"""Instructions a message takes in the core, counted by callgrind: the same on a busy machine as on an idle one.

`python -m bench.instructions [--write] [--calls] [--cases a,b]` prints a markdown table. A fixed conversation runs in
valgrind with n messages and with 2 n; the difference, over n, is what one message takes, without start-up. With
`--write` the figures are added to bench/instructions.csv, the history, and put into docs/measurements.md. With
`--calls` it also prints the interpreter's own functions that are called for each message, and how often: where no
function that makes an object is among them, no object is made.

Counts do not depend on load, but on compiler, interpreter and C library, so compare rows of one machine.
"""

import argparse
import csv
import gc
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from msgspec import Struct, convert
from msgspec.structs import asdict, fields

from bench.allocations import SPEEDS
from bench.core import SHAPES, Conversation, Shape, core
from bench.fresh_broker import ROOT, environment
from bench.page import replace_section, version

SECTION: Final = "instructions"
HISTORY: Final = Path(__file__).with_suffix(".csv")
MESSAGES_OF_TURN: Final = 200
TURNS: Final = {"interpreted": 25, "compiled": 100}  # n, in turns; the interpreter is slow in valgrind
SECONDS_MAX: Final = 600
CALLS_MIN: Final = 0.05  # a message: fewer belong to turns

_INTERPRETER = re.compile(r"/(lib)?python3[^/]*$")
_TOTALS = re.compile(r"^(?:summary|totals): (\d+)", re.MULTILINE)
_NAME = re.compile(r"^(c?fn|c?ob)=\((\d+)\)(?: (.*))?$")


class Row(Struct, frozen=True):
    """One line of the history."""

    date: str
    label: str
    case: str
    speed: str
    instructions_per_message: int


class Profile(Struct, frozen=True):
    """What callgrind counted in one process: instructions, and calls by (object file, function)."""

    instructions: int
    calls: Counter[tuple[str, str]]


def converse(shape: Shape, turns: int, prepared: int) -> None:
    """What runs in valgrind; what the client sends is prepared for as many turns however many there are."""
    gc.disable()  # what it does depends on all that was ever allocated, not on the message at hand
    with core() as opened:
        conversation = Conversation(opened, shape, messages=MESSAGES_OF_TURN, turns=prepared)
        for _ in range(turns):
            conversation.turn()
        if not conversation.is_settled:
            raise SystemExit(f"{shape.name}: not every message was delivered")


def profile(shape: Shape, speed: str, turns: int) -> Profile:
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "callgrind.out"
        options = ["--tool=callgrind", f"--callgrind-out-file={out}", "--quiet"]
        _converse_elsewhere(["valgrind", *options], shape, speed, turns)
        return parse(out.read_text(errors="replace"))


def _converse_elsewhere(tool: Sequence[str], shape: Shape, speed: str, turns: int) -> None:
    """In a process of that speed, below the tool."""
    here = ["-m", "bench.instructions", "--here", str(SHAPES.index(shape)), str(turns), str(2 * TURNS[speed])]
    subprocess.run(
        [*tool, sys.executable, *here],
        cwd=ROOT,
        env=environment(SPEEDS[speed]) | {"PYTHONHASHSEED": "0", "PYTHONMALLOC": "pymalloc"},
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=SECONDS_MAX,
    )


def parse(text: str) -> Profile:
    """A callgrind profile; names are given once and numbered afterwards, see valgrind's manual, "Callgrind Format"."""
    names: dict[tuple[str, str], str] = {}
    place = called_place = called = ""
    calls: Counter[tuple[str, str]] = Counter()
    for line in text.splitlines():
        if line.startswith("calls="):
            calls[called_place or place, called] += int(line[6:].split()[0])
            called_place = ""
        elif found := _NAME.match(line):
            key, number, name = found.groups()
            kind = key[-2:]
            if name:
                names[kind, number] = name
            name = names[kind, number]
            if key == "ob":
                place = name
            elif key == "cob":
                called_place = name
            elif key == "cfn":
                called = name
    total = _TOTALS.search(text)
    if total is None:
        raise SystemExit("callgrind wrote no totals")
    return Profile(int(total[1]), calls)


def measure(shape: Shape, speed: str) -> tuple[int, Counter[tuple[str, str]]]:
    """Instructions a message, and calls of `TURNS` turns."""
    turns = TURNS[speed]
    _converse_elsewhere([], shape, speed, 1)  # so that neither of the two runs compiles sources that have changed
    once, twice = profile(shape, speed, turns), profile(shape, speed, 2 * turns)
    calls = Counter({function: count - once.calls[function] for function, count in twice.calls.items()})
    return round((twice.instructions - once.instructions) / (turns * MESSAGES_OF_TURN)), calls


def label() -> str:
    """The commit, marked when the sources are not quite its."""
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    return told.stdout.strip() or "unknown"


def history() -> list[Row]:
    if not HISTORY.exists():
        return []
    with HISTORY.open(newline="") as file:
        return [convert(line, Row, strict=False) for line in csv.DictReader(file)]


def remember(rows: Iterable[Row]) -> None:
    is_new = not HISTORY.exists()
    with HISTORY.open("a", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerows(map(asdict, rows))


def table(rows: Sequence[Row], before: Sequence[Row]) -> str:
    """Beside the last figures of the history."""
    last = {(row.case, row.speed): row.instructions_per_message for row in before}
    lines = ["| instructions a message | interpreted | compiled |", "|---|---:|---:|"]
    for case in dict.fromkeys(row.case for row in rows):
        by_speed = {row.speed: row.instructions_per_message for row in rows if row.case == case}
        cells = [_cell(by_speed.get(speed), last.get((case, speed))) for speed in SPEEDS]
        lines.append(f"| {case} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(now: int | None, before: int | None) -> str:
    if now is None:
        return "–"
    return f"{now:,}" if before in (None, now) else f"{now:,} (before: {before:,})"


def calls_table(calls: Counter[tuple[str, str]], speed: str) -> str:
    """Functions of the interpreter itself, called for each message."""
    messages = TURNS[speed] * MESSAGES_OF_TURN
    lines = ["| function of the interpreter | calls a message |", "|---|---:|"]
    for (place, name), count in calls.most_common():
        if count >= CALLS_MIN * messages and _INTERPRETER.search(place) and not name.startswith("0x"):
            lines.append(f"| `{name}` | {count / messages:.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cases", default="", help="names of shapes, separated by semicolons (default: all)")
    parser.add_argument("--speeds", default=",".join(SPEEDS), help="separated by commas (default: both)")
    parser.add_argument("--calls", action="store_true", help="also print the interpreter's functions called a message")
    parser.add_argument("--write", action="store_true", help="into the history and docs/measurements.md")
    parser.add_argument("--here", nargs=3, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        number, turns, prepared = options.here
        converse(SHAPES[number], turns, prepared)
        return
    if shutil.which("valgrind") is None:
        raise SystemExit("valgrind is not installed: on Debian, apt install valgrind")
    wanted = [name.strip() for name in options.cases.split(";") if name.strip()]
    rows = []
    for shape in SHAPES:
        for speed in options.speeds.split(","):
            if wanted and shape.name not in wanted:
                continue
            instructions, calls = measure(shape, speed)
            rows.append(Row(f"{datetime.now(UTC):%Y-%m-%d}", label(), shape.name, speed, instructions))
            if options.calls:
                print(f"{shape.name}, {speed}\n\n{calls_table(calls, speed)}\n")
    text = f"{version()}, {label()}.\n\n{table(rows, history())}\n"
    print(text)
    if options.write:
        remember(rows)
        replace_section(SECTION, text)


if __name__ == "__main__":
    main()
