"""How short memory is, by numbers."""

import mmap
import os
from collections.abc import Callable
from math import inf
from pathlib import Path

import psutil
import pytest

from ipc.messages.commands import Level
from runtime.pressure.cgroups import MemoryControl, memory_controls
from runtime.pressure.footprint import broker_bytes, cgroup_shortage, held_bytes, memory_total_bytes, shortage


@pytest.mark.parametrize(
    ("available", "level"),
    [(1000, None), (101, None), (100, Level.TRIM), (50, Level.RELEASE), (20, Level.CRITICAL), (0, Level.CRITICAL)],
)
def test_the_share_that_is_left_decides(available: int, level: Level | None) -> None:
    assert shortage(available, 1000) is level


def test_our_own_footprint_is_at_least_an_interpreter() -> None:
    assert broker_bytes() > 5 * 1024 * 1024


MIB = 1024 * 1024
SIZE_BYTES = 64 * MIB
NOISE_BYTES = 8 * MIB  # what the interpreter takes or frees meanwhile

EXACT, QUICK = 0.0, inf


@pytest.fixture(params=[EXACT, QUICK], ids=["exact", "quick"])
def exact_from(request: pytest.FixtureRequest) -> float:
    return float(request.param)


def held(exact_from: float) -> int:
    return held_bytes([os.getpid()], exact_from=exact_from)


def test_heap_counts_as_held(exact_from: float) -> None:
    before = held(exact_from)
    heap = bytearray(os.urandom(4096)) * (SIZE_BYTES // 4096)
    assert abs(held(exact_from) - before - len(heap)) < NOISE_BYTES


def test_files_in_memory_count_as_held(exact_from: float) -> None:
    before = held(exact_from)
    with mmap.mmap(-1, SIZE_BYTES) as shared:
        shared[:] = bytes(1) * SIZE_BYTES
        assert abs(held(exact_from) - before - SIZE_BYTES) < NOISE_BYTES


def test_mapped_pages_of_files_on_disk_do_not_count(exact_from: float, tmp_path: Path) -> None:
    """They would raise an alarm for messages that only wait on disk."""
    file = tmp_path / "segment"
    file.write_bytes(bytes(1) * SIZE_BYTES)
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        before = held(exact_from)
        assert sum(mapped[at] for at in range(0, SIZE_BYTES, mmap.PAGESIZE)) == 0
        assert abs(held(exact_from) - before) < NOISE_BYTES


def test_pages_that_a_fork_shares_count_once_where_it_matters() -> None:
    heap = bytearray(os.urandom(4096)) * (SIZE_BYTES // 4096)
    until_seen, seen = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(seen)
        os.read(until_seen, 1)
        os._exit(0)
    try:
        both = [os.getpid(), child]
        exact, quick = held_bytes(both, exact_from=EXACT), held_bytes(both, exact_from=QUICK)
    finally:
        os.close(seen)
        os.close(until_seen)
        os.waitpid(child, 0)
    assert quick - exact > len(heap) - NOISE_BYTES
    assert exact < held(EXACT) + SIZE_BYTES / 2


def test_a_process_that_has_ended_holds_nothing() -> None:
    assert held_bytes([2**22 + 1], exact_from=EXACT) == 0


def test_there_is_no_more_memory_than_the_machine_has() -> None:
    assert 0 < memory_total_bytes() <= psutil.virtual_memory().total


VERSION_1 = "35 31 0:32 / {mount} ro,relatime - cgroup cgroup rw,memory\n", "4:memory:/\n"
VERSION_2 = "35 31 0:32 / {mount} ro,relatime - cgroup2 cgroup2 rw\n", "0::/\n"


def control(mount: Path, version: tuple[str, str], files: dict[str, str]) -> MemoryControl:
    """A container's cgroup, as its own namespace shows it."""
    for name, text in files.items():
        (mount / name).write_text(text)
    (found,) = memory_controls(version[0].format(mount=mount), version[1])
    return found


def version_1(mount: Path, limit: int, used: int, of_that_files: int) -> MemoryControl:
    statistics = f"cache 1\ninactive_file 0\nactive_file 0\ntotal_inactive_file {of_that_files}\ntotal_active_file 0\n"
    files = {"memory.limit_in_bytes": f"{limit}\n", "memory.usage_in_bytes": f"{used}\n", "memory.stat": statistics}
    return control(mount, VERSION_1, files)


def version_2(mount: Path, limit: int, used: int, of_that_files: int) -> MemoryControl:
    statistics = f"anon 1\nfile 7\nshmem 7\ninactive_file 0\nactive_file {of_that_files}\nslab_reclaimable 0\n"
    files = {"memory.max": "max\n", "memory.high": f"{limit}\n", "memory.current": f"{used}\n"}
    return control(mount, VERSION_2, files | {"memory.stat": statistics})


@pytest.mark.parametrize("of_version", [version_1, version_2])
@pytest.mark.parametrize(
    ("used", "of_that_files", "level"),
    [(500, 0, None), (899, 0, None), (900, 0, Level.TRIM), (1000, 101, None), (1000, 20, Level.CRITICAL)],
)
def test_a_cgroup_is_short_of_memory_at_its_own_limit_whatever_the_machine_has(
    tmp_path: Path,
    of_version: Callable[[Path, int, int, int], MemoryControl],
    used: int,
    of_that_files: int,
    level: Level | None,
) -> None:
    """Files it has read or written do not count: their pages go when somebody in there needs the room."""
    assert cgroup_shortage(of_version(tmp_path, 1000, used, of_that_files)) is level


@pytest.mark.parametrize(
    "files",
    [{}, {"memory.max": "max\n", "memory.current": "5\n"}, {"memory.max": "5\n"}],
    ids=["", "no limit", "no usage"],
)
def test_a_cgroup_without_a_limit_or_without_figures_is_never_short(tmp_path: Path, files: dict[str, str]) -> None:
    assert cgroup_shortage(control(tmp_path, VERSION_2, files)) is None
