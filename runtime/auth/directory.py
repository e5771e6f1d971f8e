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
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from ipc.data_directory import DataDirectory
from ipc.limits import PERMISSIONS_BYTES_MAX, RULES_BYTES_MAX, SHORT_STRING_BYTES_MAX, USER_NAME_BYTES_MAX
from ipc.messages.commands import Permissions, TopicPermissions
from ipc.messages.rules import NO_RULES, Definition, Policy, Rules
from ipc.settings import UserSettings
from runtime.auth.directory_file import EVERYTHING, FORMAT, as_start_refusals, open_file, transaction
from runtime.decisions.policies import PolicyRefusal, check_policy
from runtime.owner import Owner

__all__ = ["EVERYTHING", "FORMAT", "LIMITS", "Directory", "DirectoryRefusal", "User", "VHost"]

LIMITS: Final = {"max-connections": "connections_max", "max-queues": "queues_max"}
"""What can be limited in a vhost, by RabbitMQ's names."""

_LIMIT_MAX: Final = 2**31 - 1

# No less than what encoding makes of a row.
_RULES_BYTES: Final = """SELECT coalesce(sum(32 + length(CAST(name || pattern || apply_to || definition AS BLOB))), 0)
    FROM policies WHERE vhost = ?"""
_PERMISSIONS_BYTES: Final = """SELECT coalesce(sum(32 + length(CAST(texts AS BLOB))), 0) FROM (
    SELECT user, vhost, configure || write || read AS texts FROM permissions
    UNION ALL SELECT user, vhost, exchange || write || read FROM topic_permissions) WHERE user = ? AND vhost = ?"""

_Run = Callable[..., sqlite3.Cursor]
_UserAndVHost = tuple[str, str]


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
    permissions: dict[_UserAndVHost, Permissions]
    topics: dict[_UserAndVHost, tuple[TopicPermissions, ...]]  # whether or not the user may enter
    rules: dict[str, Rules]


class Directory(Owner):
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

    def reload(self) -> None:
        """Read everything again: another process may have written. Raises sqlite3.Error."""
        with self._changing:
            self._copy = _read(self._connection)

    def copy_to(self, path: Path) -> list[VHost]:
        """Write a copy, on disk when this returns; its vhosts, by number. Raises sqlite3.Error and OSError."""
        with self._changing, closing(sqlite3.connect(path, isolation_level=None)) as copy:
            self._connection.backup(copy)
            vhosts = _read(copy).vhosts.values()
        with path.open("rb") as file:
            os.fsync(file.fileno())
        return sorted(vhosts, key=lambda vhost: vhost.number)

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
        if not 0 < len(name.encode()) <= USER_NAME_BYTES_MAX:
            raise DirectoryRefusal(f"a user's name has 1 to {USER_NAME_BYTES_MAX} bytes")
        _must_be_words(tags)
        with self._change(f"user '{name}' exists already") as run:
            run("INSERT INTO users (name, password_hash, tags) VALUES (?, ?, ?)", (name, password_hash, " ".join(tags)))
        return self._copy.users[name]

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
        try:
            check_policy(policy, is_operator=is_operator)
        except PolicyRefusal as refusal:
            raise DirectoryRefusal(str(refusal)) from refusal
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
        if value > _LIMIT_MAX:
            raise DirectoryRefusal(f"a limit is at most {_LIMIT_MAX}")
        with self._change(f"no vhost '{vhost}'") as run:
            run("INSERT OR REPLACE INTO limits (vhost, name, value) VALUES (?, ?, ?)", (vhost, name, max(value, -1)))

    def clear_limit(self, vhost: str, name: str) -> None:
        with self._change() as run:
            _must_hit(
                run("DELETE FROM limits WHERE vhost = ? AND name = ?", (vhost, name)),
                f"no limit '{name}' in vhost '{vhost}'",
            )

    @contextmanager
    def _change(self, conflict: str = "the change contradicts the directory") -> Iterator[_Run]:
        """One transaction; a violated constraint is told to the caller as `conflict`."""
        with self._changing:
            try:
                with transaction(self._connection):
                    yield self._connection.execute
            except sqlite3.IntegrityError as fault:
                raise DirectoryRefusal(conflict) from fault
            except sqlite3.OperationalError as fault:
                raise DirectoryRefusal(f"the directory cannot be written: {fault}") from fault
            self._copy = _read(self._connection)


def _must_hit(cursor: sqlite3.Cursor, complaint: str) -> None:
    if cursor.rowcount == 0:
        raise DirectoryRefusal(complaint)


def _must_fit(sized: sqlite3.Cursor, bytes_max: int, what: str) -> None:
    if sized.fetchone()[0] > bytes_max:
        raise DirectoryRefusal(f"{what} take at most {bytes_max} bytes")


def _must_be_words(tags: tuple[str, ...]) -> None:
    if any(not tag or tag != "".join(tag.split()) for tag in tags):
        raise DirectoryRefusal("a tag is one word")


def _must_compile(expression: str) -> None:
    try:
        re.compile(expression)
    except (re.error, OverflowError, RecursionError) as fault:
        raise DirectoryRefusal(f"'{expression}' is not a regular expression: {fault}") from fault


# reading --------------------------------------------------------------------------------------------------------------


def _read(connection: sqlite3.Connection) -> _Copy:
    connection.execute("BEGIN")  # all reads of one moment
    try:
        topics = _read_topics(connection)
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
                (user, vhost): Permissions(configure, write, read, topics.get((user, vhost), ()))
                for user, vhost, configure, write, read in connection.execute(
                    "SELECT user, vhost, configure, write, read FROM permissions"
                )
            },
            topics=topics,
            rules=_read_rules(connection),
        )
    finally:
        connection.execute("COMMIT")


def _read_topics(connection: sqlite3.Connection) -> dict[_UserAndVHost, tuple[TopicPermissions, ...]]:
    topics: defaultdict[_UserAndVHost, list[TopicPermissions]] = defaultdict(list)
    for user, vhost, exchange, write, read in connection.execute(
        "SELECT user, vhost, exchange, write, read FROM topic_permissions ORDER BY exchange"
    ):
        topics[user, vhost].append(TopicPermissions(exchange, write, read))
    return {who: tuple(granted) for who, granted in topics.items()}


def _read_rules(connection: sqlite3.Connection) -> dict[str, Rules]:
    policies: defaultdict[tuple[str, bool], list[Policy]] = defaultdict(list)
    for vhost, is_operator, name, pattern, definition, apply_to, priority in connection.execute(
        "SELECT vhost, is_operator, name, pattern, definition, apply_to, priority FROM policies ORDER BY name"
    ):
        policies[vhost, bool(is_operator)].append(
            Policy(name, pattern, _decoded(definition, vhost, name), apply_to, priority)
        )
    limits: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for vhost, name, value in connection.execute("SELECT vhost, name, value FROM limits WHERE value >= 0"):
        limits[vhost][LIMITS[name]] = value
    return {
        vhost: Rules(
            tuple(policies.get((vhost, False), ())), tuple(policies.get((vhost, True), ())), **limits.get(vhost, {})
        )
        for vhost in {vhost for vhost, _ in policies} | limits.keys()
    }


def _decoded(definition: str, vhost: str, name: str) -> Definition:
    try:
        return msgspec.json.decode(definition, type=Definition)
    except msgspec.MsgspecError as fault:
        raise sqlite3.DatabaseError(f"policy '{name}' of vhost '{vhost}' cannot be read: {fault}") from fault
