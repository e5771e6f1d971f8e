"""The directory: users, vhosts, permissions and which shard holds what, in SQLite; read from memory, written through.

```
vhosts       number   INTEGER  never given twice: it names the vhost's files
             name     TEXT     unique
             shard    INTEGER  where it lives; NULL: not placed yet
             pinned   INTEGER  1: somebody chose the shard, placement leaves it alone
users        name, password_hash (argon2id), tags (blank separated)
permissions  user, vhost, configure, write, read   regular expressions; no row: may not enter
```

`PRAGMA user_version` is the format. Every change is one transaction, on disk before the call returns, so callers on an
event loop make changes in a thread; look-ups are answered from an immutable copy and never wait.
"""

import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from msgspec import Struct

from ipc.data_directory import DataDirectory
from ipc.errors import ExitCode, StartRefused
from ipc.limits import DIRECTORY_BUSY_SECONDS, SHORT_STRING_BYTES_MAX, USER_NAME_BYTES_MAX
from ipc.messages.commands import Permissions
from ipc.settings import UserSettings
from runtime.auth.passwords import hash_password

FORMAT: Final = 1
EVERYTHING: Final = Permissions(".*", ".*", ".*")

_TABLES: Final = (
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
)


_Run = Callable[..., sqlite3.Cursor]


class VHost(Struct, frozen=True):
    """A vhost as the supervisor knows it; `number` names its directory."""

    number: int
    name: str
    shard: int | None
    pinned: bool


class User(Struct, frozen=True):
    """An account; `tags` such as "administrator" say what it may do beyond messaging."""

    name: str
    password_hash: str
    tags: tuple[str, ...]


class DirectoryRefusal(Exception):
    """A change that cannot be made: what it names exists already, does not exist, or is not well-formed."""


class _Copy(Struct, frozen=True):
    """All of the directory at one moment, indexed for look-ups."""

    vhosts: dict[str, VHost]
    users: dict[str, User]
    permissions: dict[tuple[str, str], Permissions]


class Directory:
    """Opened once by the supervisor; the command line opens its own beside it and sends a SIGHUP."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._changing = threading.Lock()
        self._copy = _read(connection)

    @classmethod
    def open(cls, paths: DataDirectory, settings: UserSettings) -> "Directory":
        """Open or create; a first start makes vhost `/` and the default user with full permissions on it.

        Raises StartRefused: FORMAT_UNKNOWN, STORE_DAMAGED or DATA_DIRECTORY_UNUSABLE; what is refused stays as it was.
        """
        with _as_start_refusals(paths):
            connection = _connect(paths)
            try:
                _prepare(connection, paths, settings)
                return cls(connection)
            except BaseException:
                connection.close()
                raise

    def reload(self) -> None:
        """Read everything again: another process may have written."""
        with self._changing:
            self._copy = _read(self._connection)

    def close(self) -> None:
        with self._changing:
            self._connection.close()

    # vhosts -----------------------------------------------------------------------------------------------------------

    def vhosts(self) -> list[VHost]:
        """All of them, by number."""
        return sorted(self._copy.vhosts.values(), key=lambda vhost: vhost.number)

    def find_vhost(self, name: str) -> VHost | None:
        return self._copy.vhosts.get(name)

    def add_vhost(self, name: str, shard: int | None = None) -> VHost:
        """A shard given here is a pin; without one, placement decides later."""
        if not 0 < len(name.encode()) <= SHORT_STRING_BYTES_MAX:
            raise DirectoryRefusal(f"a vhost's name has 1 to {SHORT_STRING_BYTES_MAX} bytes")
        with self._change(f"vhost '{name}' exists already") as run:
            run("INSERT INTO vhosts (name, shard, pinned) VALUES (?, ?, ?)", (name, shard, shard is not None))
        return self._copy.vhosts[name]

    def place(self, vhost_name: str, shard: int) -> None:
        """Note where placement put it; a pin stays a pin."""
        with self._change() as run:
            _must_hit(
                run("UPDATE vhosts SET shard = ? WHERE name = ?", (shard, vhost_name)), f"no vhost '{vhost_name}'"
            )

    def delete_vhost(self, name: str) -> None:
        """Its permissions go with it; its files are the caller's."""
        with self._change() as run:
            _must_hit(run("DELETE FROM vhosts WHERE name = ?", (name,)), f"no vhost '{name}'")

    # users ------------------------------------------------------------------------------------------------------------

    def users(self) -> list[User]:
        """All of them, by name."""
        return sorted(self._copy.users.values(), key=lambda user: user.name)

    def find_user(self, name: str) -> User | None:
        return self._copy.users.get(name)

    def add_user(self, name: str, password_hash: str, tags: tuple[str, ...] = ()) -> User:
        """The hash is `passwords.hash_password`'s, made by the caller because it is slow."""
        if not 0 < len(name.encode()) <= USER_NAME_BYTES_MAX:
            raise DirectoryRefusal(f"a user's name has 1 to {USER_NAME_BYTES_MAX} bytes")
        if any(not tag or tag != "".join(tag.split()) for tag in tags):
            raise DirectoryRefusal("a tag is one word")
        with self._change(f"user '{name}' exists already") as run:
            run("INSERT INTO users (name, password_hash, tags) VALUES (?, ?, ?)", (name, password_hash, " ".join(tags)))
        return self._copy.users[name]

    def set_password(self, name: str, password_hash: str) -> None:
        with self._change() as run:
            _must_hit(
                run("UPDATE users SET password_hash = ? WHERE name = ?", (password_hash, name)), f"no user '{name}'"
            )

    def delete_user(self, name: str) -> None:
        """Its permissions go with it."""
        with self._change() as run:
            _must_hit(run("DELETE FROM users WHERE name = ?", (name,)), f"no user '{name}'")

    # permissions ------------------------------------------------------------------------------------------------------

    def permissions(self) -> list[tuple[str, str, Permissions]]:
        """Every `(user, vhost, permissions)`, by user and vhost."""
        return sorted(
            ((user, vhost, granted) for (user, vhost), granted in self._copy.permissions.items()),
            key=lambda row: row[:2],
        )

    def find_permissions(self, user: str, vhost: str) -> Permissions | None:
        """None: this user may not enter this vhost."""
        return self._copy.permissions.get((user, vhost))

    def set_permissions(self, user: str, vhost: str, permissions: Permissions) -> None:
        for expression in (permissions.configure, permissions.write, permissions.read):
            _must_compile(expression)
        with self._change(f"no user '{user}' or no vhost '{vhost}'") as run:
            run(
                "INSERT OR REPLACE INTO permissions (user, vhost, configure, write, read) VALUES (?, ?, ?, ?, ?)",
                (user, vhost, permissions.configure, permissions.write, permissions.read),
            )

    def clear_permissions(self, user: str, vhost: str) -> None:
        with self._change() as run:
            _must_hit(
                run("DELETE FROM permissions WHERE user = ? AND vhost = ?", (user, vhost)),
                f"user '{user}' has no permissions in vhost '{vhost}'",
            )

    @contextmanager
    def _change(self, conflict: str = "the change contradicts the directory") -> Iterator[_Run]:
        """One transaction; a violated constraint is told to the caller as `conflict`."""
        with self._changing:
            try:
                with _transaction(self._connection):
                    yield self._connection.execute
            except sqlite3.IntegrityError as fault:
                raise DirectoryRefusal(conflict) from fault
            except sqlite3.OperationalError as fault:
                raise DirectoryRefusal(f"the directory cannot be written: {fault}") from fault
            self._copy = _read(self._connection)


