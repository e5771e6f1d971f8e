"""What a vhost is made of besides messages: durable exchanges, queues and bindings, in one SQLite file.

```
application_id  0x4562624D ("EbbM")      user_version  2: the format
exchanges  name | type | auto_delete | internal | arguments | number (of its directory; since format 2)
queues     name | number (of its directory) | auto_delete | arguments | paused (since format 2)
bindings   source | destination_kind | destination | routing_key | arguments   (all of them the key)
```
`arguments` as `shards/store/arguments.py` writes them. WAL and `synchronous = FULL`: what `commit` returned from
survives the machine, and a process killed in the middle of it leaves the state before. A file of an older format is
brought up to date by the transaction that finds it.
"""

import errno
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import msgspec
from msgspec import Struct

from ipc.errors import ExitCode, StartRefused
from ipc.limits import DEFINITIONS_CACHE_KIB
from ipc.messages.commands import Level
from shards.compaction.compactable import Compactable, Offload, ShrinkPolicy, Step
from shards.store.arguments import Arguments, decode_arguments, encode_arguments

APPLICATION_ID: Final = int.from_bytes(b"EbbM", "big")
FORMAT_VERSION: Final = 2

DestinationKind: TypeAlias = Literal["queue", "exchange"]


class ExchangeDefinition(Struct, frozen=True):
    """A durable exchange; the predeclared ones are not stored.

    `number` names the directory of messages that wait there, and is never two exchanges' at a time.
    """

    name: str
    type: str
    auto_delete: bool = False
    internal: bool = False
    arguments: Arguments = {}
    number: int = 0


class QueueDefinition(Struct, frozen=True):
    """A durable queue that is not exclusive; `number` names its directory and is never two queues' at a time."""

    number: int
    name: str
    auto_delete: bool = False
    arguments: Arguments = {}
    paused: bool = False


class BindingDefinition(Struct, frozen=True):
    """A binding between durable things."""

    source: str
    destination: str
    destination_kind: DestinationKind
    routing_key: str
    arguments: Arguments = {}


class PutExchange(Struct, frozen=True):
    """Add or replace."""

    exchange: ExchangeDefinition


class DropExchange(Struct, frozen=True):
    """Bindings from and to it go too."""

    name: str


class PutQueue(Struct, frozen=True):
    """Add or replace."""

    queue: QueueDefinition


class DropQueue(Struct, frozen=True):
    """Bindings to it go too."""

    name: str


class PutBinding(Struct, frozen=True):
    """Add; nothing happens when it is there."""

    binding: BindingDefinition


class DropBinding(Struct, frozen=True):
    """Take away the binding that is equal in every field; nothing happens when it is not there."""

    binding: BindingDefinition


Change: TypeAlias = PutExchange | DropExchange | PutQueue | DropQueue | PutBinding | DropBinding


class Stored(NamedTuple):
    """Everything in one file, each in the order of its creation."""

    exchanges: list[ExchangeDefinition]
    queues: list[QueueDefinition]
    bindings: list[BindingDefinition]


Statement: TypeAlias = tuple[str, tuple[Any, ...]]

_SCHEMA: Final[dict[int, str]] = {
    1: """
CREATE TABLE exchanges (
    name TEXT PRIMARY KEY, type TEXT NOT NULL, auto_delete INTEGER NOT NULL, internal INTEGER NOT NULL,
    arguments BLOB NOT NULL);
CREATE TABLE queues (
    name TEXT PRIMARY KEY, number INTEGER NOT NULL UNIQUE, auto_delete INTEGER NOT NULL, arguments BLOB NOT NULL);
CREATE TABLE bindings (
    source TEXT NOT NULL, destination_kind TEXT NOT NULL, destination TEXT NOT NULL, routing_key TEXT NOT NULL,
    arguments BLOB NOT NULL,
    PRIMARY KEY (source, destination_kind, destination, routing_key, arguments));
CREATE INDEX bindings_by_destination ON bindings (destination_kind, destination);
""",
    2: """
ALTER TABLE exchanges ADD COLUMN number INTEGER NOT NULL DEFAULT 0;
UPDATE exchanges SET number = rowid;
ALTER TABLE queues ADD COLUMN paused INTEGER NOT NULL DEFAULT 0;
""",
}
"""What each format changed."""


