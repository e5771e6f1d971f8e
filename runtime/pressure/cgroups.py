"""Finds this process's own cgroups from what the kernel says, wherever they are mounted."""

import re
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

from msgspec import Struct

_OCTAL = re.compile(r"\\([0-7]{3})")


class MemoryControl(Struct, frozen=True):
    """Where the kernel says how much memory a cgroup and all below it may have, and how much they have."""

    limits: tuple[Path, ...]
    usage: Path
    statistics: Path
    reclaimable: frozenset[str]  # of the statistics: what the kernel takes back when somebody in there needs room


class _Names(NamedTuple):
    limits: tuple[str, ...]
    usage: str
    reclaimable: frozenset[str]


# By the controller that names its hierarchy; cgroup 2 has one for all. Beyond `memory.high` the kernel makes us wait
# until it has found memory, so nobody gets much further. Lists of file pages leave out files in memory.
_MEMORY: Final = {
    "": _Names(
        ("memory.max", "memory.high"),
        "memory.current",
        frozenset({"active_file", "inactive_file", "slab_reclaimable"}),
    ),
    "memory": _Names(
        ("memory.limit_in_bytes",),
        "memory.usage_in_bytes",
        frozenset({"total_active_file", "total_inactive_file"}),
    ),
}


def of_this_process() -> tuple[str, str]:
    """The texts that the functions below are asked with."""
    return Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text()


def own_cgroup(mountinfo: str, membership: str) -> Path | None:
    """The directory in cgroup 2, from the texts of `/proc/self/mountinfo` and `/proc/self/cgroup`; None without one.

    On hybrid hosts cgroup 2 lies elsewhere than in `/sys/fs/cgroup`, and inside a container only part of it is mounted.
    """
    return next(iter(_lineage(mountinfo, membership, "")), None)


def memory_controls(mountinfo: str, membership: str) -> list[MemoryControl]:
    """Whatever may limit our memory, of both versions: our own cgroup and every one above that can be seen."""
    return [
        MemoryControl(
            limits=tuple(directory / name for name in names.limits),
            usage=directory / names.usage,
            statistics=directory / "memory.stat",
            reclaimable=names.reclaimable,
        )
        for controller, names in _MEMORY.items()
        for directory in _lineage(mountinfo, membership, controller)
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
