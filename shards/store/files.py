"""The seam between the store and a file system: everything the store does to files, by path, and nothing else.

`DiskFiles` is the real one; its twin in `tests/simulation/` loses unsynced bytes, and both pass one contract suite.
Descriptors and maps belong to it, bounded for the whole shard: a store holds neither, so an idle queue owns none.
Every call belongs to the thread of the event loop, except `SyncBatch.run`, what `release` returns, and those of a
`DetachedFile`.
"""

import ctypes
import errno
import mmap
import os
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Final, Protocol

from ipc.messages.commands import Level
from shards.compaction.compactable import Compactable, Freed, ShrinkPolicy, Step
from shards.store.blocks import Buffer
from shards.store.copying import Copying, DiskCopying
from shards.store.read_ahead import reading_ahead

IOV_PARTS_MAX: Final = 1024  # IOV_MAX of Linux
MAPS_OPEN_MAX: Final = 512  # of one shard, each one more descriptor until Python 3.13
NONCE_BYTES: Final = 4
NEW_SUFFIX: Final = ".new"  # of a file that is about to take another's place
SYNCED_ONE_BY_ONE_MAX: Final = 64
"""Files and directories that are synced each by itself, at 3.4 ms each; ten thousand together take 0.4 s (measured)."""
_SYNCFS_TELLS_SINCE: Final = (5, 8)  # of Linux: before that syncfs did not say whether it worked

_WRITABLE: Final = os.O_RDWR | os.O_CLOEXEC
_READABLE: Final = os.O_RDONLY | os.O_CLOEXEC


class SyncBatch(Protocol):
    """What was written with `sync=True` up to some moment; false when that is nothing."""

    def __bool__(self) -> bool: ...

    def run(self) -> None:
        """Return once all of it would survive a power failure; thread-safe, called once.

        Raises OSError: then the kernel may have dropped what it could not write, and trying again would lie. Whoever
        waits for this batch must not be confirmed, and the owner of the files has to recover them.
        """


class DetachedFile(Protocol):
    """One file for a worker thread, and nobody else until that is done with it. Everything raises OSError."""

    def write(self, offset: int, parts: Sequence[Buffer]) -> None:
        """As `Files.write`; nobody syncs it."""

    def replace(self, parts: Sequence[Buffer]) -> None:
        """What was in it goes when these are on disk; after an OSError there is one or the other."""


class Files(Protocol):
    """Files of one shard. Everything raises OSError as the operating system does."""

    def make_directory(self, path: str, *, sync: bool) -> None:
        """With its parents; one that exists already is fine. `sync`: `take_unsynced` shall cover it."""

    def create(self, path: str, size_bytes: int, *, sync: bool) -> None:
        """A new file of zeros that occupy no disk. Raises FileExistsError instead of touching what is there."""

    def allocate(self, path: str, size_bytes: int) -> None:
        """Cut an existing file or extend it by zeros that occupy no disk."""

    def write(self, path: str, offset: int, parts: Sequence[Buffer], *, sync: bool) -> None:
        """All parts, one behind the other; a missing file is created. `sync`: `take_unsynced` shall cover it.

        After an OSError any part may be there or not; the same offset can be written again.
        """

    def read(self, path: str, offset: int, size_bytes: int) -> bytes:
        """As much as there is up to `size_bytes`."""

    def size(self, path: str) -> int: ...

    def map(self, path: str, size_bytes: int) -> mmap.mmap:
        """A shared read-only map of at least `size_bytes`, which the file must have; not to be kept across calls."""

    def release(self, path: str) -> Callable[[], None]:
        """Give the file's pages back that are mapped here.

        What it returns is for a worker thread: it brings the file to disk and its pages out of the page cache, but for
        those that are mapped again by then. Raises OSError when the disk fails.
        """

    def forget(self, path: str) -> None:
        """Close what is open of it; the next use opens it again."""

    def rename(self, path: str, new_path: str) -> None: ...

    def unlink(self, path: str) -> None:
        """One that does not exist is fine. What is unsynced of it will never be synced."""

    def remove_tree(self, path: str) -> None:
        """A directory and all in it; one that does not exist is fine."""

    def list(self, path: str) -> Sequence[str]:
        """Names in a directory, sorted; a directory that does not exist has none."""

    def reading_ahead(self, directories: Mapping[str, Collection[str]]) -> AbstractContextManager[None]:
        """Within, files in these directories are read one after the other, of those named with each only the head.

        What cannot be read is told by whoever reads it.
        """

    @property
    def syncs_begun(self) -> int:
        """How many batches of `take_unsynced` have begun to run: what was written before is on its way to disk."""

    def take_unsynced(self) -> SyncBatch:
        """Everything written with `sync=True` since the last take, with the directory entries leading to it."""

    def sync_batch(self, *paths: str, directories: Iterable[str] = ()) -> SyncBatch:
        """All of some files and the directory entries that lead to them, for a worker thread.

        And the entries of `directories`, for what has gone from them.

        Whoever made those entries: a round under way may have taken them along, or a process that ended. What goes
        wrong there is told to `take_unsynced`'s batch as well.
        """

    def detach(self, path: str) -> DetachedFile:
        """A file that is no part of any copy, for a worker thread."""

    def begin_copy(self, root: str, target: str, aside: str) -> Copying:
        """Have pieces of files below `root`, as they are at one moment, copied to the same places below `target`.

        Whatever becomes of those files afterwards; only one copy is made at a time. `target` is a directory that is
        there, `aside` one of the same file system as the files, which is not.
        """

    def nonce(self) -> int:
        """Chance, for the salt of a new segment: 32 bits."""

    def close(self) -> None: ...