def _put_exchange(change: PutExchange) -> Iterator[Statement]:
    exchange = change.exchange
    yield (
        """INSERT INTO exchanges VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET
        type = excluded.type, auto_delete = excluded.auto_delete, internal = excluded.internal,
        arguments = excluded.arguments, number = excluded.number""",
        (
            exchange.name,
            exchange.type,
            exchange.auto_delete,
            exchange.internal,
            encode_arguments(exchange.arguments),
            exchange.number,
        ),
    )


def _drop_exchange(change: DropExchange) -> Iterator[Statement]:
    yield "DELETE FROM exchanges WHERE name = ?", (change.name,)
    yield "DELETE FROM bindings WHERE source = ?", (change.name,)
    yield "DELETE FROM bindings WHERE destination_kind = 'exchange' AND destination = ?", (change.name,)


def _put_queue(change: PutQueue) -> Iterator[Statement]:
    queue = change.queue
    yield (
        """INSERT INTO queues VALUES (?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET
        number = excluded.number, auto_delete = excluded.auto_delete, arguments = excluded.arguments,
        paused = excluded.paused""",
        (queue.name, queue.number, queue.auto_delete, encode_arguments(queue.arguments), queue.paused),
    )


def _drop_queue(change: DropQueue) -> Iterator[Statement]:
    yield "DELETE FROM queues WHERE name = ?", (change.name,)
    yield "DELETE FROM bindings WHERE destination_kind = 'queue' AND destination = ?", (change.name,)


def _put_binding(change: PutBinding) -> Iterator[Statement]:
    yield "INSERT INTO bindings VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", _binding_row(change.binding)


def _drop_binding(change: DropBinding) -> Iterator[Statement]:
    yield (
        """DELETE FROM bindings WHERE
        source = ? AND destination_kind = ? AND destination = ? AND routing_key = ? AND arguments = ?""",
        _binding_row(change.binding),
    )


def _binding_row(binding: BindingDefinition) -> tuple[Any, ...]:
    return (
        binding.source,
        binding.destination_kind,
        binding.destination,
        binding.routing_key,
        encode_arguments(binding.arguments),
    )


_STATEMENTS: Final[dict[type, Callable[[Any], Iterator[Statement]]]] = {
    PutExchange: _put_exchange,
    DropExchange: _drop_exchange,
    PutQueue: _put_queue,
    DropQueue: _drop_queue,
    PutBinding: _put_binding,
    DropBinding: _drop_binding,
}

_ERROR_NUMBERS: Final = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_IOERR: errno.EIO,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_CANTOPEN: errno.EACCES,
    sqlite3.SQLITE_BUSY: errno.EBUSY,
    sqlite3.SQLITE_NOMEM: errno.ENOMEM,
}


