"""`ebbmq --version`: a room of its own, because reading metadata takes as many modules as half the supervisor."""

from importlib.metadata import PackageNotFoundError, version
from typing import Final

DISTRIBUTION: Final = "ebbmq"


def installed_version() -> str:
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:  # run from a checkout
        return "unreleased"
