"""One speed's side of the comparison: reads conversations from standard input and prints every line they come to.

Each comes as its length, u32 little-endian, and its bytes; each ends with an empty line. What this process runs at is
the first line, so that nobody compares a speed with itself.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ipc.speed import read_speed
from tests.speed.stage import play


def scripts(source: BinaryIO) -> Iterator[bytes]:
    while length := source.read(4):
        yield source.read(int.from_bytes(length, "little"))


def main() -> None:
    print(read_speed(os.environ).name, flush=True)
    for script in scripts(sys.stdin.buffer):
        with tempfile.TemporaryDirectory() as directory:
            for line in play(script, Path(directory)):
                print(line)
        print(flush=True)


if __name__ == "__main__":
    main()
