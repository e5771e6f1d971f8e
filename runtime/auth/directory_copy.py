"""The directory in memory: an immutable copy of its file at one moment, indexed for look-ups."""

import sqlite3
from collections import defaultdict
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

from ipc.messages.commands import Permissions, TopicPermissions
from ipc.messages.rules import Definition, Policy, Rules

LIMITS: Final = {"max-connections": "connections_max", "max-queues": "queues_max"}
"""What can be limited in a vhost, by RabbitMQ's names."""

QUEUE_TYPES: Final = ("classic", "quorum")
"""What queues of a vhost can be by default."""

UserAndVHost = tuple[str, str]
Parameters = dict[tuple[str, str, str], Any]
"""Values by vhost, component and name."""

_Kind = TypeVar("_Kind")


class VHost(Struct, frozen=True):
    """A vhost as the supervisor knows it; `number` names its directory."""

    number: int
    name: str
    shard: int | None
    pinned: bool
    description: str = ""
    tags: tuple[str, ...] = ()
    default_queue_type: str = ""


class User(Struct, frozen=True):
    """An account; `tags` such as "administrator" say what it may do beyond messaging.

    `limits` by RabbitMQ's names; a negative one is none.
    """

    name: str
    password_hash: str  # as `hashes.py` keeps them
    tags: tuple[str, ...]
    limits: dict[str, int] = {}


class Copy(Struct, frozen=True):
    """All of the directory at one moment."""

    vhosts: dict[str, VHost]
    users: dict[str, User]
    permissions: dict[UserAndVHost, Permissions]
    topics: dict[UserAndVHost, tuple[TopicPermissions, ...]]  # whether or not the user may enter
    rules: dict[str, Rules]
    limits: dict[str, dict[str, int]]  # of vhosts, by RabbitMQ's names; a negative one is none
    parameters: Parameters
    global_parameters: dict[str, Any]


def read(connection: sqlite3.Connection) -> Copy:
    """Raises sqlite3.Error, also for what is there and cannot be understood."""
    connection.execute("BEGIN")  # all reads of one moment
    try:
        topics = _read_topics(connection)
        limits = _read_limits(connection, "SELECT vhost, name, value FROM limits")
        users = _read_users(connection)
        vhosts = _read_vhosts(connection)
        return Copy(
            vhosts=vhosts,
            users=users,
            permissions={
                (user, vhost): Permissions(
                    configure, write, read, topics.get((user, vhost), ()), _channels_max(users[user])
                )
                for user, vhost, configure, write, read in connection.execute(
                    "SELECT user, vhost, configure, write, read FROM permissions"
                )
            },
            topics=topics,
            rules=_read_rules(connection, limits, vhosts),
            limits=limits,
            parameters={
                (vhost, component, name): _decoded(value, Any, f"parameter '{name}' of vhost '{vhost}'")
                for vhost, component, name, value in connection.execute(
                    "SELECT vhost, component, name, value FROM parameters ORDER BY vhost, component, name"
                )
            },
            global_parameters={
                name: _decoded(value, Any, f"global parameter '{name}'")
                for name, value in connection.execute("SELECT name, value FROM global_parameters ORDER BY name")
            },
        )
    finally:
        connection.execute("COMMIT")


def _read_vhosts(connection: sqlite3.Connection) -> dict[str, VHost]:
    return {
        name: VHost(
            number,
            name,
            shard,
            bool(pinned),
            description,
            _decoded(tags, tuple[str, ...], f"tags of vhost '{name}'"),
            default_queue_type,
        )
        for number, name, shard, pinned, description, tags, default_queue_type in connection.execute(
            "SELECT number, name, shard, pinned, description, tags, default_queue_type FROM vhosts"
        )
    }


def _read_users(connection: sqlite3.Connection) -> dict[str, User]:
    limits = _read_limits(connection, "SELECT user, name, value FROM user_limits")
    return {
        name: User(name, password_hash, tuple(tags.split()), limits.get(name, {}))
        for name, password_hash, tags in connection.execute("SELECT name, password_hash, tags FROM users")
    }


def _channels_max(user: User) -> int | None:
    limit = user.limits.get("max-channels", -1)
    return None if limit < 0 else limit


def _read_topics(connection: sqlite3.Connection) -> dict[UserAndVHost, tuple[TopicPermissions, ...]]:
    topics: defaultdict[UserAndVHost, list[TopicPermissions]] = defaultdict(list)
    for user, vhost, exchange, write, read in connection.execute(
        "SELECT user, vhost, exchange, write, read FROM topic_permissions ORDER BY exchange"
    ):
        topics[user, vhost].append(TopicPermissions(exchange, write, read))
    return {who: tuple(granted) for who, granted in topics.items()}


def _read_limits(connection: sqlite3.Connection, query: str) -> dict[str, dict[str, int]]:
    limits: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for whose, name, value in connection.execute(query):
        limits[whose][name] = value
    return dict(limits)


def _read_rules(
    connection: sqlite3.Connection, limits: dict[str, dict[str, int]], vhosts: dict[str, VHost]
) -> dict[str, Rules]:
    # Streams could be laid down before a default had any effect; nobody could declare a queue there any more.
    types = {
        vhost.name: vhost.default_queue_type for vhost in vhosts.values() if vhost.default_queue_type in QUEUE_TYPES
    }
    policies: defaultdict[tuple[str, bool], list[Policy]] = defaultdict(list)
    for vhost, is_operator, name, pattern, definition, apply_to, priority in connection.execute(
        "SELECT vhost, is_operator, name, pattern, definition, apply_to, priority FROM policies ORDER BY name"
    ):
        decoded = _decoded(definition, Definition, f"policy '{name}' of vhost '{vhost}'")
        policies[vhost, bool(is_operator)].append(Policy(name, pattern, decoded, apply_to, priority))
    return {
        vhost: Rules(
            tuple(policies.get((vhost, False), ())),
            tuple(policies.get((vhost, True), ())),
            **{LIMITS[name]: value for name, value in limits.get(vhost, {}).items() if value >= 0},
            default_queue_type=types.get(vhost, ""),
        )
        for vhost in {vhost for vhost, _ in policies} | limits.keys() | types.keys()
    }


def _decoded(text: str, kind: type[_Kind], what: str) -> _Kind:
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.MsgspecError as fault:
        raise sqlite3.DatabaseError(f"{what} cannot be read: {fault}") from fault