def _must_hit(cursor: sqlite3.Cursor, complaint: str) -> None:
    if cursor.rowcount == 0:
        raise DirectoryRefusal(complaint)


def _must_compile(expression: str) -> None:
    try:
        re.compile(expression)
    except re.error as fault:
        raise DirectoryRefusal(f"'{expression}' is not a regular expression: {fault}") from fault


def _connect(paths: DataDirectory) -> sqlite3.Connection:
    return sqlite3.connect(
        paths.directory, timeout=DIRECTORY_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )


def _prepare(connection: sqlite3.Connection, paths: DataDirectory, settings: UserSettings) -> None:
    # Everything that could refuse comes before the first write, so that a foreign file stays as it was.
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    is_empty = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,)
    if found == 0 and not is_empty:
        raise StartRefused(ExitCode.FORMAT_UNKNOWN, f"{paths.directory} was not written by EbbMQ")
    if found not in (0, FORMAT):
        raise StartRefused(
            ExitCode.FORMAT_UNKNOWN,
            f"{paths.directory} has format {found}, but this version of EbbMQ knows format {FORMAT} only",
        )
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise StartRefused(ExitCode.STORE_DAMAGED, f"{paths.directory} is damaged: {verdict}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    # Hashing takes longer than a transaction should; two first starts at once are kept apart by the second look.
    password_hash = hash_password(settings.default_password) if is_empty else ""
    with _transaction(connection):
        if connection.execute("PRAGMA user_version").fetchone() == (0,):
            _create(connection, settings.default_user, password_hash)


def _create(connection: sqlite3.Connection, user: str, password_hash: str) -> None:
    for table in _TABLES:
        connection.execute(table)
    connection.execute("INSERT INTO vhosts (name) VALUES ('/')")
    connection.execute("INSERT INTO users VALUES (?, ?, 'administrator')", (user, password_hash))
    connection.execute(
        "INSERT INTO permissions VALUES (?, '/', ?, ?, ?)",
        (user, EVERYTHING.configure, EVERYTHING.write, EVERYTHING.read),
    )
    connection.execute(f"PRAGMA user_version = {FORMAT}")


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    # IMMEDIATE also finds out at once whether the file can be written at all.
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk already made SQLite roll back
            connection.execute("ROLLBACK")
        raise


def _read(connection: sqlite3.Connection) -> _Copy:
    connection.execute("BEGIN")  # three reads of one moment
    try:
        return _Copy(
            vhosts={
                name: VHost(number, name, shard, bool(pinned))
                for number, name, shard, pinned in connection.execute("SELECT number, name, shard, pinned FROM vhosts")
            },
            users={
                name: User(name, password_hash, tuple(tags.split()))
                for name, password_hash, tags in connection.execute("SELECT name, password_hash, tags FROM users")
            },
            permissions={
                (user, vhost): Permissions(configure, write, read)
                for user, vhost, configure, write, read in connection.execute(
                    "SELECT user, vhost, configure, write, read FROM permissions"
                )
            },
        )
    finally:
        connection.execute("COMMIT")


@contextmanager
def _as_start_refusals(paths: DataDirectory) -> Iterator[None]:
    try:
        yield
    except (
        sqlite3.OperationalError
    ) as fault:  # no such directory, read-only, full, locked: the file itself may be sound
        raise StartRefused(ExitCode.DATA_DIRECTORY_UNUSABLE, f"{paths.directory} cannot be used: {fault}") from fault
    except sqlite3.DatabaseError as fault:
        raise StartRefused(ExitCode.STORE_DAMAGED, f"{paths.directory} is damaged: {fault}") from fault
