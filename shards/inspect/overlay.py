"""The disk as it would be after a recovery that never happens: reads are real, changes are kept in memory.

The same code that recovers a store runs on this, so what is told of a start is what it would do. A file that is written
to is copied into memory first; `forget_changes` after each store keeps that to a few segments.
"""

import mmap
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

from shards.store.blocks import Buffer
from shards.store.copying import Copying
from shards.store.files import DetachedFile

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Nothing:
    """Nothing was written, so there is nothing to sync."""

    def __bool__(self) -> bool:
        return False

    def run(self) -> None:
        pass


class Overlay:
    """`shards.store.files.Files` over a disk that is left as it is."""

    def __init__(self) -> None:
        self.unlinked: list[str] = []
        self.set_aside: list[str] = []
        self._gone: set[str] = set()
        self._sizes: dict[str, int] = {}  # of files that were cut
        self._copies: dict[str, int] = {}  # descriptors in memory
        self._maps: dict[str, mmap.mmap] = {}

    def forget_changes(self) -> None:
        self._maps.clear()
        for descriptor in self._copies.values():
            os.close(descriptor)
        self._copies.clear()
        self._sizes.clear()
        self._gone.clear()
        self.unlinked = []
        self.set_aside = []

    # reading ----------------------------------------------------------------------------------------------------------

    @contextmanager
    def _opened(self, path: str) -> "Iterator[int]":
        if path in self._copies:
            yield self._copies[path]
            return
        if path in self._gone:
            raise FileNotFoundError(2, "gone", path)
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def size(self, path: str) -> int:
        with self._opened(path) as descriptor:
            return self._sizes.get(path, os.fstat(descriptor).st_size)

    def read(self, path: str, offset: int, size_bytes: int) -> bytes:
        size_bytes = max(0, min(size_bytes, self.size(path) - offset))
        with self._opened(path) as descriptor:
            return os.pread(descriptor, size_bytes, offset)

    def map(self, path: str, size_bytes: int) -> mmap.mmap:
        mapped = self._maps.get(path)
        if mapped is None or len(mapped) < size_bytes:
            with self._opened(path) as descriptor:
                mapped = mmap.mmap(descriptor, size_bytes, mmap.MAP_SHARED, mmap.PROT_READ)
            self._maps[path] = mapped
        return mapped

    def list(self, path: str) -> Sequence[str]:
        try:
            names = {name for name in os.listdir(path) if f"{path}/{name}" not in self._gone}
        except FileNotFoundError:
            names = set()
        return sorted(names | {os.path.basename(copy) for copy in self._copies if os.path.dirname(copy) == path})

    # what would change ------------------------------------------------------------------------------------------------

    def make_directory(self, path: str, *, sync: bool) -> None:
        pass

    def create(self, path: str, size_bytes: int, *, sync: bool) -> None:
        os.ftruncate(self._copy(path), size_bytes)

    def allocate(self, path: str, size_bytes: int) -> None:
        self._maps.pop(path, None)
        if path not in self._copies and size_bytes <= self.size(path):
            self._sizes[path] = size_bytes
        else:
            os.ftruncate(self._copy(path), size_bytes)

    def write(self, path: str, offset: int, parts: Sequence[Buffer], *, sync: bool) -> None:
        os.pwrite(self._copy(path), b"".join(parts), offset)

    def rename(self, path: str, new_path: str) -> None:
        self.set_aside.append(path)
        self._remove(path)

    def unlink(self, path: str) -> None:
        if path in self._copies or (path not in self._gone and os.path.exists(path)):
            self.unlinked.append(path)
            self._remove(path)

    def remove_tree(self, path: str) -> None:
        pass

    def _remove(self, path: str) -> None:
        self._maps.pop(path, None)
        self._sizes.pop(path, None)
        descriptor = self._copies.pop(path, None)
        if descriptor is not None:
            os.close(descriptor)
        self._gone.add(path)

    def _copy(self, path: str) -> int:
        """The file in memory, with what it has had so far."""
        descriptor = self._copies.get(path)
        if descriptor is None:
            try:
                content = self.read(path, 0, self.size(path))
            except FileNotFoundError:
                content = b""
            self._maps.pop(path, None)
            self._sizes.pop(path, None)
            self._gone.discard(path)
            descriptor = self._copies[path] = os.memfd_create("overlay", os.MFD_CLOEXEC)
            os.pwrite(descriptor, content, 0)
        return descriptor

    # nothing to do here -----------------------------------------------------------------------------------------------

    def release(self, path: str) -> Callable[[], None]:
        return _Nothing().run

    def begin_copy(self, root: str, target: str, aside: str) -> Copying:
        raise NotImplementedError("nobody who only looks makes a copy")

    def detach(self, path: str) -> DetachedFile:
        raise NotImplementedError("nobody who only looks writes a register")

    def forget(self, path: str) -> None:
        self._maps.pop(path, None)

    def reading_ahead(self, directories: Mapping[str, Collection[str]]) -> AbstractContextManager[None]:
        return nullcontext()

    @property
    def syncs_begun(self) -> int:
        return 0

    def take_unsynced(self) -> _Nothing:
        return _Nothing()

    def sync_batch(self, *paths: str, directories: Iterable[str] = ()) -> _Nothing:
        return _Nothing()

    def nonce(self) -> int:
        return int.from_bytes(os.urandom(4), "little")

    def close(self) -> None:
        self.forget_changes()
