"""Real pressure: a child in a cgroup of its own writes more than it may hold, and our source hears of it.

Needs root, a cgroup 2 mount for the pressure and a memory limit, by cgroup 2's controller or version 1's; anywhere else
it is skipped and says what is missing.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from ipc.messages.commands import Level
from runtime.pressure.cgroups import of_this_process, own_cgroup
from runtime.pressure.chain import cgroup_sources
from runtime.pressure.sources import SourceUnavailable, wait_for_any

LIMIT_BYTES = 64 << 20

# Dirtying a shared file map beyond the limit makes the kernel write back and stall us, but never kill us.
THRASH = """
import mmap, os, sys
descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
os.ftruncate(descriptor, 128 << 20)
pages = mmap.mmap(descriptor, 0)
while True:
    for at in range(0, len(pages), 4096):
        pages[at] = (pages[at] + 1) & 255
"""


@pytest.fixture
def cgroups() -> Iterator[list[Path]]:
    """Where the child goes: a limited cgroup, and the one whose pressure is watched, first. Often they are the same."""
    here = own_cgroup(*of_this_process())
    if here is None:
        pytest.skip("cgroup 2 is not mounted")
    made: list[Path] = []
    try:
        watched = _make(here / f"ebbmq-test-{os.getpid()}", made)
        if not _limit(watched, "memory.max"):
            limited = _make(Path("/sys/fs/cgroup/memory") / f"ebbmq-test-{os.getpid()}", made)
            if not _limit(limited, "memory.limit_in_bytes"):
                pytest.skip("no cgroup with a memory limit can be made here")
        yield made
    finally:
        for directory in made:
            _until(partial(_removed, directory))


def _make(directory: Path, made: list[Path]) -> Path:
    try:
        directory.mkdir()
    except OSError as fault:
        pytest.skip(f"cannot make {directory}: {fault.strerror}")
    made.append(directory)
    return directory


def _limit(directory: Path, name: str) -> bool:
    try:
        (directory / name).write_text(str(LIMIT_BYTES))
    except OSError:
        return False
    return True


def _removed(directory: Path) -> bool:
    try:
        directory.rmdir()
    except OSError:
        return False
    return True


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)


def test_a_cgroup_that_hits_its_limit_reports_pressure(cgroups: list[Path], tmp_path: Path) -> None:
    try:
        sources = cgroup_sources(cgroups[0])
    except SourceUnavailable as fault:
        pytest.skip(str(fault))
    join = " && ".join(f"echo $$ > {directory}/cgroup.procs" for directory in cgroups)
    child = subprocess.Popen(
        ["/bin/sh", "-c", f'{join} && exec "$@"', "sh", sys.executable, "-c", THRASH, str(tmp_path / "pages")]
    )
    alarm = os.eventfd(0)
    timer = threading.Timer(20, os.eventfd_write, (alarm, 1))
    timer.start()
    try:
        ready = wait_for_any(sources, alarm)
        levels = [source.read(events) for source, events in ready]
    finally:
        timer.cancel()
        timer.join()
        child.kill()
        child.wait()
        for source in sources:
            source.close()
        os.close(alarm)

    assert levels, "no report within 20 s"
    assert set(levels) <= {Level.TRIM, Level.RELEASE}
