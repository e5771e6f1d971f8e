"""A file system that forgets: the twin of `shards.store.files.DiskFiles` for tests of crashes and refusing disks.

Content lives in memory files, so that maps of it are real. Beside each file it remembers what a power failure could not
take (the content at its last sync) and, write by write, what it could; likewise for directory entries. `refuse` makes
one of the next calls fail, `stop` ends the "process" in the middle of one.
"""

import errno
import mmap
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from random import Random

from shards.store.blocks import Buffer
from shards.store.copying import Copied, Piece
from shards.store.files import NEW_SUFFIX
from tests.simulation.exercised import Exercised, Tally


class Stopped(BaseException):
    """The process ended here; no code of it runs any more."""


@dataclass
class SimulatedFile:
    """Content, what of it is safe, and the writes in between: an offset with bytes, or a new size."""

    synced: bytes = b""
    unsynced: list[tuple[int, bytes] | int] = field(default_factory=list)
    descriptor: int = field(default_factory=lambda: os.memfd_create("simulated"))

    def __del__(self) -> None:
        # It is missing when making the file failed.
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)

    @property
    def size(self) -> int:
        return os.fstat(self.descriptor).st_size

    def content(self) -> bytes:
        return os.pread(self.descriptor, self.size, 0)

    def sync(self) -> None:
        self.synced = self.content()
        self.unsynced.clear()

    def after_power_failure(self, random: Random, tally: Tally) -> "SimulatedFile":
        """Each unsynced change got through, or did not, or in part: the disk owes nobody an order."""
        content = bytearray(self.synced)
        for change in self.unsynced:
            fate = random.random()
            if fate < 0.4:
                tally[Exercised.WRITE_LOST] += 1
                continue
            if isinstance(change, int):
                del content[change:]
                content.extend(bytes(change - len(content)))
                continue
            offset, written = change
            if fate < 0.6:
                tally[Exercised.WRITE_TORN] += 1
                written = written[: random.randrange(len(written) + 1)]
            content.extend(bytes(max(0, offset + len(written) - len(content))))
            content[offset : offset + len(written)] = written
        survivor = SimulatedFile(bytes(content))
        os.pwrite(survivor.descriptor, content, 0)
        return survivor


@dataclass
class Entry:
    """A change of one directory entry that is not safe yet; `file` is None when the entry went."""

    path: str
    file: SimulatedFile | None


class SimulatedSyncBatch:
    def __init__(self, files: "SimulatedFiles", contents: Sequence[SimulatedFile], directories: Iterable[str]) -> None:
        self._files = files
        self._contents = contents
        self._directories = set(directories)
        self._is_empty = not (contents or self._directories)
        self.is_taken = False

    def __bool__(self) -> bool:
        return not self._is_empty

    def run(self) -> None:
        self._files.syncs_begun += self.is_taken
        fault = self._files._take_sync_fault()
        for content in self._contents:
            # What the disk was given before it failed, or the process ended, is there or not.
            if fault is None or self._files.random.random() < 0.5:
                content.sync()
        if fault is not None:
            raise fault
        self._files._settle_entries(self._directories)


class SimulatedDetachedFile:
    """In a thread of nobody: whoever runs it decides when."""

    def __init__(self, files: "SimulatedFiles", path: str) -> None:
        self._files = files
        self._path = path

    def write(self, offset: int, parts: Sequence[Buffer]) -> None:
        self._files.write(self._path, offset, parts, sync=False)

    def replace(self, parts: Sequence[Buffer]) -> None:
        new = self._path + NEW_SUFFIX
        self._files.unlink(new)
        self._files.write(new, 0, parts, sync=False)
        self._files.sync_batch(new).run()
        self._files.rename(new, self._path)