class Definitions(Compactable):
    """One vhost's definitions file. Calls may come from any thread; they wait for each other."""

    def __init__(self, path: str | Path) -> None:
        """Open the file, or create it; its directory must exist.

        Raises StartRefused: FORMAT_UNKNOWN for a newer format or somebody else's database, STORE_DAMAGED for a file
        that is not a sound database, DATA_DIRECTORY_UNUSABLE when it cannot be opened or written. Nothing in a refused
        file is changed.
        """
        self._path = Path(path)
        self._turn = threading.Lock()
        with self._refusing():
            self._database = sqlite3.connect(
                self._path, timeout=1.0, isolation_level=None, check_same_thread=False, cached_statements=32
            )
        try:
            with self._refusing():
                self._open()
        except BaseException:
            self._database.close()
            raise

    def load(self) -> Stored:
        """Everything stored; raises StartRefused (STORE_DAMAGED) for what cannot be read back."""
        with self._turn, self._refusing():
            return Stored(
                [
                    ExchangeDefinition(
                        name, type_, bool(auto_delete), bool(internal), decode_arguments(arguments), number
                    )
                    for name, type_, auto_delete, internal, arguments, number in self._rows("exchanges")
                ],
                [
                    QueueDefinition(number, name, bool(auto_delete), decode_arguments(arguments), bool(paused))
                    for name, number, auto_delete, arguments, paused in self._rows("queues")
                ],
                [
                    BindingDefinition(source, destination, kind, routing_key, decode_arguments(arguments))
                    for source, kind, destination, routing_key, arguments in self._rows("bindings")
                ],
            )

    def commit(self, changes: Iterable[Change]) -> None:
        """Make all changes, in order, or none; they are on disk when this returns. It blocks: call it in a thread.

        Raises OSError when the file system refuses; the same changes may then be committed again later.
        """
        with self._turn, as_os_errors(self._path):
            try:
                self._database.execute("BEGIN IMMEDIATE")  # may begin, and fail all the same
                for change in changes:
                    for statement, values in _STATEMENTS[type(change)](change):
                        self._database.execute(statement, values)
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:  # SQLite itself rolls back when the disk is full
                    self._database.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """The write-ahead log is folded into the file."""
        with self._turn:
            self._database.close()

    def shrink(self, level: Level, policy: ShrinkPolicy) -> Iterator[Step]:
        yield from super().shrink(level, policy)
        if level >= Level.RELEASE:
            yield Offload(self._drop_page_cache)

    def _drop_page_cache(self) -> None:
        with self._turn:
            try:
                self._database.execute("PRAGMA shrink_memory")
            except sqlite3.ProgrammingError:
                pass  # closed since this step was handed up

    # opening ----------------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        if not self._is_new():
            self._check()
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute(f"PRAGMA cache_size = -{DEFINITIONS_CACHE_KIB}")
        found = int(self._pragma("user_version"))
        if found < FORMAT_VERSION:
            changes = "".join(statements for added, statements in _SCHEMA.items() if added > found)
            self._database.executescript(
                f"BEGIN IMMEDIATE; {changes}"
                f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {FORMAT_VERSION}; COMMIT"
            )

    def _is_new(self) -> bool:
        """Nothing in it: just created, or left so by a creation that was cut off."""
        tables = self._database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        return bool(tables == 0 and self._pragma("application_id") == 0 and self._pragma("user_version") == 0)

    def _check(self) -> None:
        if self._pragma("application_id") != APPLICATION_ID:
            raise StartRefused(
                ExitCode.FORMAT_UNKNOWN, f"{self._path} is a database, but not one with EbbMQ's definitions."
            )
        version = self._pragma("user_version")
        if not 1 <= version <= FORMAT_VERSION:
            raise StartRefused(
                ExitCode.FORMAT_UNKNOWN,
                f"{self._path} has definitions of format {version}, and this EbbMQ knows formats up to "
                f"{FORMAT_VERSION} only.",
            )
        verdict = self._pragma("quick_check")
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)

    def _pragma(self, name: str) -> Any:
        return self._database.execute(f"PRAGMA {name}").fetchone()[0]

    def _rows(self, table: str) -> Iterator[tuple[Any, ...]]:
        return self._database.execute(f"SELECT * FROM {table} ORDER BY rowid")  # noqa: S608 - one of three names above

    # errors -----------------------------------------------------------------------------------------------------------

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.DatabaseError, msgspec.DecodeError, ValueError, ArithmeticError) as fault:
            if _error_number(fault) is not None:
                raise StartRefused(
                    ExitCode.DATA_DIRECTORY_UNUSABLE, f"The definitions in {self._path} cannot be opened: {fault}."
                ) from fault
            raise StartRefused(
                ExitCode.STORE_DAMAGED, f"The definitions in {self._path} are damaged: {fault}."
            ) from fault


@contextmanager
def as_os_errors(path: Path) -> Iterator[None]:
    """What SQLite complains about as the operating system would have called it, where that is at fault."""
    try:
        yield
    except sqlite3.OperationalError as fault:
        number = _error_number(fault)
        if number is None:
            raise
        raise OSError(number, os.strerror(number), str(path)) from fault


def _error_number(fault: Exception) -> int | None:
    """What the operating system would have called it, when the file system rather than the file is at fault."""
    code = getattr(fault, "sqlite_errorcode", 0) & 0xFF  # the higher bits say in which operation
    return _ERROR_NUMBERS.get(code)
