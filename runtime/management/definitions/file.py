"""What stands in a file of definitions: RabbitMQ's keys, read entry by entry, with a word on each that is wrong."""

from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import Struct

from ipc.limits import DEFINITIONS_PROBLEMS_MAX
from runtime.auth.hashes import SHA256

Change: TypeAlias = Callable[[], object]
"""What has the directory changed as an entry wishes."""


class Problems:
    """What is wrong, and where; of many the first."""

    def __init__(self) -> None:
        self.found: list[dict[str, str]] = []
        self.count = 0

    def add(self, where: str, reason: str) -> None:
        self.count += 1
        if len(self.found) < DEFINITIONS_PROBLEMS_MAX:
            self.found.append({"where": where, "reason": reason})


class VHost(Struct, frozen=True):
    """What people say about it may stand beside the name, or in `metadata`; or nowhere, and then it stays as it is."""

    name: str
    description: str | None = None
    tags: list[str] | str | None = None
    default_queue_type: str | None = None
    metadata: dict[str, Any] = {}


class User(Struct, frozen=True):
    name: str
    tags: list[str] | str
    password: str | None = None
    password_hash: str = ""
    hashing_algorithm: str = SHA256
    limits: dict[str, int] | None = None  # None: stay as they are


class GlobalParameter(Struct, frozen=True):
    name: str
    value: Any


class InVHost(Struct, frozen=True):
    """Base of what lies in a virtual host; in the file of a single one it is not named."""

    vhost: str = ""


class Permissions(InVHost, frozen=True, kw_only=True):
    user: str
    configure: str
    write: str
    read: str


class TopicPermissions(InVHost, frozen=True, kw_only=True):
    user: str
    exchange: str
    write: str
    read: str


class Parameter(InVHost, frozen=True, kw_only=True):
    component: str
    name: str
    value: Any


class Policy(InVHost, frozen=True, kw_only=True, rename={"apply_to": "apply-to"}):
    name: str
    pattern: str
    definition: Any
    apply_to: str = "all"
    priority: int = 0


class Queue(InVHost, frozen=True, kw_only=True):
    name: str
    durable: bool
    auto_delete: bool = False
    arguments: dict[str, Any] = {}


class Exchange(InVHost, frozen=True, kw_only=True):
    name: str
    type: str
    durable: bool
    auto_delete: bool = False
    internal: bool = False
    arguments: dict[str, Any] = {}


class Binding(InVHost, frozen=True, kw_only=True):
    source: str
    destination: str
    destination_type: str
    routing_key: str = ""
    arguments: dict[str, Any] = {}


class ContentOfVHost(Struct):
    """What is read of a file that goes into one virtual host."""

    parameters: list[Parameter] = []
    policies: list[Policy] = []
    queues: list[Queue] = []
    exchanges: list[Exchange] = []
    bindings: list[Binding] = []


class Content(ContentOfVHost):
    """All there is in a file."""

    users: list[User] = []
    vhosts: list[VHost] = []
    permissions: list[Permissions] = []
    topic_permissions: list[TopicPermissions] = []
    global_parameters: list[GlobalParameter] = []

    def vhost_names(self) -> list[str]:
        """Of virtual hosts in which something is to be declared, in their order."""
        entries = (*self.exchanges, *self.queues, *self.bindings)
        return list(dict.fromkeys([*(vhost.name for vhost in self.vhosts), *(entry.vhost for entry in entries)]))


_OF_ALL: Final[dict[str, type[Any]]] = {
    "users": User,
    "vhosts": VHost,
    "permissions": Permissions,
    "topic_permissions": TopicPermissions,
    "global_parameters": GlobalParameter,
}
_OF_ONE_VHOST: Final[dict[str, type[Any]]] = {
    "parameters": Parameter,
    "policies": Policy,
    "queues": Queue,
    "exchanges": Exchange,
    "bindings": Binding,
}


def read(document: dict[str, Any], problems: Problems, *, vhost: str | None = None) -> Content:
    """Everything that can be read. For one `vhost` the rest of the file is passed over, as RabbitMQ does it."""
    kinds = _OF_ONE_VHOST if vhost is not None else _OF_ALL | _OF_ONE_VHOST
    content = Content()
    for section, kind in kinds.items():
        entries = document.get(section, [])
        if not isinstance(entries, list):
            problems.add(section, "is not an array")
            continue
        setattr(content, section, list(_entries(section, entries, kind, problems, vhost)))
    return content


def _entries(section: str, entries: list[Any], kind: type[Any], problems: Problems, vhost: str | None) -> Iterable[Any]:
    for number, entry in enumerate(entries):
        try:
            read_entry = msgspec.convert(entry, kind, strict=False)
        except msgspec.ValidationError as fault:
            problems.add(f"{section}[{number}]{_named(entry)}", str(fault))
            continue
        if vhost is not None:
            read_entry = msgspec.structs.replace(read_entry, vhost=vhost)
        elif issubclass(kind, InVHost) and not read_entry.vhost:
            problems.add(f"{section}[{number}]{_named(entry)}", "has no vhost")
            continue
        yield read_entry


def _named(entry: Any) -> str:
    name = entry.get("name") if isinstance(entry, dict) else None
    return f" '{name[:255]}'" if isinstance(name, str) else ""
