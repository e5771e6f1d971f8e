"""`ebbmq --version`: a room of its own, because reading metadata takes as many modules as half the supervisor."""

import os
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from ipc.speed import read_speed

DISTRIBUTION: Final = "ebbmq"


def version_and_speed() -> str:
    """`0.1.0 (compiled)`, or what else hot modules are and why."""
    return f"{installed_version()} ({read_speed(os.environ)})"


def installed_version() -> str:
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:  # run from a checkout
        return "unreleased"
