"""The directory: users, vhosts, what users may do and what is laid down for vhosts; read from memory, written through.

Policies and limits live here and not among a vhost's definitions, because whoever sets them talks to the supervisor or,
while no broker runs, to this file alone: so there is one truth, changed in one transaction like users and permissions,
and gone with its vhost. Shards have copies: all of a vhost's come with the order to open it, before anything in it is
recovered, and again whenever one of them changed, so a copy can be late but never half or wrong. What was told to a
shard needs no commit of its own; it is on disk before.

Every change is one transaction, on disk before the call returns, so callers on an event loop make changes in a thread;
look-ups are answered from an immutable copy and never wait. `directory_file.py` has the tables.
"""

import os
import re
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from ipc.data_directory import DataDirectory
from ipc.limits import (
    PARAMETERS_BYTES_MAX,
    PERMISSIONS_BYTES_MAX,
    RULES_BYTES_MAX,
    SHORT_STRING_BYTES_MAX,
    USER_NAME_BYTES_MAX,
    VHOST_DESCRIPTION_BYTES_MAX,
)
from ipc.messages.commands import Permissions, TopicPermissions
from ipc.messages.rules import NO_RULES, Policy, Rules
from ipc.settings import UserSettings
from runtime.auth.directory_copy import LIMITS, QUEUE_TYPES, User, VHost, read
from runtime.auth.directory_file import (
    EVERYTHING,
    FORMAT,
    as_start_refusals,
    open_file,
    part_of_transaction,
    transaction,
)
from runtime.decisions.parameters import ParameterRefusal, check_global_parameter, check_parameter
from runtime.decisions.policies import PolicyRefusal, check_policy
from runtime.owner import Owner

__all__ = [
    "EVERYTHING",
    "FORMAT",
    "LIMITS",
    "USER_LIMITS",
    "Directory",
    "DirectoryRefusal",
    "User",
    "VHost",
]

USER_LIMITS: Final = ("max-connections", "max-channels")
"""What can be limited for a user, by RabbitMQ's names."""

_LIMIT_MAX: Final = 2**31 - 1

# No less than what encoding makes of a row.
_RULES_BYTES: Final = """SELECT coalesce(sum(32 + length(CAST(name || pattern || apply_to || definition AS BLOB))), 0)
    FROM policies WHERE vhost = ?"""
_PERMISSIONS_BYTES: Final = """SELECT coalesce(sum(32 + length(CAST(texts AS BLOB))), 0) FROM (
    SELECT user, vhost, configure || write || read AS texts FROM permissions
    UNION ALL SELECT user, vhost, exchange || write || read FROM topic_permissions) WHERE user = ? AND vhost = ?"""
_PARAMETERS_BYTES: Final = """SELECT coalesce(sum(length(CAST(component || name || value AS BLOB))), 0)
    FROM parameters WHERE vhost = ?"""
_GLOBAL_PARAMETERS_BYTES: Final = "SELECT coalesce(sum(length(CAST(name || value AS BLOB))), 0) FROM global_parameters"

_Run = Callable[..., sqlite3.Cursor]


class DirectoryRefusal(Exception):
    """A change that cannot be made: what it names exists already, does not exist, or is not well-formed."""


