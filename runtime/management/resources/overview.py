"""`/api/overview` and `/api/whoami`: the broker as a whole, and who asks."""

import time
from typing import Any, Final

from litestar import get
from litestar.datastructures import State

from ipc.messages.inventory import CountAll
from ipc.version import VERSION
from runtime.management import answers
from runtime.management.access import ApiRequest
from runtime.management.broker import Broker
from runtime.management.describing import gives
from runtime.management.figures import Figures
from runtime.management.parameters import cluster_name_of

COMPATIBLE_VERSION: Final = "3.13.0"
"""RabbitMQ's, whose clients decide by it what they may ask for."""

EXCHANGE_TYPES: Final = (
    ("direct", "AMQP direct exchange, as per the AMQP specification"),
    ("fanout", "AMQP fanout exchange, as per the AMQP specification"),
    ("headers", "AMQP headers exchange, as per the AMQP specification"),
    ("topic", "AMQP topic exchange, as per the AMQP specification"),
    ("x-consistent-hash", "Consistent hashing exchange"),
    ("x-delayed-message", "Delayed message exchange"),
)


@get("/whoami", summary="Who asks", operation_class=gives(answers.WhoAmI))
async def whoami(request: ApiRequest) -> dict[str, Any]:
    return {"name": request.user.name, "tags": list(request.user.user.tags)}


@get("/overview", summary="The broker as a whole", operation_class=gives(answers.Overview))
async def overview(request: ApiRequest, state: State) -> dict[str, Any]:
    broker: Broker = state.broker
    figures = Figures.of(await broker.totals(CountAll(request.user.vhosts(), with_history=True)))
    return {
        "management_version": COMPATIBLE_VERSION,
        "rabbitmq_version": COMPATIBLE_VERSION,
        "lavinmq_version": COMPATIBLE_VERSION,
        "erlang_version": "",
        "product_name": "EbbMQ",
        "product_version": VERSION,
        "node": broker.node,
        "cluster_name": cluster_name_of(state.gate.directory, broker),
        "uptime": uptime_ms(broker),
        "rates_mode": "basic",
        "exchange_types": [
            {"name": name, "description": description, "enabled": True} for name, description in EXCHANGE_TYPES
        ],
        "object_totals": figures.object_totals(),
        "queue_totals": figures.queue_totals(),
        "message_stats": figures.message_stats(),
        "churn_rates": figures.churn_rates(),
        "listeners": listeners(broker),
        "contexts": [
            {"node": broker.node, "description": "EbbMQ management", "path": "/", "ip": host, "port": str(port)}
            for host, port in broker.http_addresses
        ],
    }


def uptime_ms(broker: Broker) -> int:
    return round((time.time() - broker.begin.started_at) * 1000)


def listeners(broker: Broker) -> list[dict[str, Any]]:
    """Where clients may come, of every protocol."""
    amqp = [("amqp", *split_address(address)) for address in broker.begin.addresses]
    http = [("http", host, port) for host, port in broker.http_addresses]
    return [
        {"node": broker.node, "protocol": protocol, "ip_address": host, "port": port}
        for protocol, host, port in (*amqp, *http)
    ]


def split_address(address: str) -> tuple[str, int]:
    """`[::1]:5672` as host and port."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


OVERVIEW: Final[list[Any]] = [whoami, overview]
