"""A copy of files as they are at one moment, made while their owner goes on using them.

```
loop:    gather … cut ─► turn, turn: appends behind the ends, unlinks (kept aside), … ─► end
thread:             └─► open, copy or link up to its end, sync, one file after the other ┘
```
Nothing is copied in the moment itself: what stands before a piece's end never changes any more, so its length is all
that has to be noted. A file that would vanish before its turn came gets a second name first, in a directory of the same
file system. What is final is not copied but linked where that is possible, which takes neither time nor room.
"""

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Final, NamedTuple, Protocol

from ipc.limits import COPIED_AT_ONCE_BYTES, COPIED_BETWEEN_SYNCS_BYTES, COPIED_BETWEEN_SYNCS_FILES

_MODE: Final = 0o640
_DIRECTORY_MODE: Final = 0o750
# What a link may fail with where a copy does not: another file system, or one without links, or too many of them.
_LINKS_NOT: Final = frozenset({errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOSYS, errno.EOPNOTSUPP})
_RANGES_NOT: Final = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EPERM})


class Piece(NamedTuple):
    """A file, up to an end before which nothing will ever change; `is_final`: nor will anything come behind it."""

    path: str
    end: int
    is_final: bool


class Copied(NamedTuple):
    files: int
    bytes: int  # with those that were only linked
    files_linked: int


class Copying(Protocol):
    """A copy that was begun. `run` belongs to a thread of its own, the rest to the owner's."""

    def gather(self, directory: str, pieces: Iterable[Piece]) -> None:
        """What is in a directory now; what was said of it before does not count any more."""

    def take_changed(self) -> list[str]:
        """Directories in which something has changed, or tried to, since this was asked last or the copy begun."""

    def cut(self) -> None:
        """What was gathered is all there is, at this moment: that is what will be copied."""

    def run(self, proceed: Callable[[], None]) -> Copied:
        """Return once all of it would survive a power failure; thread-safe, called once.

        `proceed` is called again and again and may raise to stop it. Raises OSError; then the copy is of no use.
        """

    def end(self) -> None:
        """After `run`, if that was called: files need not be kept for it any more."""


class DiskCopying:
    """Pieces of files below `root` to the same places below `target`; `aside` is a directory for this copy alone."""

    def __init__(self, root: str, target: str, aside: str) -> None:
        self._root = root
        self._target = target
        self._aside = aside
        self._gathered: dict[str, list[Piece]] = {}
        self._changed: dict[str, None] | None = {}  # None: the moment has come
        self._pending: set[str] = set()
        self._moved: dict[str, str] = {}
        self._unkept: OSError | None = None

    # in the owner's thread --------------------------------------------------------------------------------------------

    def gather(self, directory: str, pieces: Iterable[Piece]) -> None:
        self._pending.difference_update(piece.path for piece in self._gathered.get(directory, ()))
        self._gathered[directory] = found = list(pieces)
        self._pending.update(piece.path for piece in found)

    def take_changed(self) -> list[str]:
        changed, self._changed = self._changed, {}
        return list(changed or ())

    def cut(self) -> None:
        self._changed = None

    def touch(self, path: str) -> None:
        """This file is about to change."""
        if self._changed is not None:
            self._changed[os.path.dirname(path)] = None

    def keep(self, path: str) -> None:
        """This file is about to lose its name. What goes wrong is told by `run`: its owner has to go on."""
        if self._changed is not None:
            self.touch(path)
            return
        if path not in self._pending or path in self._moved:
            return
        aside = f"{self._aside}/{len(self._moved)}"
        try:
            os.makedirs(self._aside, _DIRECTORY_MODE, exist_ok=True)
            os.link(path, aside)
        except OSError as fault:
            self._unkept = fault
        # Before its name goes, and maybe is given to another file: see `_origin`.
        self._moved[path] = aside

    def end(self) -> None:
        self._gathered = {}
        self._pending = set()
        self._changed = None
        for aside in self._moved.values():
            try:
                os.unlink(aside)
            except FileNotFoundError:
                pass
        try:
            os.rmdir(self._aside)
        except FileNotFoundError:
            pass

    # in a thread of its own -------------------------------------------------------------------------------------------

    def run(self, proceed: Callable[[], None]) -> Copied:
        files = linked = total = 0
        unsynced = _Unsynced()
        for piece in chain.from_iterable(self._gathered.values()):
            proceed()
            files += 1
            target = self._target + piece.path.removeprefix(self._root)
            unsynced.add_directories(target, self._target)
            if piece.is_final and self._link(piece, target):
                linked += 1
            else:
                self._copy(piece, target, proceed)
            self._pending.discard(piece.path)
            total += piece.end
            unsynced.add(target, piece.end)
        unsynced.sync_all()
        if self._unkept is not None:
            raise self._unkept
        return Copied(files, total, linked)

    def _link(self, piece: Piece, target: str) -> bool:
        try:
            self._origin(piece.path, lambda path: os.link(path, target), lambda _none: os.unlink(target))
        except OSError as fault:
            if fault.errno in _LINKS_NOT:
                return False
            raise
        return True

    def _copy(self, piece: Piece, target: str, proceed: Callable[[], None]) -> None:
        origin = self._origin(piece.path, lambda path: os.open(path, os.O_RDONLY | os.O_CLOEXEC), os.close)
        try:
            copy_file(origin, target, piece.end, proceed)
        finally:
            os.close(origin)

    def _origin(self, path: str, take: Callable[[str], int | None], leave: Callable[[int], None]) -> int:
        """Take a file that may lose its name at any moment, and whose name may then be another one's."""
        try:
            taken = take(path)
        except FileNotFoundError:
            if path not in self._moved:
                raise
            if self._unkept is not None:
                raise self._unkept from None
        else:
            if path not in self._moved:
                return taken or 0
            leave(taken or 0)
        return take(self._moved[path]) or 0