class SimulatedCopying:
    """Refers to files by what they are and not by name, so nothing has to be kept."""

    def __init__(self, files: "SimulatedFiles", root: str, target: str) -> None:
        self._files = files
        self._root = root
        self._target = target
        self._gathered: dict[str, list[Piece]] = {}
        self._pieces: list[tuple[SimulatedFile, int, str]] = []

    def gather(self, directory: str, pieces: Iterable[Piece]) -> None:
        self._gathered[directory] = list(pieces)

    def take_changed(self) -> list[str]:
        changed, self._files.changed = self._files.changed, {}
        return list(changed)

    def cut(self) -> None:
        self._pieces = [
            (self._files._found(piece.path), piece.end, self._target + piece.path.removeprefix(self._root))
            for pieces in self._gathered.values()
            for piece in pieces
        ]

    def run(self, proceed: Callable[[], None]) -> Copied:
        for file, end, path in self._pieces:
            proceed()
            content = os.pread(file.descriptor, end, 0)
            if len(content) < end:
                raise OSError(errno.EIO, "is shorter than it was", path)
            self._files.make_directory(os.path.dirname(path), sync=True)
            self._files.create(path, 0, sync=True)
            self._files.write(path, 0, [content], sync=True)
        self._files.sync_batch(*(path for _, _, path in self._pieces)).run()
        return Copied(len(self._pieces), sum(end for _, end, _ in self._pieces), 0)

    def end(self) -> None:
        self._pieces = []


