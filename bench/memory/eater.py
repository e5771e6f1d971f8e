"""A process that eats memory and lets go of it again, as it is told to: a number of bytes a line, answered when done.

`Eater` is its other end; `python -m bench.memory.eater` is the process.
"""

import mmap
import subprocess
import sys
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final

from bench.fresh_broker import ROOT

_PAGE: Final = 4096


class EaterKilled(Exception):
    """It does not answer any more."""


class Eater:
    """`within` gives the command that is run for a command, such as `Group.command`."""

    def __init__(self, within: Callable[[Sequence[str]], list[str]]) -> None:
        self._process = subprocess.Popen(
            within([sys.executable, "-m", "bench.memory.eater"]),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.hold(0)

    def hold(self, count: int) -> None:
        """Have so many bytes from now on; returns once it has them. Raises EaterKilled."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(f"{count}\n")
            self._process.stdin.flush()
        except BrokenPipeError as gone:
            raise EaterKilled from gone
        if not self._process.stdout.readline():
            raise EaterKilled

    def __enter__(self) -> "Eater":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()


def main() -> None:
    """Until the end of the input."""
    held: list[mmap.mmap] = []
    for line in sys.stdin:
        wanted = int(line)
        have = sum(map(len, held))
        if wanted < have:
            while held:
                held.pop().close()
            have = 0
        if wanted > have:
            pages = mmap.mmap(-1, wanted - have, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            for at in range(0, len(pages), _PAGE):
                pages[at] = 1
            held.append(pages)
        print(wanted, flush=True)


if __name__ == "__main__":
    main()
