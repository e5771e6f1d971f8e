"""Finds this process's own cgroups from what the kernel says, wherever they are mounted."""

import re
from pathlib import Path, PurePosixPath
from typing import Final

_OCTAL = re.compile(r"\\([0-7]{3})")


# Where a cgroup's own limit stands, by the controller that names its hierarchy; cgroup 2 has one for all. Beyond
# `memory.high` the kernel makes us wait until it has found memory, so nobody gets much further.
_LIMITS: Final = {"": ("memory.max", "memory.high"), "memory": ("memory.limit_in_bytes",)}


def of_this_process() -> tuple[str, str]:
    """The texts that the functions below are asked with."""
    return Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text()


def own_cgroup(mountinfo: str, membership: str) -> Path | None:
    """The directory in cgroup 2, from the texts of `/proc/self/mountinfo` and `/proc/self/cgroup`; None without one.

    On hybrid hosts cgroup 2 lies elsewhere than in `/sys/fs/cgroup`, and inside a container only part of it is mounted.
    """
    return next(iter(_lineage(mountinfo, membership, "")), None)


def limit_files(mountinfo: str, membership: str) -> list[Path]:
    """Files that may limit our memory, of both versions: our own and those of every cgroup above that can be seen."""
    return [
        directory / name
        for controller, names in _LIMITS.items()
        for directory in _lineage(mountinfo, membership, controller)
        for name in names
    ]


def _lineage(mountinfo: str, membership: str, controller: str) -> list[Path]:
    """Our directory in this controller's hierarchy, and those above it up to where it is mounted."""
    path = _membership(membership, controller)
    mount = _mount(mountinfo, controller)
    if path is None or mount is None:
        return []
    root, mount_point = mount
    below = PurePosixPath(path)
    if below.is_relative_to(root):
        below = below.relative_to(root)
    elif ".." in below.parts:  # we were moved out of the cgroup namespace: what we see is not ours
        return []
    own = mount_point / str(below).lstrip("/")
    return [own, *(above for above in own.parents if above.is_relative_to(mount_point))]


def _membership(membership: str, controller: str) -> str | None:
    """From lines `hierarchy:controllers:path`; cgroup 2 is hierarchy 0 and names no controllers."""
    for line in membership.splitlines():
        hierarchy, controllers, path = line.split(":", 2)
        if controller in controllers.split(",") if controller else hierarchy == "0":
            return path
    return None


def _mount(mountinfo: str, controller: str) -> tuple[str, Path] | None:
    """Root and mount point: `36 35 98:0 /root /mount/point options … - type source options`, blanks as octal."""
    for line in mountinfo.splitlines():
        fields, _, rest = line.partition(" - ")
        kind, _source, options = [*rest.split(" "), "", ""][:3]
        if kind == "cgroup" and controller in options.split(",") if controller else kind == "cgroup2":
            root, mount_point = fields.split(" ")[3:5]
            return _unescape(root), Path(_unescape(mount_point))
    return None


def _unescape(path: str) -> str:
    return _OCTAL.sub(lambda found: chr(int(found[1], 8)), path)
