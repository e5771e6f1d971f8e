"""How accounts, and what is laid down for vhosts, look in JSON: in answers, and in files of definitions."""

from collections.abc import Iterator
from typing import Final

from ipc.messages.commands import Permissions, TopicPermissions
from ipc.messages.inventory import Document
from ipc.messages.rules import Policy
from runtime.auth.directory import Directory, User, VHost
from runtime.auth.hashes import shown

UNDEFINED: Final = "undefined"
"""RabbitMQ's word for a default queue type that nobody chose."""


_QUEUE_TYPES: Final = {
    UNDEFINED: "",
    "rabbit_classic_queue": "classic",
    "rabbit_quorum_queue": "quorum",
    "rabbit_stream_queue": "stream",
}


def queue_type(called: str) -> str:
    """What RabbitMQ writes for a queue type, one way or another, as we call it."""
    return _QUEUE_TYPES.get(called, called)


def metadata(vhost: VHost) -> Document:
    """What people said about it, as definitions have it as well."""
    said: Document = {"description": vhost.description, "tags": list(vhost.tags)}
    if vhost.default_queue_type:
        said["default_queue_type"] = vhost.default_queue_type
    return said


def user_document(user: User) -> Document:
    """As definitions have it as well."""
    password_hash, algorithm = shown(user.password_hash)
    return {
        "name": user.name,
        "password_hash": password_hash,
        "hashing_algorithm": algorithm,
        "tags": list(user.tags),
        "limits": user.limits,
    }


def permission_document(user: str, vhost: str, granted: Permissions) -> Document:
    return {
        "user": user,
        "vhost": vhost,
        "configure": granted.configure,
        "write": granted.write,
        "read": granted.read,
    }


def topic_permission_document(user: str, vhost: str, granted: TopicPermissions) -> Document:
    return {"user": user, "vhost": vhost, "exchange": granted.exchange, "write": granted.write, "read": granted.read}


def policy_value(policy: Policy) -> Document:
    """What there is to say besides where it stands and what it is called."""
    return {
        "pattern": policy.pattern,
        "apply-to": policy.apply_to,
        "definition": policy.definition,
        "priority": policy.priority,
    }


def policies_in(directory: Directory, vhost: str, *, is_operator: bool) -> Iterator[Policy]:
    rules = directory.rules(vhost)
    yield from rules.operator_policies if is_operator else rules.policies
