"""docs/measurements.md: each measurement replaces its own marked section there and leaves the others alone."""

import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import psutil

from bench.fresh_broker import COMMAND, ROOT

PAGE: Final = ROOT / "docs" / "measurements.md"
IMAGES: Final = ROOT / "docs" / "img"


def replace_section(name: str, text: str, page: Path = PAGE) -> None:
    """Put `text` between the marks of this name. Raises SystemExit when the page has none."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    old = page.read_text()
    before, found, rest = old.partition(begin)
    _, ended, after = rest.partition(end)
    if not found or not ended:
        raise SystemExit(f"{page} has no section between {begin} and {end}")
    page.write_text(f"{before}{begin}\n{text.strip()}\n{end}{after}")


def machine() -> str:
    """One sentence on what the figures were measured on."""
    cores = psutil.cpu_count() or 0
    gibibytes = psutil.virtual_memory().total / 2**30
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {version()}, Linux {platform.release().split('-')[0]}, {cores} cores shared "
        f"with the load tool, {gibibytes:.0f} GiB, {platform.python_implementation()} {platform.python_version()}"
    )


def version() -> str:
    """What `ebbmq --version` says, the speed included."""
    told = subprocess.run([*COMMAND, "--version"], cwd=ROOT, check=True, capture_output=True, text=True, timeout=60)
    return told.stdout.strip().replace("\n", ", ")
