"""Finds this process's own cgroup 2 directory from what the kernel says, wherever it is mounted."""

import re
from pathlib import Path, PurePosixPath

_OCTAL = re.compile(r"\\([0-7]{3})")


def own_cgroup(mountinfo: str, membership: str) -> Path | None:
    """The directory, from the texts of `/proc/self/mountinfo` and `/proc/self/cgroup`; None where there is none.

    On hybrid hosts cgroup 2 lies elsewhere than in `/sys/fs/cgroup`, and inside a container only part of it is mounted.
    """
    path = _membership(membership)
    mount = _mount(mountinfo)
    if path is None or mount is None:
        return None
    root, mount_point = mount
    below = PurePosixPath(path)
    if below.is_relative_to(root):
        below = below.relative_to(root)
    elif ".." in below.parts:  # we were moved out of the cgroup namespace: what we see is not ours
        return None
    return mount_point / str(below).lstrip("/")


def _membership(membership: str) -> str | None:
    for line in membership.splitlines():
        hierarchy, _, path = line.split(":", 2)
        if hierarchy == "0":
            return path
    return None


def _mount(mountinfo: str) -> tuple[str, Path] | None:
    """Root and mount point: `36 35 98:0 /root /mount/point options … - type source options`, blanks as octal."""
    for line in mountinfo.splitlines():
        fields, _, rest = line.partition(" - ")
        if rest.startswith("cgroup2 "):
            root, mount_point = fields.split(" ")[3:5]
            return _unescape(root), Path(_unescape(mount_point))
    return None


def _unescape(path: str) -> str:
    return _OCTAL.sub(lambda found: chr(int(found[1], 8)), path)