class Descriptor:
    """An open file, closed with its last user: the table of open files, or a batch in a worker thread."""

    __slots__ = ("number",)

    def __init__(self, path: str, flags: int) -> None:
        self.number = os.open(path, flags, 0o640)

    def __del__(self) -> None:
        # `number` is missing when opening failed.
        number = getattr(self, "number", -1)
        if number >= 0:
            os.close(number)


class DiskSyncBatch:
    """Files by descriptor where one was open, else by path; then the directories whose entries are new."""

    __slots__ = ("_begins", "_directories", "_files")

    def __init__(
        self,
        files: Sequence[tuple[str, Descriptor | None]],
        directories: Sequence[str],
        begins: Callable[[], None] | None = None,
    ) -> None:
        """`begins` is called by `run`, before anything else."""
        self._files = files
        self._directories = directories
        self._begins = begins

    def __bool__(self) -> bool:
        return bool(self._files or self._directories)

    def run(self) -> None:
        if self._begins is not None:
            self._begins()
        for _path, descriptor in self._files:
            if descriptor is not None:
                os.fdatasync(descriptor.number)
        closed = [path for path, descriptor in self._files if descriptor is None]
        if len(closed) + len(self._directories) > SYNCED_ONE_BY_ONE_MAX and _syncfs_tells():
            _sync_together([*map(os.path.dirname, closed), *self._directories])
            return
        for path in closed:
            _sync(path, _WRITABLE, os.fdatasync)
        for directory in self._directories:
            _sync(directory, _READABLE | os.O_DIRECTORY, os.fsync)


class DiskDetachedFile:
    """Opened for each call, because those are few."""

    __slots__ = ("_path",)

    def __init__(self, path: str) -> None:
        self._path = path

    def write(self, offset: int, parts: Sequence[Buffer]) -> None:
        descriptor = Descriptor(self._path, _WRITABLE | os.O_CREAT)
        _write_all(descriptor.number, offset, parts)

    def replace(self, parts: Sequence[Buffer]) -> None:
        new = self._path + NEW_SUFFIX
        descriptor = Descriptor(new, _WRITABLE | os.O_CREAT | os.O_TRUNC)
        _write_all(descriptor.number, 0, parts)
        os.fdatasync(descriptor.number)
        os.rename(new, self._path)


def _sync(path: str, flags: int, sync: Callable[[int], None]) -> None:
    try:
        descriptor = Descriptor(path, flags)
    except FileNotFoundError:
        return  # gone meanwhile: every message in it is settled, or its queue was deleted
    sync(descriptor.number)


def _syncfs_tells() -> bool:
    major, minor = os.uname().release.split(".")[:2]
    return (int(major), int(minor.partition("-")[0])) >= _SYNCFS_TELLS_SINCE


def _sync_together(directories: Iterable[str]) -> None:
    """Sync the file systems these are on, each with one call."""
    syncfs = ctypes.CDLL(None, use_errno=True).syncfs
    done = set()
    for directory in dict.fromkeys(directories):
        try:
            device = os.stat(directory).st_dev
            if device in done:
                continue
            descriptor = Descriptor(directory, _READABLE | os.O_DIRECTORY)
        except FileNotFoundError:
            continue
        if syncfs(descriptor.number):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), directory)
        done.add(device)


def _drop_pages(path: str) -> None:
    """Measured: 0.8 ms for 8 MiB that are on disk already, without the GIL."""
    # A descriptor of its own, as in `sync_batch`.
    try:
        descriptor = Descriptor(path, _WRITABLE)
    except FileNotFoundError:
        return  # unlinked meanwhile, and its pages with it
    # Only clean pages leave the page cache.
    os.fdatasync(descriptor.number)
    os.posix_fadvise(descriptor.number, 0, 0, os.POSIX_FADV_DONTNEED)


