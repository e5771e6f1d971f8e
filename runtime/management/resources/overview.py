"""`/api/overview` and `/api/whoami`: the broker as a whole, and who asks."""

import time
from typing import Any, Final

from litestar import get
from litestar.datastructures import State

from ipc.messages.inventory import CountAll
from ipc.version import VERSION
from runtime.management.access import ApiRequest
from runtime.management.broker import Broker

# RabbitMQ's, whose clients decide by it what they may ask for.
COMPATIBLE_VERSION: Final = "3.13.0"


@get("/whoami", summary="Who asks")
async def whoami(request: ApiRequest) -> dict[str, Any]:
    return {"name": request.user.name, "tags": list(request.user.user.tags)}


@get("/overview", summary="The broker as a whole")
async def overview(request: ApiRequest, state: State) -> dict[str, Any]:
    broker: Broker = state.broker
    begin = broker.begin
    totals: dict[str, int] = {}
    for document in await broker.totals(CountAll(request.user.vhosts())):
        for name, count in document.items():
            totals[name] = totals.get(name, 0) + count
    objects = ("connections", "channels", "exchanges", "queues", "consumers")
    messages = ("messages", "messages_ready", "messages_unacknowledged")
    return {
        "management_version": COMPATIBLE_VERSION,
        "rabbitmq_version": COMPATIBLE_VERSION,
        "product_name": "EbbMQ",
        "product_version": VERSION,
        "cluster_name": broker.settings.management.cluster_name,
        "uptime": round((time.time() - begin.started_at) * 1000),
        "object_totals": {name: totals.get(name, 0) for name in objects},
        "queue_totals": {name: totals.get(name, 0) for name in messages},
    }


OVERVIEW: Final[list[Any]] = [whoami, overview]
