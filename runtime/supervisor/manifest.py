"""What a backup says about itself: `manifest.json`, written last, so that a backup without it is not one.

```
{"format":1,"ebbmq":"0.1.0","data_format":1,"began_at":…,"completed_at":…,
 "vhosts":[{"number":1,"name":"/","cut_at":…}],
 "files":[{"path":"directory.sqlite","size":45056,"sha256":…},{"path":"vhosts/1/definitions.sqlite",…}]}
```
Times are those of the machine's clock, in UTC. Paths are relative and lead nowhere but into the backup.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Final

import msgspec
from msgspec import Struct

from ipc.data_directory import FORMAT_VERSION
from ipc.errors import ExitCode, StartRefused
from ipc.limits import BACKUP_MANIFEST_BYTES_MAX, MIB
from ipc.version import VERSION

NAME: Final = "manifest.json"
NEW_SUFFIX: Final = ".new"
MANIFEST_FORMAT: Final = 1
_READ_BYTES: Final = MIB

Proceed = Callable[[], object]
"""Called again and again while something takes long; may raise to stop it."""


class VHostEntry(Struct, frozen=True):
    """A vhost, and the moment its files show."""

    number: int
    name: str
    cut_at: datetime


class FileEntry(Struct, frozen=True):
    path: str
    size: int
    sha256: str


class _Format(Struct, frozen=True):
    """What can be said of any version's."""

    format: int
    data_format: int
    ebbmq: str


class Manifest(Struct, frozen=True):
    ebbmq: str
    began_at: datetime
    completed_at: datetime
    vhosts: tuple[VHostEntry, ...]
    files: tuple[FileEntry, ...]
    format: int = MANIFEST_FORMAT
    data_format: int = FORMAT_VERSION

    @property
    def bytes(self) -> int:
        return sum(entry.size for entry in self.files)


def write(root: Path, vhosts: tuple[VHostEntry, ...], began_at: float, proceed: Proceed) -> Manifest:
    """Add up what there is below `root`, all of it on disk, and say that it is complete. Raises OSError."""
    files = tuple(_entry(root, path, proceed) for path in sorted(_files_below(root)))
    manifest = Manifest(VERSION, datetime.fromtimestamp(began_at, UTC), datetime.now(UTC), vhosts, files)
    new = root / (NAME + NEW_SUFFIX)
    with new.open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(manifest), indent=1))
        file.flush()
        os.fsync(file.fileno())
    # Before it there is none, and with it there is all: what it names is on disk, and so are the ways there.
    for directory, _directories, _names in os.walk(root):
        sync_directory(Path(directory))
    sync_directory(root.parent)
    new.rename(root / NAME)
    sync_directory(root)
    return manifest


def read(root: Path) -> Manifest:
    """Raises StartRefused: FORMAT_UNKNOWN for another version's, STORE_DAMAGED for what is no complete backup."""
    path = root / NAME
    try:
        with path.open("rb") as file:
            content = file.read(BACKUP_MANIFEST_BYTES_MAX)
    except (FileNotFoundError, NotADirectoryError):
        raise _damaged(f"{root} is no complete backup: it has no {NAME}") from None
    except OSError as fault:
        raise _damaged(f"{path} cannot be read: {fault.strerror}") from fault
    try:
        found = msgspec.json.decode(content, type=_Format)
        if (found.format, found.data_format) != (MANIFEST_FORMAT, FORMAT_VERSION):
            raise StartRefused(
                ExitCode.FORMAT_UNKNOWN,
                f"{root} was made by EbbMQ {found.ebbmq} in format {found.format}, with data of format "
                f"{found.data_format}; this version knows {MANIFEST_FORMAT} and {FORMAT_VERSION} only",
            )
        manifest = msgspec.json.decode(content, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as fault:
        raise _damaged(f"{path} is damaged: {fault}") from fault
    for entry in manifest.files:
        if not _leads_inside(entry.path):
            raise _damaged(f"{path} is damaged: it names {entry.path!r}")
    return manifest


def verify(root: Path, manifest: Manifest, proceed: Proceed = lambda: None) -> None:
    """Raises StartRefused (STORE_DAMAGED) at the first file that is missing or not what it was."""
    for entry in manifest.files:
        try:
            found = _entry(root, root / entry.path, proceed)
        except FileNotFoundError:
            raise _damaged(f"{root / entry.path} is missing") from None
        except OSError as fault:
            raise _damaged(f"{root / entry.path} cannot be read: {fault.strerror}") from fault
        if found != entry:
            raise _damaged(f"{root / entry.path} is not what was backed up: size or checksum differ")


def sync_directory(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _files_below(root: Path) -> Iterator[Path]:
    for directory, _directories, names in os.walk(root):
        for name in names:
            yield Path(directory, name)


def _entry(root: Path, path: Path, proceed: Proceed) -> FileEntry:
    digest = hashlib.sha256()
    size = 0
    with path.open("rb", buffering=0) as file:
        while piece := file.read(_READ_BYTES):
            proceed()
            digest.update(piece)
            size += len(piece)
    return FileEntry(str(path.relative_to(root)), size, digest.hexdigest())


def _leads_inside(path: str) -> bool:
    pure = PurePosixPath(path)
    return bool(pure.parts) and not pure.is_absolute() and ".." not in pure.parts and "\0" not in path


def _damaged(sentence: str) -> StartRefused:
    return StartRefused(ExitCode.STORE_DAMAGED, sentence)
