"""A vhost at one moment, on its way into a backup: what the next start would find if the process ended just then.

So a backup needs no rules of its own. What is promised after a sudden end of the process is in it, and recovery, which
has been tried at every moment, makes a vhost of it.
"""

from collections.abc import Callable, Sequence

from ipc.data_directory import VHostDirectory
from shards.model.vhost import VHost
from shards.store.copying import Copied
from shards.store.definitions import Change
from shards.store.definitions_snapshot import Snapshot
from shards.store.files import Files


class Cut:
    """Made and ended in the thread of the event loop, between two turns; copied in any other."""

    def __init__(
        self, vhost: VHost, paths: VHostDirectory, target: VHostDirectory, files: Files, pending: Sequence[Change]
    ) -> None:
        """`pending`: changes of definitions that are being committed, or wait for it. Raises OSError."""
        self._vhost = vhost
        self._target = target
        self._snapshot = Snapshot(paths.definitions, pending)
        try:
            pieces = tuple(vhost.pieces())
        except BaseException:
            self._snapshot.close()
            raise
        vhost.keep_files()
        self._copying = files.begin_copy(pieces, str(paths.root), str(target.root), str(paths.aside))

    def copy(self, proceed: Callable[[], None]) -> Copied:
        """Returns once all of it is on disk below the target. `proceed` may raise to stop it. Raises OSError."""
        copied = self._copying.run(proceed)
        self._snapshot.copy_to(self._target.definitions)
        return copied._replace(files=copied.files + 1, bytes=copied.bytes + self._target.definitions.stat().st_size)

    def end(self) -> None:
        """Whatever came of it: the vhost may do with its files as it likes again."""
        self._snapshot.close()
        self._copying.end()
        self._vhost.free_files()
