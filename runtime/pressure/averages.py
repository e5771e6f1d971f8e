"""How long tasks waited for memory lately: the averages in the kernel's pressure files.

```
some avg10=0.00 avg60=0.00 avg300=0.00 total=0
full avg10=0.00 avg60=0.00 avg300=0.00 total=0
```
"""

from pathlib import Path
from typing import Final

from msgspec import Struct

from runtime.pressure.cgroups import of_this_process, own_cgroup

SYSTEM_PRESSURE: Final = Path("/proc/pressure/memory")


class Stall(Struct, frozen=True):
    """Percent of the last 10, 60 and 300 seconds, and microseconds in all."""

    avg10: float
    avg60: float
    avg300: float
    total: int


class Pressure(Struct, frozen=True):
    """`some`: at least one task waited; `full`: all of them did. None where the file has no such line."""

    path: str
    some: Stall | None
    full: Stall | None


def pressure_file(source: str) -> Path:
    """The file whose averages belong to a source of that name: our own cgroup's where that is watched, else all's."""
    if source in ("systemd", "cgroup"):
        directory = own_cgroup(*of_this_process())
        if directory is not None and (directory / "memory.pressure").exists():
            return directory / "memory.pressure"
    return SYSTEM_PRESSURE


def read_pressure(source: str) -> Pressure | None:
    """The averages now; None where the kernel keeps none."""
    try:
        path = pressure_file(source)
        return parse_pressure(str(path), path.read_text())
    except OSError:
        return None


def parse_pressure(path: str, text: str) -> Pressure:
    lines = {line.split(" ", 1)[0]: line.split()[1:] for line in text.splitlines() if line}
    return Pressure(path, _stall(lines.get("some")), _stall(lines.get("full")))


def _stall(fields: list[str] | None) -> Stall | None:
    if fields is None:
        return None
    numbers = dict(field.split("=", 1) for field in fields)
    return Stall(
        float(numbers["avg10"]), float(numbers["avg60"]), float(numbers["avg300"]), int(numbers.get("total", 0))
    )
