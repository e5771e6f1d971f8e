"""What the HTTP API has to offer, a room for each kind of thing."""

from typing import Any, Final

from runtime.management.resources.overview import OVERVIEW
from runtime.management.resources.queues import QUEUES

RESOURCES: Final[list[Any]] = [*OVERVIEW, *QUEUES]
