"""Files of a vhost for which it is enough that the kernel has them (`durability = "os"`): nothing of it awaits a sync.

A mark in the vhost's directory says so for as long as anything of it may be with the kernel only. Whoever opens the
vhost to promise more than that brings all there is to disk first, and then takes the mark away. The mark itself need
not be safe: what takes it, the end of the machine, has taken everything else that was with the kernel only.
"""

import mmap
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager

from ipc.data_directory import VHostDirectory
from shards.store.blocks import Buffer
from shards.store.copying import Copying
from shards.store.files import DetachedFile, Files, SyncBatch


class UnsyncedFiles:
    """`Files` for one vhost of a shard that may have others; what is asked to be synced is written and no more."""

    __slots__ = ("_files",)

    def __init__(self, files: Files) -> None:
        self._files = files

    def make_directory(self, path: str, *, sync: bool) -> None:
        self._files.make_directory(path, sync=False)

    def create(self, path: str, size_bytes: int, *, sync: bool) -> None:
        self._files.create(path, size_bytes, sync=False)

    def allocate(self, path: str, size_bytes: int) -> None:
        self._files.allocate(path, size_bytes)

    def write(self, path: str, offset: int, parts: Sequence[Buffer], *, sync: bool) -> None:
        self._files.write(path, offset, parts, sync=False)

    def read(self, path: str, offset: int, size_bytes: int) -> bytes:
        return self._files.read(path, offset, size_bytes)

    def size(self, path: str) -> int:
        return self._files.size(path)

    def map(self, path: str, size_bytes: int) -> mmap.mmap:
        return self._files.map(path, size_bytes)

    def release(self, path: str) -> Callable[[], None]:
        return self._files.release(path)

    def forget(self, path: str) -> None:
        self._files.forget(path)

    def rename(self, path: str, new_path: str) -> None:
        self._files.rename(path, new_path)

    def unlink(self, path: str) -> None:
        self._files.unlink(path)

    def remove_tree(self, path: str) -> None:
        self._files.remove_tree(path)

    def list(self, path: str) -> Sequence[str]:
        return self._files.list(path)

    def reading_ahead(self, directories: Mapping[str, Collection[str]]) -> AbstractContextManager[None]:
        return self._files.reading_ahead(directories)

    @property
    def syncs_begun(self) -> int:
        return self._files.syncs_begun

    def take_unsynced(self) -> SyncBatch:
        return self._files.take_unsynced()

    def sync_batch(self, *paths: str, directories: Iterable[str] = ()) -> SyncBatch:
        return self._files.sync_batch(*paths, directories=directories)

    def detach(self, path: str) -> DetachedFile:
        return self._files.detach(path)

    def begin_copy(self, root: str, target: str, aside: str) -> Copying:
        return self._files.begin_copy(root, target, aside)

    def nonce(self) -> int:
        return self._files.nonce()

    def close(self) -> None:
        self._files.close()


def mark(files: Files, paths: VHostDirectory) -> None:
    """Before the first write that nobody will sync. Raises OSError."""
    if paths.unsynced.name not in files.list(str(paths.root)):
        files.create(str(paths.unsynced), 0, sync=False)


def catch_up(files: Files, paths: VHostDirectory) -> None:
    """Where there is a mark, bring everything that messages are in to disk. Raises OSError; then it can be repeated."""
    if paths.unsynced.name not in files.list(str(paths.root)):
        return
    stores = [f"{place}/{store}" for place in (paths.queues, paths.delayed) for store in files.list(str(place))]
    # Also of those that are empty now: what was unlinked must not come back.
    files.sync_batch(*(f"{store}/{name}" for store in stores for name in files.list(store)), directories=stores).run()
    files.unlink(str(paths.unsynced))