class Directory(Owner):
    """Opened once by the supervisor; the command line opens its own beside it and sends a SIGHUP."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._changing = threading.RLock()
        self._is_together = False
        self._copy = read(connection)

    @classmethod
    def open(cls, paths: DataDirectory, settings: UserSettings) -> "Directory":
        """Open or create; a first start makes vhost `/` and the default user with full permissions on it.

        Raises StartRefused: FORMAT_UNKNOWN, STORE_DAMAGED or DATA_DIRECTORY_UNUSABLE; what is refused stays as it was.
        """
        with as_start_refusals(paths):
            connection = open_file(paths, settings)
            try:
                return cls(connection)
            except BaseException:
                connection.close()
                raise

    def owned(self) -> Iterable[Owner]:
        """None: the copy is read anew with every change, and so never larger than what it holds."""
        return ()

    def release(self) -> None:
        """SQLite's cache of pages; not while somebody changes something, who would have to wait."""
        if self._changing.acquire(blocking=False):
            try:
                self._connection.execute("PRAGMA shrink_memory")
            except sqlite3.Error:
                pass  # closed by now
            finally:
                self._changing.release()

    def reload(self) -> None:
        """Read everything again: another process may have written. Raises sqlite3.Error."""
        with self._changing:
            self._copy = read(self._connection)

    def copy_to(self, path: Path) -> list[VHost]:
        """Write a copy, on disk when this returns; its vhosts, by number. Raises sqlite3.Error and OSError."""
        with self._changing, closing(sqlite3.connect(path, isolation_level=None)) as copy:
            self._connection.backup(copy)
            vhosts = read(copy).vhosts.values()
        with path.open("rb") as file:
            os.fsync(file.fileno())
        return sorted(vhosts, key=lambda vhost: vhost.number)

    def close(self) -> None:
        with self._changing:
            self._connection.close()

    @contextmanager
    def together(self, *, for_good: bool = True) -> Iterator[None]:
        """Changes made in here are one: all are on disk when it ends, or none after an exception, or unless `for_good`.

        One that is refused alone may be passed over. Look-ups do not see them before the end. Stay in one thread.
        """
        with self._changing:
            if self._is_together:  # part of what is made together already
                with part_of_transaction(self._connection):
                    yield
                return
            try:
                with transaction(self._connection):
                    self._is_together = True
                    try:
                        yield
                    finally:
                        self._is_together = False
                    if not for_good:
                        raise _NotForGood
            except _NotForGood:
                return
            except sqlite3.OperationalError as fault:
                raise DirectoryRefusal(f"the directory cannot be written: {fault}") from fault
            self._copy = read(self._connection)

    # vhosts -----------------------------------------------------------------------------------------------------------

    def vhosts(self) -> list[VHost]:
        """All of them, by number."""
        return sorted(self._copy.vhosts.values(), key=lambda vhost: vhost.number)

    def find_vhost(self, name: str) -> VHost | None:
        return self._copy.vhosts.get(name)

    def add_vhost(self, name: str, shard: int | None = None) -> VHost:
        """A shard given here is a pin; without one, placement decides later."""
        _must_name_a_vhost(name)
        with self._change(f"vhost '{name}' exists already") as run:
            run("INSERT INTO vhosts (name, shard, pinned) VALUES (?, ?, ?)", (name, shard, shard is not None))
        return self._copy.vhosts[name]

    def put_vhost(
        self, name: str, *, description: str = "", tags: tuple[str, ...] = (), default_queue_type: str = ""
    ) -> None:
        """Add, or say something else about one that is there."""
        _must_name_a_vhost(name)
        encoded_tags = msgspec.json.encode(tags).decode()
        if max(len(description.encode()), len(encoded_tags.encode())) > VHOST_DESCRIPTION_BYTES_MAX:
            raise DirectoryRefusal(f"description and tags of a vhost take at most {VHOST_DESCRIPTION_BYTES_MAX} bytes")
        if default_queue_type and default_queue_type not in QUEUE_TYPES:
            raise DirectoryRefusal(f"no queue type '{default_queue_type}'; there are {', '.join(QUEUE_TYPES)}")
        with self._change() as run:
            run(
                """INSERT INTO vhosts (name, description, tags, default_queue_type) VALUES (?1, ?2, ?3, ?4)
                ON CONFLICT (name) DO UPDATE SET description = ?2, tags = ?3, default_queue_type = ?4""",
                (name, description, encoded_tags, default_queue_type),
            )

    def place(self, vhost_name: str, shard: int) -> None:
        """Note where placement put it; a pin stays a pin."""
        with self._change() as run:
            _must_hit(
                run("UPDATE vhosts SET shard = ? WHERE name = ?", (shard, vhost_name)), f"no vhost '{vhost_name}'"
            )

    def pin(self, vhost_name: str, shard: int) -> None:
        """Have this shard own it from now on, whatever placement would decide."""
        with self._change() as run:
            _must_hit(
                run("UPDATE vhosts SET shard = ?, pinned = 1 WHERE name = ?", (shard, vhost_name)),
                f"no vhost '{vhost_name}'",
            )

    def delete_vhost(self, name: str) -> None:
        """Its permissions, policies and limits go with it; its files are the caller's."""
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
        _must_name_a_user(name)
        _must_be_words(tags)
        with self._change(f"user '{name}' exists already") as run:
            run("INSERT INTO users (name, password_hash, tags) VALUES (?, ?, ?)", (name, password_hash, " ".join(tags)))
        return self._copy.users[name]

    def put_user(self, name: str, password_hash: str, tags: tuple[str, ...]) -> None:
        """Add, or change both of one that is there; its permissions and limits stay."""
        _must_name_a_user(name)
        _must_be_words(tags)
        with self._change() as run:
            run(
                """INSERT INTO users (name, password_hash, tags) VALUES (?1, ?2, ?3)
                ON CONFLICT (name) DO UPDATE SET password_hash = ?2, tags = ?3""",
                (name, password_hash, " ".join(tags)),
            )

    def set_password(self, name: str, password_hash: str) -> None:
        with self._change() as run:
            _must_hit(
                run("UPDATE users SET password_hash = ? WHERE name = ?", (password_hash, name)), f"no user '{name}'"
            )

    def set_tags(self, name: str, tags: tuple[str, ...]) -> None:
        """These and no others; who is logged in keeps the tags it came with."""
        _must_be_words(tags)
        with self._change() as run:
            _must_hit(run("UPDATE users SET tags = ? WHERE name = ?", (" ".join(tags), name)), f"no user '{name}'")

    def delete_user(self, name: str) -> None:
        """Its permissions go with it."""
        with self._change() as run:
            _must_hit(run("DELETE FROM users WHERE name = ?", (name,)), f"no user '{name}'")

    def set_user_limit(self, user: str, name: str, value: int) -> None:
        """One of USER_LIMITS; a negative value means that there is no limit."""
        if name not in USER_LIMITS:
            raise DirectoryRefusal(f"no limit '{name}'; there are {', '.join(USER_LIMITS)}")
        _must_be_a_limit(value)
        with self._change(f"no user '{user}'") as run:
            run("INSERT OR REPLACE INTO user_limits (user, name, value) VALUES (?, ?, ?)", (user, name, max(value, -1)))

    def clear_user_limit(self, user: str, name: str) -> None:
        with self._change() as run:
            _must_hit(
                run("DELETE FROM user_limits WHERE user = ? AND name = ?", (user, name)),
                f"no limit '{name}' for user '{user}'",
            )

    def clear_user_limits(self, user: str) -> None:
        """All of them; fine if there are none."""
        with self._change() as run:
            run("DELETE FROM user_limits WHERE user = ?", (user,))

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
        """Those for topics are set by themselves and stay."""
        for expression in (permissions.configure, permissions.write, permissions.read):
            _must_compile(expression)
        with self._change(f"no user '{user}' or no vhost '{vhost}'") as run:
            run(
                "INSERT OR REPLACE INTO permissions (user, vhost, configure, write, read) VALUES (?, ?, ?, ?, ?)",
                (user, vhost, permissions.configure, permissions.write, permissions.read),
            )
            _must_fit(run(_PERMISSIONS_BYTES, (user, vhost)), PERMISSIONS_BYTES_MAX, "permissions of one user")

    def clear_permissions(self, user: str, vhost: str) -> None:
        with self._change() as run:
            _must_hit(
                run("DELETE FROM permissions WHERE user = ? AND vhost = ?", (user, vhost)),
                f"user '{user}' has no permissions in vhost '{vhost}'",
            )

    # topic permissions ------------------------------------------------------------------------------------------------

    def topic_permissions(self) -> list[tuple[str, str, TopicPermissions]]:
        """Every `(user, vhost, topic permissions)`, by user, vhost and exchange."""
        return sorted(
            ((user, vhost, granted) for (user, vhost), topics in self._copy.topics.items() for granted in topics),
            key=lambda row: (*row[:2], row[2].exchange),
        )

    def set_topic_permissions(self, user: str, vhost: str, granted: TopicPermissions) -> None:
        """Narrow down what the user may publish to one topic exchange and bind there."""
        if len(granted.exchange.encode()) > SHORT_STRING_BYTES_MAX:
            raise DirectoryRefusal(f"an exchange's name has at most {SHORT_STRING_BYTES_MAX} bytes")
        for expression in (granted.write, granted.read):
            _must_compile(expression)
        with self._change(f"no user '{user}' or no vhost '{vhost}'") as run:
            run(
                "INSERT OR REPLACE INTO topic_permissions (user, vhost, exchange, write, read) VALUES (?, ?, ?, ?, ?)",
                (user, vhost, granted.exchange, granted.write, granted.read),
            )
            _must_fit(run(_PERMISSIONS_BYTES, (user, vhost)), PERMISSIONS_BYTES_MAX, "permissions of one user")

    def clear_topic_permissions(self, user: str, vhost: str, exchange: str | None = None) -> None:
        """Of one exchange, or of all of them."""
        with self._change() as run:
            _must_hit(
                run(
                    "DELETE FROM topic_permissions WHERE user = ? AND vhost = ? AND exchange = coalesce(?, exchange)",
                    (user, vhost, exchange),
                ),
                f"user '{user}' has no such topic permissions in vhost '{vhost}'",
            )

    # policies and limits ----------------------------------------------------------------------------------------------

    def rules(self, vhost: str) -> Rules:
        """Policies and limits; none for a vhost that does not exist. Policies by name."""
        return self._copy.rules.get(vhost, NO_RULES)

    def set_policy(self, vhost: str, policy: Policy, *, is_operator: bool = False) -> None:
        """Add or replace."""
        with _as_refusals():
            check_policy(policy, is_operator=is_operator)
        definition = msgspec.json.encode(policy.definition, order="deterministic").decode()
        with self._change(f"no vhost '{vhost}'") as run:
            run(
                """INSERT OR REPLACE INTO policies (vhost, is_operator, name, pattern, apply_to, priority, definition)
                VALUES (?, ?, ?, ?, ?, ?, ?)""",
                (vhost, is_operator, policy.name, policy.pattern, policy.apply_to, policy.priority, definition),
            )
            _must_fit(run(_RULES_BYTES, (vhost,)), RULES_BYTES_MAX, "policies of one vhost")

    def clear_policy(self, vhost: str, name: str, *, is_operator: bool = False) -> None:
        with self._change() as run:
            _must_hit(
                run(
                    "DELETE FROM policies WHERE vhost = ? AND is_operator = ? AND name = ?", (vhost, is_operator, name)
                ),
                f"no {'operator ' if is_operator else ''}policy '{name}' in vhost '{vhost}'",
            )

    def set_limit(self, vhost: str, name: str, value: int) -> None:
        """One of LIMITS; a negative value means that there is no limit."""
        if name not in LIMITS:
            raise DirectoryRefusal(f"no limit '{name}'; there are {', '.join(LIMITS)}")
        _must_be_a_limit(value)
        with self._change(f"no vhost '{vhost}'") as run:
            run("INSERT OR REPLACE INTO limits (vhost, name, value) VALUES (?, ?, ?)", (vhost, name, max(value, -1)))

    def limits(self, vhost: str) -> Mapping[str, int]:
        """As they were set; a negative one is none."""
        return self._copy.limits.get(vhost, {})

    def clear_limit(self, vhost: str, name: str) -> None:
        with self._change() as run:
            _must_hit(
                run("DELETE FROM limits WHERE vhost = ? AND name = ?", (vhost, name)),
                f"no limit '{name}' in vhost '{vhost}'",
            )

    def clear_limits(self, vhost: str) -> None:
        """All of them; fine if there are none."""
        with self._change() as run:
            run("DELETE FROM limits WHERE vhost = ?", (vhost,))

    # parameters -------------------------------------------------------------------------------------------------------

    def parameters(self) -> list[tuple[str, str, str, Any]]:
        """Every `(vhost, component, name, value)`, by the first three."""
        return [(*key, value) for key, value in self._copy.parameters.items()]

    def find_parameter(self, vhost: str, component: str, name: str) -> Any:
        """None where there is none."""
        return self._copy.parameters.get((vhost, component, name))

    def set_parameter(self, vhost: str, component: str, name: str, value: Any) -> None:
        """Add or replace; `value` is what JSON can say."""
        with _as_refusals():
            check_parameter(component, name, value)
        with self._change(f"no vhost '{vhost}'") as run:
            run(
                "INSERT OR REPLACE INTO parameters (vhost, component, name, value) VALUES (?, ?, ?, ?)",
                (vhost, component, name, msgspec.json.encode(value).decode()),
            )
            _must_fit(run(_PARAMETERS_BYTES, (vhost,)), PARAMETERS_BYTES_MAX, "parameters of one vhost")

    def clear_parameter(self, vhost: str, component: str, name: str) -> None:
        with self._change() as run:
            _must_hit(
                run("DELETE FROM parameters WHERE vhost = ? AND component = ? AND name = ?", (vhost, component, name)),
                f"no parameter '{name}' of {component} in vhost '{vhost}'",
            )

    def global_parameters(self) -> Mapping[str, Any]:
        """Values by name."""
        return self._copy.global_parameters

    def set_global_parameter(self, name: str, value: Any) -> None:
        """Add or replace; `value` is what JSON can say."""
        with _as_refusals():
            check_global_parameter(name, value)
        with self._change() as run:
            run(
                "INSERT OR REPLACE INTO global_parameters (name, value) VALUES (?, ?)",
                (name, msgspec.json.encode(value).decode()),
            )
            _must_fit(run(_GLOBAL_PARAMETERS_BYTES), PARAMETERS_BYTES_MAX, "global parameters")

    def clear_global_parameter(self, name: str) -> None:
        with self._change() as run:
            _must_hit(run("DELETE FROM global_parameters WHERE name = ?", (name,)), f"no global parameter '{name}'")

    @contextmanager
    def _change(self, conflict: str = "the change contradicts the directory") -> Iterator[_Run]:
        """One transaction; a violated constraint is told to the caller as `conflict`."""
        with self._changing:
            change = part_of_transaction if self._is_together else transaction
            try:
                with change(self._connection):
                    yield self._connection.execute
            except sqlite3.IntegrityError as fault:
                raise DirectoryRefusal(conflict) from fault
            except sqlite3.OperationalError as fault:
                raise DirectoryRefusal(f"the directory cannot be written: {fault}") from fault
            if not self._is_together:
                self._copy = read(self._connection)


