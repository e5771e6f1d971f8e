"""What an administrator lays down for a virtual host: policies and limits, as they travel to the shard that owns it."""

from typing import TypeAlias

from msgspec import Struct

Definition: TypeAlias = dict[str, bool | int | str]
"""Settings by RabbitMQ's names, such as `max-length`; `runtime/decisions/policies.py` says which there are."""


class Policy(Struct, frozen=True, array_like=True):
    """Settings for whatever has a matching name; policies and operator policies look alike."""

    name: str
    pattern: str  # a regular expression, searched for in names
    definition: Definition
    apply_to: str = "all"
    priority: int = 0  # of those that match, only the one with the highest counts


class Rules(Struct, frozen=True, array_like=True):
    """Everything laid down for one vhost. A limit that is None does not exist."""

    policies: tuple[Policy, ...] = ()
    operator_policies: tuple[Policy, ...] = ()
    connections_max: int | None = None
    queues_max: int | None = None
    default_queue_type: str = ""  # of queues that are declared without one; empty: classic, and it is not written down


NO_RULES = Rules()
