"""What the kernel says about our memory, read right."""

from ipc.memory_reading import parse_rollup, parse_statm, read_memory
from ipc.messages.reports import MemoryReading

ROLLUP = b"""\
55d0c0a00000-7ffd1a3f2000 ---p 00000000 00:00 0                          [rollup]
Rss:               29128 kB
Pss:               23063 kB
Pss_Dirty:         18412 kB
Shared_Clean:       9000 kB
Shared_Dirty:          0 kB
Private_Clean:       100 kB
Private_Dirty:     18412 kB
Private_Hugetlb:       0 kB
Swap:                  0 kB
"""


def test_a_rollup_is_kilobytes_by_name() -> None:
    assert parse_rollup(ROLLUP) == MemoryReading(rss=29128 * 1024, pss=23063 * 1024, private=18512 * 1024)


def test_statm_is_pages_and_knows_no_share() -> None:
    assert parse_statm(b"5000 1000 300 1 0 2000 0\n", 4096) == MemoryReading(
        rss=1000 * 4096, pss=1000 * 4096, private=700 * 4096
    )


def test_memory_that_is_touched_is_counted() -> None:
    before = read_memory()
    held = bytearray(32 * 1024 * 1024)

    after = read_memory()

    assert after.rss - before.rss > len(held) // 2
    assert after.private <= after.rss
    assert 0 < after.pss <= after.rss
