"""SQLite files read from a copy: even to read one that was not closed, SQLite would write beside it."""

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path


@contextmanager
def copied(source: Path) -> Iterator[Path]:
    """With the log of what is not folded into it yet."""
    with tempfile.TemporaryDirectory(prefix="ebbmq-inspect-") as place:
        for path in (source, source.with_name(source.name + "-wal")):
            if path.exists():
                shutil.copyfile(path, Path(place) / path.name)
        yield Path(place) / source.name


def vhost_names(directory: Path) -> dict[int, str]:
    """By the numbers of their directories; nothing when the supervisor's file is missing or damaged."""
    with copied(directory) as copy, closing(sqlite3.connect(copy)) as database:
        try:
            return dict(database.execute("SELECT number, name FROM vhosts"))
        except sqlite3.DatabaseError:
            return {}
