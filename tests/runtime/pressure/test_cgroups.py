"""Our own cgroup is found wherever it is mounted, and every limit above it."""

from pathlib import Path

import pytest

from runtime.pressure.cgroups import memory_controls, own_cgroup

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


V1 = "/sys/fs/cgroup/memory"
V2 = "/sys/fs/cgroup"


@pytest.mark.parametrize(
    ("mountinfo", "membership", "expected"),
    [
        (
            UNIFIED,
            "0::/a/b\n",
            [f"{V2}{below}/memory.{name}" for below in ("/a/b", "/a", "") for name in ("max", "high")],
        ),
        (
            HYBRID,
            "4:cpu,memory:/a\n0::/\n",
            [
                *(f"{V2}/unified/memory.{name}" for name in ("max", "high")),
                *(f"{V1}{below}/memory.limit_in_bytes" for below in ("/a", "")),
            ],
        ),
        (CONTAINER, "0::/docker/abc\n", [f"{V2}/memory.max", f"{V2}/memory.high"]),
        (CONTAINER, "0::/../other\n", []),
        ("", "", []),
    ],
)
def test_limits_stand_in_our_cgroup_and_in_all_above_it(mountinfo: str, membership: str, expected: list[str]) -> None:
    controls = memory_controls(mountinfo, membership)
    assert [str(file) for control in controls for file in control.limits] == expected