class SimulatedFiles:
    """Passes the same contract suite as `DiskFiles`; everything random comes from `seed`.

    `tally`: where is counted what went wrong, also on the disk after a restart.
    """

    def __init__(self, seed: int = 0, tally: Tally | None = None) -> None:
        self.random = Random(seed)
        self.tally: Tally = Tally() if tally is None else tally
        self.calls = 0  # that change something
        self.looks = 0  # at what is there, but for maps
        self.syncs = 0
        self.syncs_begun = 0  # of what a take covered
        self.moments = 0  # at which the process may end
        self.faults_met = 0  # of all kinds
        self.bytes_written = 0
        self.refusals = 0
        self.released: list[str] = []  # whose pages were given back, in order
        self.sync_fault: OSError | None = None
        self._files: dict[str, SimulatedFile] = {}
        self._safe: dict[str, SimulatedFile] = {}
        self._entries: list[Entry] = []
        self._directories: set[str] = set()
        self._maps: dict[str, mmap.mmap] = {}
        self._unsynced: dict[str, None] = {}
        self._unsynced_directories: dict[str, None] = {}
        self._refusals: dict[int, int] = {}
        self._look_refused_at = -1
        self._look_error = 0
        self._dark_from = -1
        self._sync_refused_at = -1
        self._stop_at = -1
        self._refuse_all = 0
        self._is_full = False
        self.changed: dict[str, None] = {}  # directories, since a copy was begun
        self.maps_made = 0
        self._map_refused_at = -1

    # what tests decide ------------------------------------------------------------------------------------------------

    def refuse(self, in_calls: int, error: int = errno.ENOSPC) -> None:
        """The changing call after `in_calls` others fails once; a write gets half of its bytes through."""
        self._refusals[self.calls + in_calls] = error

    def refuse_map(self, in_maps: int) -> None:
        """The new map after `in_maps` others fails once."""
        self._map_refused_at = self.maps_made + in_maps

    def refuse_look(self, in_looks: int, error: int = errno.EIO) -> None:
        """The call after `in_looks` others that reads content, a size or a directory fails once."""
        self._look_refused_at, self._look_error = self.looks + in_looks, error

    def darken(self, in_looks: int) -> None:
        """After so many more looks, those that map something among them, nothing can be looked at any more."""
        self._dark_from = self.looks + self.maps_made + in_looks

    def refuse_sync(self, in_syncs: int) -> None:
        """The batch after `in_syncs` others fails."""
        self._sync_refused_at = self.syncs + in_syncs

    @contextmanager
    def unnoticed(self) -> Iterator[None]:
        """Whoever looks at content in here meets no fault, and leaves all maps as they were."""
        maps, made, looks = self._maps, self.maps_made, self.looks
        refused = self._map_refused_at, self._look_refused_at, self._dark_from
        self._maps = dict(maps)
        self._map_refused_at = self._look_refused_at = self._dark_from = -1
        try:
            yield
        finally:
            self._maps, self.maps_made, self.looks = maps, made, looks
            self._map_refused_at, self._look_refused_at, self._dark_from = refused

    def refuse_everything(self, error: int = errno.ENOSPC) -> None:
        self._refuse_all = error

    def fill_up(self) -> None:
        """No room for another byte until something was unlinked."""
        self._is_full = True

    def accept_everything(self) -> None:
        self._stop_at = -1
        self._refuse_all = 0
        self._is_full = False
        self._refusals.clear()
        self._map_refused_at = self._look_refused_at = self._dark_from = self._sync_refused_at = -1

    def stop(self, in_calls: int) -> None:
        """The process ends after so many more calls that change something or sync it, within the next one.

        A write gets a random part through, a sync some of its files.
        """
        self._stop_at = self.moments + in_calls

    def pass_moment(self) -> None:
        """Something else is done at which the process may end."""
        if self._is_last_moment():
            raise Stopped

    def _is_last_moment(self) -> bool:
        self.moments += 1
        is_last = self.moments - 1 == self._stop_at
        self.faults_met += is_last
        return is_last

    def restart(self) -> "SimulatedFiles":
        """After the process ended: the kernel had everything it was given, and has synced nothing by itself."""
        successor = self._successor(dict(self._files))
        successor._safe = dict(self._safe)
        successor._entries = list(self._entries)
        return successor

    def power_failure(self) -> "SimulatedFiles":
        """After the machine stopped: entries survive in order up to some moment, content as it pleases."""
        names = dict(self._safe)
        survive = self.random.randrange(len(self._entries) + 1)
        self.tally[Exercised.ENTRY_LOST] += len(self._entries) - survive
        self._apply(names, self._entries[:survive])
        survivors = {path: file.after_power_failure(self.random, self.tally) for path, file in names.items()}
        return self._successor(survivors)

    def _successor(self, names: dict[str, SimulatedFile]) -> "SimulatedFiles":
        successor = SimulatedFiles(self.random.randrange(2**32), self.tally)
        successor._files = names
        successor._safe = dict(names)
        successor._directories = set(self._directories)
        for path in names:  # a directory that was removed is back with what came back in it
            while (path := os.path.dirname(path)) not in ("", "/"):
                successor._directories.add(path)
        return successor

    def let_go(self) -> None:
        """Nobody uses it any more: its descriptors are not to wait for the garbage collector."""
        self._files, self._safe, self._entries, self._maps = {}, {}, [], {}

    def names(self) -> list[str]:
        return sorted(self._files)

    def content(self, path: str) -> bytes:
        return self._files[path].content()

    def overwrite(self, path: str, offset: int, damage: bytes) -> None:
        """What nobody wrote: a rotten sector."""
        os.pwrite(self._files[path].descriptor, damage, offset)

    # Files ------------------------------------------------------------------------------------------------------------

    def make_directory(self, path: str, *, sync: bool) -> None:
        if path not in self._directories:
            self._changing(path)
            if sync:
                # What had this name before is in another directory, which is gone with its parent's sync.
                self._unsynced_directories.update(dict.fromkeys((path, os.path.dirname(path))))
            while path not in ("", "/"):
                self._directories.add(path)
                path = os.path.dirname(path)

    def create(self, path: str, size_bytes: int, *, sync: bool) -> None:
        self._changing(path)
        if path in self._files:
            raise FileExistsError(errno.EEXIST, "exists", path)
        self._new_file(path, sync=sync)
        self._resize(self._files[path], size_bytes)

    def allocate(self, path: str, size_bytes: int) -> None:
        self._changing(path)
        self._maps.pop(path, None)
        self._resize(self._found(path), size_bytes)

    def write(self, path: str, offset: int, parts: Sequence[Buffer], *, sync: bool) -> None:
        if self._is_full:
            self.refusals += 1
            self.tally[Exercised.NO_SPACE] += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        content = b"".join(parts)
        fault = self._fault(path)
        if fault is not None:
            through = self.random.randrange(len(content) + 1) if isinstance(fault, Stopped) else len(content) // 2
            content = content[:through]
        if path not in self._files:
            if fault is not None:
                raise fault
            self._new_file(path, sync=sync)
        file = self._files[path]
        os.pwrite(file.descriptor, content, offset)
        file.unsynced.append((offset, content))
        if sync:
            self._unsynced[path] = None
        if fault is not None:
            raise fault
        self.bytes_written += len(content)

    def read(self, path: str, offset: int, size_bytes: int) -> bytes:
        self._looking(path)
        return os.pread(self._found(path).descriptor, size_bytes, offset)

    def size(self, path: str) -> int:
        self._looking(path)
        return self._found(path).size

    def map(self, path: str, size_bytes: int) -> mmap.mmap:
        mapped = self._maps.get(path)
        if mapped is None or len(mapped) < size_bytes:
            file = self._found(path)
            self._stay_in_the_light(path)
            self.maps_made += 1
            if self.maps_made - 1 == self._map_refused_at:
                self.tally[Exercised.NO_MEMORY_FOR_A_MAP] += 1
                self.faults_met += 1
                raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM), path)
            assert size_bytes <= file.size, "reading this map would be SIGBUS"
            mapped = mmap.mmap(file.descriptor, size_bytes, mmap.MAP_SHARED, mmap.PROT_READ)
            self._maps[path] = mapped
        return mapped

    def release(self, path: str) -> Callable[[], None]:
        self.released.append(path)
        return self._batch((path,), ()).run

    def forget(self, path: str) -> None:
        self._maps.pop(path, None)

    def rename(self, path: str, new_path: str) -> None:
        self._changing(path)
        file = self._found(path)
        self.forget(path)
        self.changed[os.path.dirname(new_path)] = None
        self._files[new_path] = file
        del self._files[path]
        if path in self._unsynced:
            del self._unsynced[path]
            self._unsynced[new_path] = None
        self._entries += [Entry(new_path, file), Entry(path, None)]
        self._unsynced_directories[os.path.dirname(new_path)] = None

    def unlink(self, path: str) -> None:
        if path in self._files:
            self._changing(path)
            self._is_full = False
            self.forget(path)
            self._unsynced.pop(path, None)
            del self._files[path]
            self._entries.append(Entry(path, None))

    def remove_tree(self, path: str) -> None:
        for name in [name for name in self._files if name.startswith(path + "/")]:
            self.unlink(name)
        self._unsynced_directories.pop(path, None)
        self._directories = {other for other in self._directories if other != path and not other.startswith(path + "/")}

    def list(self, path: str) -> Sequence[str]:
        self._looking(path)
        return sorted(
            os.path.basename(name) for name in {*self._files, *self._directories} if os.path.dirname(name) == path
        )

    def reading_ahead(self, directories: Mapping[str, Collection[str]]) -> AbstractContextManager[None]:
        return nullcontext()

    def take_unsynced(self) -> SimulatedSyncBatch:
        batch = self._batch(self._unsynced, self._unsynced_directories)
        batch.is_taken = True
        self._unsynced = {}
        self._unsynced_directories = {}
        return batch

    def sync_batch(self, *paths: str, directories: Iterable[str] = ()) -> SimulatedSyncBatch:
        return self._batch(paths, {*self._unsynced_directories, *map(os.path.dirname, paths), *directories})

    def detach(self, path: str) -> SimulatedDetachedFile:
        self.forget(path)
        return SimulatedDetachedFile(self, path)

    def _batch(self, paths: Iterable[str], directories: Iterable[str]) -> SimulatedSyncBatch:
        files = [self._files[path] for path in paths if path in self._files]
        return SimulatedSyncBatch(self, files, directories)

    def begin_copy(self, root: str, target: str, aside: str) -> SimulatedCopying:
        self.changed = {}
        return SimulatedCopying(self, root, target)

    def nonce(self) -> int:
        return self.random.randrange(2**32)

    def close(self) -> None:
        self._maps.clear()

    # inside -----------------------------------------------------------------------------------------------------------

    def _take_sync_fault(self) -> BaseException | None:
        self.syncs += 1
        if self._is_last_moment():
            self.tally[Exercised.STOP_IN_SYNC] += 1
            return Stopped()
        fault = self.sync_fault
        if self.syncs - 1 == self._sync_refused_at:
            fault = OSError(errno.EIO, "failed sync")
        self.tally[Exercised.SYNC_FAILURE] += fault is not None
        self.faults_met += fault is not None
        return fault

    def _looking(self, path: str) -> None:
        self._stay_in_the_light(path)
        self.looks += 1
        if self.looks - 1 == self._look_refused_at:
            self.tally[Exercised.LOOK_FAILED] += 1
            self.refusals += 1
            self.faults_met += 1
            raise OSError(self._look_error, os.strerror(self._look_error), path)

    def _stay_in_the_light(self, path: str) -> None:
        if 0 <= self._dark_from <= self.looks + self.maps_made:
            self.tally[Exercised.LOOK_FAILED] += 1
            self.faults_met += 1
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    def _found(self, path: str) -> SimulatedFile:
        if path not in self._files:
            raise FileNotFoundError(errno.ENOENT, "missing", path)
        return self._files[path]

    def _new_file(self, path: str, *, sync: bool) -> None:
        if os.path.dirname(path) not in self._directories:
            raise FileNotFoundError(errno.ENOENT, "no directory", path)
        self._files[path] = SimulatedFile()
        self._entries.append(Entry(path, self._files[path]))
        if sync:
            self._unsynced_directories[os.path.dirname(path)] = None

    def _resize(self, file: SimulatedFile, size_bytes: int) -> None:
        os.ftruncate(file.descriptor, size_bytes)
        file.unsynced.append(size_bytes)

    def _settle_entries(self, directories: set[str]) -> None:
        settled = [entry for entry in self._entries if self._leads_to(entry.path, directories)]
        self._entries = [entry for entry in self._entries if not self._leads_to(entry.path, directories)]
        self._apply(self._safe, settled)

    def _leads_to(self, path: str, directories: set[str]) -> bool:
        """Whether syncing these directories makes the entry at `path` safe; with one goes what was in it."""
        directory = os.path.dirname(path)
        while directory not in self._directories and directory not in ("", "/"):
            directory = os.path.dirname(directory)
        return directory in directories or os.path.dirname(path) in directories

    def _apply(self, names: dict[str, SimulatedFile], entries: Iterable[Entry]) -> None:
        for entry in entries:
            if entry.file is None:
                names.pop(entry.path, None)
            else:
                names[entry.path] = entry.file

    def _changing(self, path: str) -> None:
        fault = self._fault(path)
        if fault is not None:
            raise fault

    def _fault(self, path: str) -> BaseException | None:
        call = self.calls
        self.calls += 1
        self.changed[os.path.dirname(path)] = None
        if self._is_last_moment():
            return Stopped()
        error = self._refuse_all or self._refusals.pop(call, 0)
        if not error:
            return None
        self.refusals += 1
        self.faults_met += 1
        self.tally[Exercised.NO_SPACE if error == errno.ENOSPC else Exercised.IO_ERROR] += 1
        return OSError(error, os.strerror(error), path)
