"""Our own cgroup is found wherever cgroup 2 is mounted."""

from pathlib import Path

import pytest

from runtime.pressure.cgroups import own_cgroup

UNIFIED = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
HYBRID = (
    "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
    "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
    "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
)
CONTAINER = "500 400 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n"
BLANK = "30 23 0:26 / /mnt/c\\040group rw - cgroup2 cgroup2 rw\n"


@pytest.mark.parametrize(
    ("mountinfo", "membership", "expected"),
    [
        (UNIFIED, "0::/system.slice/ebbmq.service\n", "/sys/fs/cgroup/system.slice/ebbmq.service"),
        (UNIFIED, "0::/\n", "/sys/fs/cgroup"),
        (HYBRID, "4:memory:/elsewhere\n0::/user.slice\n", "/sys/fs/cgroup/unified/user.slice"),
        (CONTAINER, "0::/docker/abc/worker\n", "/sys/fs/cgroup/worker"),
        (CONTAINER, "0::/docker/abc\n", "/sys/fs/cgroup"),
        (CONTAINER, "0::/\n", "/sys/fs/cgroup"),
        (CONTAINER, "0::/../other\n", None),
        (BLANK, "0::/a\n", "/mnt/c group/a"),
        (HYBRID.rpartition("41 ")[0], "4:memory:/\n0::/\n", None),
        (UNIFIED, "4:memory:/\n", None),
        ("", "", None),
    ],
)
def test_the_directory_follows_from_mounts_and_membership(
    mountinfo: str, membership: str, expected: str | None
) -> None:
    assert own_cgroup(mountinfo, membership) == (expected and Path(expected))
