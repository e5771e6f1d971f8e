"""Removes what deleted vhosts left on disk: first a rename, done at once, then the deletion, which may take long."""

import os
import shutil
from pathlib import Path
from typing import Final

from ipc.data_directory import DataDirectory

DELETED_SUFFIX: Final = ".deleted"


def prepare(paths: DataDirectory) -> None:
    """Make the directory that all vhosts' directories lie in: one maker, where shards would race. Raises OSError."""
    paths.vhost(0).parent.mkdir(exist_ok=True)


def remove(paths: DataDirectory, number: int) -> None:
    """Remove a vhost's directory; nobody has it open any more. Raises OSError."""
    found = paths.vhost(number)
    doomed = found.with_name(found.name + DELETED_SUFFIX)
    try:
        found.rename(doomed)
    except FileNotFoundError:
        return
    shutil.rmtree(doomed)


def finish_removals(paths: DataDirectory) -> None:
    """Remove what an earlier run had begun to. Raises OSError."""
    for path in _vhost_directories(paths):
        if path.name.endswith(DELETED_SUFFIX):
            shutil.rmtree(path)


def orphans(paths: DataDirectory, known: set[int]) -> list[Path]:
    """Directories of vhosts that the directory does not know: kept, because a person has to say what became of them."""
    return [path for path in _vhost_directories(paths) if path.name.isdecimal() and int(path.name) not in known]


def _vhost_directories(paths: DataDirectory) -> list[Path]:
    return sorted(Path(entry.path) for entry in os.scandir(paths.vhost(0).parent))
