"""What the HTTP API has to offer, a room for each kind of thing."""

from typing import Any, Final

from runtime.management.resources.attempts import ATTEMPTS
from runtime.management.resources.bindings import BINDINGS
from runtime.management.resources.clients import CLIENTS
from runtime.management.resources.definitions import DEFINITIONS
from runtime.management.resources.exchanges import EXCHANGES
from runtime.management.resources.extensions import EXTENSIONS
from runtime.management.resources.hashing import HASHING
from runtime.management.resources.health import HEALTH
from runtime.management.resources.log import LOG
from runtime.management.resources.memory import MEMORY
from runtime.management.resources.messages import MESSAGES
from runtime.management.resources.nodes import NODES
from runtime.management.resources.overview import OVERVIEW
from runtime.management.resources.parameters import PARAMETERS
from runtime.management.resources.permissions import PERMISSIONS
from runtime.management.resources.policies import POLICIES
from runtime.management.resources.queues import QUEUES
from runtime.management.resources.shards import SHARDS
from runtime.management.resources.users import USERS
from runtime.management.resources.vhost_limits import VHOST_LIMITS
from runtime.management.resources.vhosts import VHOSTS

RESOURCES: Final[list[Any]] = [
    *ATTEMPTS,
    *BINDINGS,
    *CLIENTS,
    *DEFINITIONS,
    *EXCHANGES,
    *EXTENSIONS,
    *HASHING,
    *HEALTH,
    *LOG,
    *MEMORY,
    *MESSAGES,
    *NODES,
    *OVERVIEW,
    *PARAMETERS,
    *PERMISSIONS,
    *POLICIES,
    *QUEUES,
    *SHARDS,
    *USERS,
    *VHOST_LIMITS,
    *VHOSTS,
]