class DiskFiles(Compactable):
    """The file system. Keeps at most `descriptors_open_max` files and `maps_open_max` maps open, latest used last."""

    __slots__ = (
        "_copying",
        "_descriptors",
        "_descriptors_open_max",
        "_maps",
        "_maps_open_max",
        "_unsynced",
        "_unsynced_directories",
        "syncs_begun",
    )
    COLLECTIONS = ("_descriptors", "_maps", "_unsynced", "_unsynced_directories")
    KIND = "open files"

    def __init__(self, descriptors_open_max: int, maps_open_max: int = MAPS_OPEN_MAX) -> None:
        self._descriptors_open_max = descriptors_open_max
        self._maps_open_max = maps_open_max
        self._descriptors: OrderedDict[str, Descriptor] = OrderedDict()
        self._maps: OrderedDict[str, mmap.mmap] = OrderedDict()
        self._unsynced: dict[str, None] = {}
        self._unsynced_directories: dict[str, None] = {}
        self.syncs_begun = 0
        self._copying: DiskCopying | None = None

    @property
    def descriptors_open(self) -> int:
        return len(self._descriptors)

    @property
    def maps_open(self) -> int:
        return len(self._maps)

    # making and changing ----------------------------------------------------------------------------------------------

    def make_directory(self, path: str, *, sync: bool) -> None:
        missing = []
        while not os.path.isdir(path):
            missing.append(path)
            path = os.path.dirname(path)
        for directory in reversed(missing):
            try:
                os.mkdir(directory, 0o750)
            except FileExistsError:  # made by another shard meanwhile
                continue
            if sync:
                self._unsynced_directories[os.path.dirname(directory)] = None

    def create(self, path: str, size_bytes: int, *, sync: bool) -> None:
        if self._copying is not None:
            self._copying.touch(path)
        descriptor = self._open(path, _WRITABLE | os.O_CREAT | os.O_EXCL)
        try:
            os.ftruncate(descriptor.number, size_bytes)
        except OSError:
            self.unlink(path)  # so that it can be tried again
            raise
        if sync:
            self._unsynced_directories[os.path.dirname(path)] = None

    def allocate(self, path: str, size_bytes: int) -> None:
        if self._copying is not None:
            self._copying.touch(path)
        mapped = self._maps.get(path)
        if mapped is not None and len(mapped) > size_bytes:
            del self._maps[path]  # its end would be beyond the file's
        os.ftruncate(self._descriptor(path).number, size_bytes)

    def write(self, path: str, offset: int, parts: Sequence[Buffer], *, sync: bool) -> None:
        if self._copying is not None:
            self._copying.touch(path)
        if path in self._descriptors:
            number = self._descriptor(path).number
        else:
            number = self._open_or_create(path, sync=sync).number
        if sync:
            self._unsynced[path] = None
        _write_all(number, offset, parts)

    def rename(self, path: str, new_path: str) -> None:
        if self._copying is not None:
            self._copying.keep(path)
            self._copying.keep(new_path)
        self.forget(path)
        self.forget(new_path)
        os.rename(path, new_path)
        if path in self._unsynced:
            del self._unsynced[path]
            self._unsynced[new_path] = None
        self._unsynced_directories[os.path.dirname(new_path)] = None

    def unlink(self, path: str) -> None:
        if self._copying is not None:
            self._copying.keep(path)
        self.forget(path)
        self._unsynced.pop(path, None)
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass

    def remove_tree(self, path: str) -> None:
        for name in self.list(path):
            entry = os.path.join(path, name)
            if os.path.isdir(entry) and not os.path.islink(entry):
                self.remove_tree(entry)
            else:
                self.unlink(entry)
        self._unsynced_directories.pop(path, None)
        try:
            os.rmdir(path)
        except FileNotFoundError:
            pass

    # reading ----------------------------------------------------------------------------------------------------------

    def read(self, path: str, offset: int, size_bytes: int) -> bytes:
        return os.pread(self._descriptor(path).number, size_bytes, offset)

    def size(self, path: str) -> int:
        return os.stat(path).st_size

    def map(self, path: str, size_bytes: int) -> mmap.mmap:
        maps = self._maps
        mapped = maps.get(path)
        if mapped is not None and len(mapped) >= size_bytes:
            maps.move_to_end(path)
            return mapped
        # Shared, because a private map loses what is under it when its pages are given back.
        mapped = mmap.mmap(self._descriptor(path).number, size_bytes, mmap.MAP_SHARED, mmap.PROT_READ)
        maps[path] = mapped
        maps.move_to_end(path)
        # Dropped, not closed: whoever still looks at a span of it keeps it alive that long.
        while len(maps) > self._maps_open_max:
            maps.popitem(last=False)
        return mapped

    def list(self, path: str) -> Sequence[str]:
        try:
            return sorted(os.listdir(path))
        except FileNotFoundError:
            return []

    def reading_ahead(self, directories: Mapping[str, Collection[str]]) -> AbstractContextManager[None]:
        return reading_ahead(directories)

    # giving back ------------------------------------------------------------------------------------------------------

    def shrink(self, level: Level, policy: ShrinkPolicy) -> Iterator[Step]:
        """At CRITICAL also what maps have faulted in; whoever reads on takes it from the page cache again."""
        yield from super().shrink(level, policy)
        if level < Level.CRITICAL or policy.is_dry:
            return
        for path in list(self._maps):
            mapped = self._maps.get(path)
            if mapped is not None:
                mapped.madvise(mmap.MADV_DONTNEED)
                del mapped  # between two steps it may be dropped
                yield Freed("mapped pages", 0)  # how many there were nobody tells

    def release(self, path: str) -> Callable[[], None]:
        mapped = self._maps.get(path)
        if mapped is not None:
            mapped.madvise(mmap.MADV_DONTNEED)
        # Only after that: the page cache keeps what is mapped.
        return partial(_drop_pages, path)

    def forget(self, path: str) -> None:
        self._maps.pop(path, None)
        self._descriptors.pop(path, None)

    def close(self) -> None:
        self._maps.clear()
        self._descriptors.clear()

    # making safe ------------------------------------------------------------------------------------------------------

    def take_unsynced(self) -> DiskSyncBatch:
        files = [(path, self._descriptors.get(path)) for path in self._unsynced]
        directories = list(self._unsynced_directories)
        self._unsynced.clear()
        self._unsynced_directories.clear()
        return DiskSyncBatch(files, directories, self._sync_begins)

    def _sync_begins(self) -> None:
        """In the thread that runs a batch, one after the other."""
        self.syncs_begun += 1

    def sync_batch(self, *paths: str, directories: Iterable[str] = ()) -> DiskSyncBatch:
        # A descriptor of its own: the kernel tells each open file once that writing failed, and the one which confirms
        # wait for must hear it.
        synced = dict.fromkeys(self._unsynced_directories)
        for directory in dict.fromkeys((*map(os.path.dirname, paths), *directories)):
            synced.update(dict.fromkeys((directory, os.path.dirname(directory))))
        return DiskSyncBatch([(path, None) for path in paths], list(synced))

    def detach(self, path: str) -> DiskDetachedFile:
        self.forget(path)
        return DiskDetachedFile(path)

    # copying ----------------------------------------------------------------------------------------------------------

    def begin_copy(self, root: str, target: str, aside: str) -> DiskCopying:
        self._copying = DiskCopying(root, target, aside)
        return self._copying

    def nonce(self) -> int:
        return int.from_bytes(os.urandom(NONCE_BYTES), "little")

    # descriptors ------------------------------------------------------------------------------------------------------

    def _descriptor(self, path: str) -> Descriptor:
        descriptor = self._descriptors.get(path)
        if descriptor is None:
            return self._open(path, _WRITABLE)
        self._descriptors.move_to_end(path)
        return descriptor

    def _open_or_create(self, path: str, *, sync: bool) -> Descriptor:
        try:
            return self._open(path, _WRITABLE)
        except FileNotFoundError:
            descriptor = self._open(path, _WRITABLE | os.O_CREAT)
        if sync:
            self._unsynced_directories[os.path.dirname(path)] = None
        return descriptor

    def _open(self, path: str, flags: int) -> Descriptor:
        try:
            descriptor = Descriptor(path, flags)
        except OSError as fault:
            if fault.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            self._evict(len(self._descriptors) // 2)  # clients hold the rest; they are worth more than a cache
            descriptor = Descriptor(path, flags)
        self._evict(self._descriptors_open_max - 1)
        self._descriptors[path] = descriptor
        return descriptor

    def _evict(self, keep: int) -> None:
        while len(self._descriptors) > keep:
            self._descriptors.popitem(last=False)


def _write_all(number: int, offset: int, parts: Sequence[Buffer]) -> None:
    written = os.pwritev(number, parts[:IOV_PARTS_MAX], offset)
    total = sum(map(len, parts))
    if written < total:
        _write_rest(number, offset, parts, written)


def _write_rest(number: int, offset: int, parts: Sequence[Buffer], written: int) -> None:
    """Go on after a short write: at the IOV limit, at 2 GiB, or where the disk became full (the next call says so)."""
    for rest in _from(parts, written):
        with rest:
            at = 0
            while at < len(rest):
                at += os.pwrite(number, rest[at:], offset + written + at)
            written += at


def _from(parts: Sequence[Buffer], skip: int) -> Iterator[memoryview]:
    for part in parts:
        size = len(part)
        if skip < size:
            yield memoryview(part)[skip:]
            skip = 0
        else:
            skip -= size
