"""A vhost's definitions as they are at one moment, to be copied while others go on changing them."""

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from shards.store.definitions import Change, Definitions, as_os_errors

_PATIENCE_SECONDS: Final = 0.1  # only who opens or closes a write-ahead log excludes readers


class Snapshot:
    """The file as it was when this was made, which takes a fraction of a millisecond; then any thread may copy it."""

    def __init__(self, path: Path, pending: Sequence[Change]) -> None:
        """`pending`: changes, in order, that belong to this moment and may not be in the file yet, or in part.

        To make one again that is there already changes nothing. Raises OSError.
        """
        self._pending = pending
        with as_os_errors(path):
            self._database = sqlite3.connect(
                f"{path.as_uri()}?mode=ro", uri=True, timeout=_PATIENCE_SECONDS, isolation_level=None,
                check_same_thread=False,
            )  # fmt: skip
            try:
                # A read transaction begins with the first look.
                self._database.execute("BEGIN")
                self._database.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            except BaseException:
                self._database.close()
                raise

    def copy_to(self, path: Path) -> None:
        """Write a new file, which is on disk when this returns. Raises OSError."""
        with as_os_errors(path):
            with closing(sqlite3.connect(path, isolation_level=None)) as target:
                self._database.backup(target)
            if self._pending:
                copied = Definitions(path)
                try:
                    copied.commit(self._pending)
                finally:
                    copied.close()
        with path.open("rb") as file:
            os.fsync(file.fileno())

    def close(self) -> None:
        self._database.close()