def copy_file(origin: int, target: str, size_bytes: int, proceed: Callable[[], None]) -> None:
    """The first bytes of an open file become a new one; where the file system can share them, nothing is copied."""
    opened = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
    try:
        for at, size in _steps(size_bytes):
            proceed()
            _copy_range(origin, opened, at, size, target)
    finally:
        os.close(opened)


def _steps(size_bytes: int) -> Iterator[tuple[int, int]]:
    for at in range(0, size_bytes, COPIED_AT_ONCE_BYTES):
        yield at, min(COPIED_AT_ONCE_BYTES, size_bytes - at)


def _copy_range(origin: int, opened: int, at: int, size: int, target: str) -> None:
    copy: Callable[[int, int, int, int], int] = _share
    while size:
        try:
            count = copy(origin, opened, at, size)
        except OSError as fault:
            if copy is _share and fault.errno in _RANGES_NOT:
                copy = _send
                continue
            raise OSError(fault.errno, fault.strerror, target) from fault
        if not count:
            raise OSError(errno.EIO, "is shorter than it was", target)
        at += count
        size -= count


def _share(origin: int, opened: int, at: int, size: int) -> int:
    return os.copy_file_range(origin, opened, size, at, at)


def _send(origin: int, opened: int, at: int, size: int) -> int:
    os.lseek(opened, at, os.SEEK_SET)
    return os.sendfile(opened, origin, at, size)


class _Unsynced:
    """What was written and is not on disk: so much at a time that clients' syncs need not wait for much of it."""

    def __init__(self) -> None:
        self._files: list[str] = []
        self._bytes = 0
        self._directories: dict[str, None] = {}

    def add_directories(self, path: str, top: str) -> None:
        """Make what is missing between a file and the top, which is there."""
        directory = os.path.dirname(path)
        missing = []
        while directory not in self._directories and len(directory) >= len(top):
            missing.append(directory)
            directory = os.path.dirname(directory)
        for directory in reversed(missing):
            os.makedirs(directory, _DIRECTORY_MODE, exist_ok=True)
            self._directories[directory] = None

    def add(self, path: str, size_bytes: int) -> None:
        self._files.append(path)
        self._bytes += size_bytes
        if self._bytes >= COPIED_BETWEEN_SYNCS_BYTES or len(self._files) >= COPIED_BETWEEN_SYNCS_FILES:
            self._sync_files()

    def _sync_files(self) -> None:
        sync_files(self._files)
        self._files = []
        self._bytes = 0

    def sync_all(self) -> None:
        self._sync_files()
        sync_directories(self._directories)


def sync_files(paths: Iterable[str]) -> None:
    for path in paths:
        opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fdatasync(opened)
        finally:
            os.close(opened)


def sync_directories(paths: Iterable[str]) -> None:
    for path in paths:
        opened = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
