"""A vhost at one moment, on its way into a backup: what the next start would find if the process ended just then.

So a backup needs no rules of its own. What is promised after a sudden end of the process is in it, and recovery, which
has been tried at every moment, makes a vhost of it.

```
loop:    prepare, a step at a time ─► make, between two turns ─► … ─► end
thread:                                                    └─► copy ┘
```
Most queues do not change in the time it takes to look at all of them, so that the moment itself is for those that did.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from ipc.data_directory import VHostDirectory
from shards.model.queues.queue import Queue
from shards.model.vhost import VHost
from shards.model.waiting_room import WaitingRoom
from shards.store.copying import Copied
from shards.store.definitions import Change
from shards.store.definitions_snapshot import Snapshot
from shards.store.files import Files

_LOOKS_MAX: Final = 4  # at what has changed while the look before was taken
_CHANGED_MIN: Final = 64  # directories that are left to the moment itself


class Cut:
    """All but `copy` belongs to the thread of the event loop."""

    def __init__(self, vhost: VHost, target: VHostDirectory, files: Files) -> None:
        self.vhost = vhost
        self._target = target
        self._storage = vhost.storage
        paths = self._storage.paths
        self._copying = files.begin_copy(str(paths.root), str(target.root), str(paths.aside))
        self._places: dict[str, Queue | WaitingRoom] = {}  # by directory
        self._snapshot: Snapshot | None = None

    def prepare(self) -> Iterator[None]:
        """Look at everything, in bounded steps between which clients are served."""
        for directory, place in self.vhost.places():
            self._look_at(directory, place)
            yield
        for _ in range(_LOOKS_MAX):
            changed = self._changed()
            for directory, place in changed.items():
                self._look_at(directory, place)
                yield
            if len(changed) <= _CHANGED_MIN:
                break

    def make(self, pending: Sequence[Change]) -> None:
        """This is the moment. `pending`: changes of definitions that are being committed, or wait for it.

        Raises OSError.
        """
        for directory, place in self._changed().items():
            self._look_at(directory, place)
        paths, journal = self._storage.paths, self._storage.journal
        self._copying.gather(str(paths.journal), () if journal is None else journal.pieces())
        self._snapshot = Snapshot(paths.definitions, pending)
        self._copying.cut()
        if journal is not None:
            journal.keep_files()

    def copy(self, proceed: Callable[[], None]) -> Copied:
        """Returns once all of it is on disk below the target. `proceed` may raise to stop it. Raises OSError."""
        assert self._snapshot is not None
        copied = self._copying.run(proceed)
        self._snapshot.copy_to(self._target.definitions)
        return copied._replace(files=copied.files + 1, bytes=copied.bytes + self._target.definitions.stat().st_size)

    def end(self) -> None:
        """Whatever came of it: the vhost may do with its files as it likes again."""
        if self._snapshot is not None:
            self._snapshot.close()
        self._copying.end()
        if self._storage.journal is not None:
            self._storage.journal.free_files()

    def _look_at(self, directory: str, place: Queue | WaitingRoom) -> None:
        self._places[directory] = place
        self._copying.gather(directory, place.pieces())

    def _changed(self) -> dict[str, Queue | WaitingRoom]:
        """Where something has changed since this was asked last, or is new; what has gone is still named."""
        changed = self._copying.take_changed()
        known = {directory: self._places[directory] for directory in changed if directory in self._places}
        return known | self.vhost.find_places(directory for directory in changed if directory not in known)
