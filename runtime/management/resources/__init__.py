"""What the HTTP API has to offer, a room for each kind of thing."""

from typing import Any, Final

from runtime.management.resources.bindings import BINDINGS
from runtime.management.resources.clients import CLIENTS
from runtime.management.resources.exchanges import EXCHANGES
from runtime.management.resources.extensions import EXTENSIONS
from runtime.management.resources.health import HEALTH
from runtime.management.resources.memory import MEMORY
from runtime.management.resources.messages import MESSAGES
from runtime.management.resources.nodes import NODES
from runtime.management.resources.overview import OVERVIEW
from runtime.management.resources.queues import QUEUES
from runtime.management.resources.shards import SHARDS

RESOURCES: Final[list[Any]] = [
    *BINDINGS,
    *CLIENTS,
    *EXCHANGES,
    *EXTENSIONS,
    *HEALTH,
    *MEMORY,
    *MESSAGES,
    *NODES,
    *OVERVIEW,
    *QUEUES,
    *SHARDS,
]
