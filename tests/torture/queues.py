"""What is declared in every vhost under torture: queues of each kind, and how messages get into them."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

GRAVES: Final = "graves"
RANKED: Final = "ranked"
DYING: Final = "dying"
LIMITED: Final = "limited"
BOUNDED: Final = "bounded"

_TO_GRAVES: Final = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": GRAVES}

QUEUES: Final[Mapping[str, Mapping[str, Any]]] = {
    "plain": {},
    RANKED: {"x-max-priority": 3},
    "copy-1": {},
    "copy-2": {"x-queue-type": "quorum", "x-delivery-limit": -1},
    DYING: _TO_GRAVES,
    LIMITED: {"x-queue-type": "quorum", "x-delivery-limit": 2} | _TO_GRAVES,
    BOUNDED: {"x-max-length": 40, "x-overflow": "reject-publish"},
    GRAVES: {},
}
"""By name, with their arguments; all are durable."""

BURYING: Final = (DYING, LIMITED)
"""From where messages go to the graves."""


class Target(NamedTuple):
    """Where a publish goes, and which queues it must end in."""

    exchange: str
    routing_key: str
    queues: Sequence[str]


TARGETS: Final = (
    Target("", "plain", ("plain",)),
    Target("", RANKED, (RANKED,)),
    Target("amq.fanout", "", ("copy-1", "copy-2")),
    Target("amq.direct", "both", ("copy-1", "plain")),
    Target("", DYING, (DYING,)),
    Target("", LIMITED, (LIMITED,)),
    Target("", BOUNDED, (BOUNDED,)),
)
CERTAIN: Final = tuple(target for target in TARGETS if BOUNDED not in target.queues)
"""Those that no limit refuses."""

BINDINGS: Final = (
    ("amq.fanout", "copy-1", ""),
    ("amq.fanout", "copy-2", ""),
    ("amq.direct", "copy-1", "both"),
    ("amq.direct", "plain", "both"),
)
