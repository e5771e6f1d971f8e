"""A cgroup of its own with a memory limit, for a broker and whatever else is to live in it; gone afterwards.

By cgroup 2 where its memory controller can be used. Where version 1 has that controller, two groups are made, one of
each version: the first limits and counts memory, the second knows the pressure, and processes join both.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from msgspec import Struct

from runtime.pressure.averages import parse_pressure
from runtime.pressure.cgroups import memory_controls, of_this_process, own_cgroup

_GONE_SECONDS_MAX: Final = 5.0
_LOOK_SECONDS: Final = 0.05
_MICROSECONDS: Final = 1e6  # a second


class _Names(Struct, frozen=True):
    """How a version's files and the fields in them are called."""

    limit: str
    usage: str
    events: str  # has a line `oom_kill`
    anonymous: str  # in memory.stat
    cached: str
    without_swap: tuple[str, str]  # a file, and what is written to it


_VERSIONS: Final = (
    _Names("memory.max", "memory.current", "memory.events", "anon", "file", ("memory.swap.max", "0")),
    _Names(
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "memory.oom_control",
        "rss",
        "cache",
        ("memory.swappiness", "0"),
    ),
)


class Charge(Struct, frozen=True):
    """What is counted against the limit, in bytes; `usage` has more in it than both of the others."""

    usage: int
    anonymous: int  # heaps, which only who has them can give back
    cached: int  # pages of files, which the kernel takes back, dirty ones once they are written


class Stalled(Struct, frozen=True):
    """Seconds so far in which at least one of those in a group waited for memory, and in which all of them did."""

    some: float = 0.0
    full: float = 0.0


class Group:
    """`pressure` is the kernel's file about those in it."""

    def __init__(self, limited: Path, watched: Path, names: _Names) -> None:
        self.pressure = watched / "memory.pressure"
        self._directories = dict.fromkeys((limited, watched))
        self._limited = limited
        self._names = names

    def command(self, command: Sequence[str]) -> list[str]:
        """The same command, run inside by the same process."""
        join = " && ".join(f'echo $$ > "{directory}/cgroup.procs"' for directory in self._directories)
        return ["/bin/sh", "-c", f'{join} && exec "$@"', "sh", *command]

    def charge(self) -> Charge:
        stat = self._fields("memory.stat")
        usage = int((self._limited / self._names.usage).read_text())
        return Charge(usage, stat[self._names.anonymous], stat[self._names.cached])

    def oom_kills(self) -> int:
        return self._fields(self._names.events)["oom_kill"]

    def stalled(self) -> Stalled:
        pressure = parse_pressure(str(self.pressure), self.pressure.read_text())
        assert pressure.some is not None
        assert pressure.full is not None
        return Stalled(pressure.some.total / _MICROSECONDS, pressure.full.total / _MICROSECONDS)

    def remove(self) -> None:
        """Once nobody is in it any more."""
        for directory in self._directories:
            _remove(directory)

    def _fields(self, name: str) -> dict[str, int]:
        lines = (self._limited / name).read_text().splitlines()
        return {field: int(value) for field, value in (line.split() for line in lines)}


@contextmanager
def limited_group(limit_bytes: int) -> Iterator[Group]:
    """Raises SystemExit where none can be made."""
    group = _make(limit_bytes)
    try:
        yield group
    finally:
        group.remove()


def _make(limit_bytes: int) -> Group:
    """As far out as possible: where processes are, cgroup 2 shares out no controllers."""
    name = f"ebbmq-bench-{os.getpid()}"
    places = [file for control in memory_controls(*of_this_process()) for file in control.limits][::-1]
    for names in _VERSIONS:
        for limited in (place.parent / name for place in places if place.name == names.limit):
            if not _is_limited(limited, names, limit_bytes):
                continue
            watched = _watched(limited, name)
            if watched is not None:
                return Group(limited, watched, names)
            _remove(limited)
    raise SystemExit("no cgroup with a memory limit and a memory.pressure can be made here: it takes root")


def _is_limited(directory: Path, names: _Names, limit_bytes: int) -> bool:
    """Make it; without the controller there is no limit in it, and then it goes again."""
    try:
        directory.mkdir()
    except OSError:
        return False
    try:
        (directory / names.limit).write_text(str(limit_bytes))
    except OSError:
        _remove(directory)
        return False
    file, value = names.without_swap
    if (directory / file).exists():
        (directory / file).write_text(value)
    return True


def _watched(limited: Path, name: str) -> Path | None:
    """The group that has the pressure: the limited one itself, or one beside it in cgroup 2."""
    if (limited / "memory.pressure").exists():
        return limited
    own = own_cgroup(*of_this_process())
    if own is None:
        return None
    try:
        (own / name).mkdir()
    except OSError:
        return None
    if (own / name / "memory.pressure").exists():
        return own / name
    _remove(own / name)
    return None


def _remove(directory: Path) -> None:
    deadline = time.monotonic() + _GONE_SECONDS_MAX
    while True:
        try:
            directory.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_LOOK_SECONDS)
        else:
            return
