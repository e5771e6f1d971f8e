"""Makes a data directory of a backup, offline: verified first, and a data directory only once all of it is there."""

import os
import shutil
from pathlib import Path

from ipc.data_directory import DataDirectory
from ipc.errors import ExitCode, StartRefused
from runtime.supervisor import manifest
from runtime.supervisor.data_lock import DataLock
from runtime.supervisor.manifest import Manifest


def restore(source: Path, paths: DataDirectory) -> Manifest:
    """What was restored, on disk. The backup stays as it is, whatever becomes of its copy.

    Raises StartRefused: DATA_DIRECTORY_IN_USE, DATA_DIRECTORY_UNUSABLE for one that is not empty, full or read-only,
    FORMAT_UNKNOWN and STORE_DAMAGED for the backup; then nothing was changed, or everything was taken back.
    """
    is_new = not paths.root.exists()
    found = manifest.read(source)
    try:
        with DataLock.take_empty(paths) as lock:
            try:
                manifest.verify(source, found)
                _copy(source, paths.root, found)
                lock.declare()
            except BaseException:
                _take_back(paths)
                raise
    except BaseException as fault:
        if is_new:
            shutil.rmtree(paths.root, ignore_errors=True)
        if isinstance(fault, OSError):
            reason = f"{source} cannot be restored to {paths.root}: {fault}"
            raise StartRefused(ExitCode.DATA_DIRECTORY_UNUSABLE, reason) from fault
        raise
    return found


def _copy(source: Path, root: Path, found: Manifest) -> None:
    directories = {root: None}  # all that are made, for a sync each
    for entry in found.files:
        path = root / entry.path
        for parent in reversed(path.relative_to(root).parents):
            if (directory := root / parent) not in directories:
                directory.mkdir(0o750)
                directories[directory] = None
        shutil.copyfile(source / entry.path, path)
        opened = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
    for directory in (*directories, root.parent):
        manifest.sync_directory(directory)


def _take_back(paths: DataDirectory) -> None:
    for name in ("vhosts", paths.directory.name, paths.format.name):
        path = paths.root / name
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