class _NotForGood(Exception):
    """Nothing is wrong, but the transaction is to leave nothing behind."""


@contextmanager
def _as_refusals() -> Iterator[None]:
    try:
        yield
    except (ParameterRefusal, PolicyRefusal) as refusal:
        raise DirectoryRefusal(str(refusal)) from refusal


def _must_hit(cursor: sqlite3.Cursor, complaint: str) -> None:
    if cursor.rowcount == 0:
        raise DirectoryRefusal(complaint)


def _must_fit(sized: sqlite3.Cursor, bytes_max: int, what: str) -> None:
    if sized.fetchone()[0] > bytes_max:
        raise DirectoryRefusal(f"{what} take at most {bytes_max} bytes")


def _must_name_a_vhost(name: str) -> None:
    if not 0 < len(name.encode()) <= SHORT_STRING_BYTES_MAX:
        raise DirectoryRefusal(f"a vhost's name has 1 to {SHORT_STRING_BYTES_MAX} bytes")


def _must_name_a_user(name: str) -> None:
    if not 0 < len(name.encode()) <= USER_NAME_BYTES_MAX:
        raise DirectoryRefusal(f"a user's name has 1 to {USER_NAME_BYTES_MAX} bytes")


def _must_be_a_limit(value: int) -> None:
    if value > _LIMIT_MAX:
        raise DirectoryRefusal(f"a limit is at most {_LIMIT_MAX}")


def _must_be_words(tags: tuple[str, ...]) -> None:
    if any(not tag or tag != "".join(tag.split()) for tag in tags):
        raise DirectoryRefusal("a tag is one word")


def _must_compile(expression: str) -> None:
    try:
        re.compile(expression)
    except (re.error, OverflowError, RecursionError) as fault:
        raise DirectoryRefusal(f"'{expression}' is not a regular expression: {fault}") from fault
