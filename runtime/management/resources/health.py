"""`/api/health/checks`: questions with a yes (200) or a no (503) for load balancers and orchestrators."""

import datetime
from typing import Any, Final

from litestar import Response, get
from litestar.datastructures import State

from ipc.messages.inventory import Document
from runtime.management import answers
from runtime.management.access import ApiRequest
from runtime.management.broker import Broker, Unavailable
from runtime.management.describing import gives
from runtime.management.errors import BadRequest
from runtime.management.inner_client import inner_client
from runtime.management.resources.nodes import status_of
from runtime.management.resources.overview import listeners

_OK: Final[Document] = {"status": "ok"}
_UNITS: Final = {"days": 1, "weeks": 7, "months": 30, "years": 365}
_UNIT: Final = {"unit": {"enum": list(_UNITS)}}


def _failed(reason: str, **facts: Any) -> Response[Document]:
    return Response({"status": "failed", "reason": reason, **facts}, status_code=503)


def _passed(**facts: Any) -> Response[Document]:
    return Response({**_OK, **facts})


async def _alarms(broker: Broker) -> Response[Document]:
    status, _shards = await status_of(broker)
    if not status.alarms:
        return _passed()
    found = [{"node": broker.node, "resource": name} for name in status.alarms]
    return _failed(f"resource alarm(s) in effect: {', '.join(status.alarms)}", alarms=found)


@get("/health/checks/alarms", summary="No alarm is raised", operation_class=gives(answers.Health, failed=503))
async def alarms(state: State) -> Response[Document]:
    return await _alarms(state.broker)


@get(
    "/health/checks/local-alarms",
    summary="No alarm is raised on this node",
    operation_class=gives(answers.Health, failed=503),
)
async def local_alarms(state: State) -> Response[Document]:
    return await _alarms(state.broker)


@get(
    "/health/checks/certificate-expiration/{within:int}/{unit:str}",
    summary="No certificate is about to expire",
    operation_class=gives(answers.Health, path=_UNIT, failed=503),
)
async def certificate_expiration(within: int, unit: str) -> Response[Document]:
    """There are none, so none expires; what is asked for must make sense all the same."""
    days = _UNITS.get(unit)
    if days is None:
        raise BadRequest(f"Invalid unit {unit[:32]!r}: expected one of {', '.join(_UNITS)}")
    try:
        datetime.timedelta(days=within * days)
    except OverflowError as fault:
        raise BadRequest(f"Invalid expiration period: {within} {unit}") from fault
    return _passed()


@get(
    "/health/checks/port-listener/{port:int}",
    summary="Somebody listens on a port",
    operation_class=gives(answers.Health, failed=503),
)
async def port_listener(state: State, port: int) -> Response[Document]:
    ports = [one["port"] for one in listeners(state.broker)]
    return _passed(port=port) if port in ports else _failed("No active listener", missing=port, ports=ports)


@get(
    "/health/checks/protocol-listener/{protocol:str}",
    summary="A protocol is spoken",
    operation_class=gives(answers.Health, failed=503),
)
async def protocol_listener(state: State, protocol: str) -> Response[Document]:
    protocols = sorted({one["protocol"] for one in listeners(state.broker)})
    wanted = {"amqp091": "amqp", "amqp0.9.1": "amqp"}.get(protocol, protocol)
    if wanted in protocols:
        return _passed(protocol=protocol)
    return _failed("No active listener", missing=protocol, protocols=protocols)


@get(
    "/health/checks/virtual-hosts",
    summary="Every virtual host is open",
    operation_class=gives(answers.Health, failed=503),
)
async def virtual_hosts(state: State, request: ApiRequest) -> Response[Document]:
    """Those whose shard does not answer are not."""
    broker: Broker = state.broker
    known = {vhost.name for vhost in request.user.directory.vhosts()}
    try:
        open_now = await broker.open_vhosts()
    except Unavailable as fault:
        return _failed(str(fault))
    down = sorted(known - open_now)
    return _failed("Some virtual hosts are down", **{"virtual-hosts": down}) if down else _passed()


@get(
    "/health/checks/node-is-mirror-sync-critical",
    summary="No queue depends on this node for its mirrors",
    operation_class=gives(answers.Health, failed=503),
)
async def mirror_sync_critical() -> Response[Document]:
    return _passed(reason="single node cluster")


@get(
    "/health/checks/node-is-quorum-critical",
    summary="No quorum depends on this node",
    operation_class=gives(answers.Health, failed=503),
)
async def quorum_critical() -> Response[Document]:
    return _passed(reason="single node cluster")


@get("/health/checks/ready", summary="Clients may come", operation_class=gives(answers.Health, failed=503))
async def ready(state: State) -> Response[Document]:
    status, _shards = await status_of(state.broker)
    return _passed() if status.state == "ready" else _failed(f"the broker is {status.state}")


@get(
    "/healthchecks/node",
    summary="Superseded by the others; kept because tools still ask",
    operation_class=gives(answers.Health, failed=503),
)
async def node_health(state: State) -> Response[Document]:
    return await _alarms(state.broker)


@get("/aliveness-test/{vhost:str}", summary="A message comes through", operation_class=gives(answers.Health))
async def aliveness(state: State, request: ApiRequest, vhost: str) -> Document:
    """Declares the queue `aliveness-test`, as RabbitMQ does, publishes to it and gets that message back."""
    broker: Broker = state.broker
    request.user.require_vhost(vhost)
    async with inner_client(broker, request.user.name, vhost) as client:
        await client.check_alive("aliveness-test")
    return _OK


HEALTH: Final[list[Any]] = [
    alarms,
    local_alarms,
    certificate_expiration,
    port_listener,
    protocol_listener,
    virtual_hosts,
    mirror_sync_critical,
    quorum_critical,
    ready,
    node_health,
    aliveness,
]
