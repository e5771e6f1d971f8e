"""The directory's file: made by a first start, brought up to date from older formats, refused when it is not ours.

```
vhosts             number   INTEGER  never given twice: it names the vhost's files
                   name     TEXT     unique
                   shard    INTEGER  where it lives; NULL: not placed yet
                   pinned   INTEGER  1: somebody chose the shard, placement leaves it alone
                   description, tags (JSON array), default_queue_type (empty: none)                      since format 3
users              name, password_hash (hashes.py says how), tags (blank separated)
permissions        user, vhost, configure, write, read   regular expressions; no row: may not enter
topic_permissions  user, vhost, exchange, write, read    the same for routing keys; no row: all of them   since format 2
policies           vhost, is_operator, name, pattern, apply_to, priority, definition (JSON)               since format 2
limits             vhost, name (max-connections, max-queues), value; no row: no limit                     since format 2
user_limits        user, name (max-connections, max-channels), value; no row: no limit                    since format 3
parameters         vhost, component, name, value (JSON)                                                   since format 3
global_parameters  name, value (JSON)                                                                     since format 3
```

`PRAGMA user_version` is the format; an older one is brought up to date by the transaction that finds it.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from ipc.data_directory import DataDirectory
from ipc.errors import ExitCode, StartRefused
from ipc.limits import DIRECTORY_BUSY_SECONDS
from ipc.messages.commands import Permissions
from ipc.settings import UserSettings
from runtime.auth.passwords import hash_password

FORMAT: Final = 3
EVERYTHING: Final = Permissions(".*", ".*", ".*")

_TABLES: Final[dict[int, tuple[str, ...]]] = {
    1: (
        """CREATE TABLE vhosts (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            name TEXT NOT NULL UNIQUE,
            shard INTEGER,
            pinned INTEGER NOT NULL DEFAULT 0
        )""",
        """CREATE TABLE users (
            name TEXT PRIMARY KEY,
            password_hash TEXT NOT NULL,
            tags TEXT NOT NULL
        ) WITHOUT ROWID""",
        """CREATE TABLE permissions (
            user TEXT NOT NULL REFERENCES users (name) ON DELETE CASCADE,
            vhost TEXT NOT NULL REFERENCES vhosts (name) ON DELETE CASCADE,
            configure TEXT NOT NULL,
            write TEXT NOT NULL,
            read TEXT NOT NULL,
            PRIMARY KEY (user, vhost)
        ) WITHOUT ROWID""",
    ),
    2: (
        """CREATE TABLE topic_permissions (
            user TEXT NOT NULL REFERENCES users (name) ON DELETE CASCADE,
            vhost TEXT NOT NULL REFERENCES vhosts (name) ON DELETE CASCADE,
            exchange TEXT NOT NULL,
            write TEXT NOT NULL,
            read TEXT NOT NULL,
            PRIMARY KEY (user, vhost, exchange)
        ) WITHOUT ROWID""",
        """CREATE TABLE policies (
            vhost TEXT NOT NULL REFERENCES vhosts (name) ON DELETE CASCADE,
            is_operator INTEGER NOT NULL,
            name TEXT NOT NULL,
            pattern TEXT NOT NULL,
            apply_to TEXT NOT NULL,
            priority INTEGER NOT NULL,
            definition TEXT NOT NULL,
            PRIMARY KEY (vhost, is_operator, name)
        ) WITHOUT ROWID""",
        """CREATE TABLE limits (
            vhost TEXT NOT NULL REFERENCES vhosts (name) ON DELETE CASCADE,
            name TEXT NOT NULL,
            value INTEGER NOT NULL,
            PRIMARY KEY (vhost, name)
        ) WITHOUT ROWID""",
    ),
    3: (
        "ALTER TABLE vhosts ADD COLUMN description TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE vhosts ADD COLUMN tags TEXT NOT NULL DEFAULT '[]'",
        "ALTER TABLE vhosts ADD COLUMN default_queue_type TEXT NOT NULL DEFAULT ''",
        """CREATE TABLE user_limits (
            user TEXT NOT NULL REFERENCES users (name) ON DELETE CASCADE,
            name TEXT NOT NULL,
            value INTEGER NOT NULL,
            PRIMARY KEY (user, name)
        ) WITHOUT ROWID""",
        """CREATE TABLE parameters (
            vhost TEXT NOT NULL REFERENCES vhosts (name) ON DELETE CASCADE,
            component TEXT NOT NULL,
            name TEXT NOT NULL,
            value TEXT NOT NULL,
            PRIMARY KEY (vhost, component, name)
        ) WITHOUT ROWID""",
        """CREATE TABLE global_parameters (
            name TEXT PRIMARY KEY,
            value TEXT NOT NULL
        ) WITHOUT ROWID""",
    ),
}
"""What each format added, as statements."""


def open_file(paths: DataDirectory, settings: UserSettings) -> sqlite3.Connection:
    """Open or create; a first start makes vhost `/` and the default user with full permissions on it.

    Raises sqlite3.Error, and StartRefused (FORMAT_UNKNOWN, STORE_DAMAGED); what is refused stays as it was.
    """
    connection = sqlite3.connect(
        paths.directory, timeout=DIRECTORY_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        _prepare(connection, paths, settings)
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    try:
        # IMMEDIATE also finds out at once whether the file can be written at all. It may begin, and fail all the same.
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk already made SQLite roll back
            connection.execute("ROLLBACK")
        raise


@contextmanager
def part_of_transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """What fails in here is undone without the rest of the transaction it stands in."""
    connection.execute("SAVEPOINT part")
    try:
        yield
    except BaseException:
        if connection.in_transaction:  # as above
            connection.execute("ROLLBACK TO part")
            connection.execute("RELEASE part")
        raise
    connection.execute("RELEASE part")


def _prepare(connection: sqlite3.Connection, paths: DataDirectory, settings: UserSettings) -> None:
    # Everything that could refuse comes before the first write, so that a foreign file stays as it was.
    found = _format(connection)
    is_empty = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,)
    if found == 0 and not is_empty:
        raise StartRefused(ExitCode.FORMAT_UNKNOWN, f"{paths.directory} was not written by EbbMQ")
    if not 0 <= found <= FORMAT:
        raise StartRefused(
            ExitCode.FORMAT_UNKNOWN,
            f"{paths.directory} has format {found}, but this version of EbbMQ knows formats up to {FORMAT} only",
        )
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise StartRefused(ExitCode.STORE_DAMAGED, f"{paths.directory} is damaged: {verdict}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    if found < FORMAT:
        # Hashing takes longer than a transaction should; two first starts at once are kept apart by the second look.
        password_hash = hash_password(settings.default_password, settings) if is_empty else ""
        with transaction(connection):
            _bring_up_to_date(connection, settings.default_user, password_hash)


def _format(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _bring_up_to_date(connection: sqlite3.Connection, user: str, password_hash: str) -> None:
    found = _format(connection)
    for added, statements in _TABLES.items():
        if added > found:
            for statement in statements:
                connection.execute(statement)
    if found == 0:
        connection.execute("INSERT INTO vhosts (name) VALUES ('/')")
        connection.execute("INSERT INTO users VALUES (?, ?, 'administrator')", (user, password_hash))
        connection.execute(
            "INSERT INTO permissions VALUES (?, '/', ?, ?, ?)",
            (user, EVERYTHING.configure, EVERYTHING.write, EVERYTHING.read),
        )
    connection.execute(f"PRAGMA user_version = {FORMAT}")


@contextmanager
def as_start_refusals(paths: DataDirectory) -> Iterator[None]:
    """What SQLite complains about, with an exit code: DATA_DIRECTORY_UNUSABLE or STORE_DAMAGED."""
    try:
        yield
    except (
        sqlite3.OperationalError
    ) as fault:  # no such directory, read-only, full, locked: the file itself may be sound
        raise StartRefused(ExitCode.DATA_DIRECTORY_UNUSABLE, f"{paths.directory} cannot be used: {fault}") from fault
    except sqlite3.DatabaseError as fault:
        raise StartRefused(ExitCode.STORE_DAMAGED, f"{paths.directory} is damaged: {fault}") from fault
