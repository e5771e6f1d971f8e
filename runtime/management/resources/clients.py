"""`/api/connections`, `/api/channels`, `/api/consumers`: who is connected, and how to part with them."""

from typing import Any, Final

from litestar import delete, get, put
from litestar.datastructures import State
from msgspec import Struct

from ipc.limits import CLOSE_REASON_CHARACTERS_MAX
from ipc.messages.inventory import CancelConsumer, CloseConnection, Document, Kind, Rank, SetPrefetch
from runtime.management import answers
from runtime.management.access import ADMINISTRATOR, MONITORING, ApiRequest
from runtime.management.bodies import read_body
from runtime.management.broker import Broker
from runtime.management.describing import does, gives, lists, query_text
from runtime.management.errors import ApiError, NotAuthorized, NotFound
from runtime.management.paging import Paging, listed

DEFAULT_REASON: Final = "Closed via management plugin"
"""RabbitMQ's words."""

_REASON: Final = (query_text("X-Reason", "What the client is told."),)


class PrefetchBody(Struct, frozen=True):
    """What is to hold for consumers that come later."""

    prefetch: int


async def _listed(request: ApiRequest, state: State, kind: Kind, **facts: Any) -> Any:
    """Whoever does not monitor sees only its own."""
    where = dict(facts.pop("where", {}))
    if not request.user.has(MONITORING):
        where |= {_OWNER[kind]: request.user.name}
    vhosts = request.user.vhosts()
    return await listed(state.broker, kind, Paging.of(request.query_params), vhosts=vhosts, where=where, **facts)


_OWNER: Final[dict[Kind, str]] = {
    "connection": "user",
    "channel": "user",
    "consumer": "channel_details.user",
}


async def _find(
    request: ApiRequest, broker: Broker, kind: Kind, name: str, *, others_for: frozenset[str] = MONITORING
) -> Document:
    """By a name nobody said the vhost of; `others_for`: who may have what is another user's.

    Raises NotFound, NotAuthorized.
    """
    found = await broker.listing(Rank(kind, where=(("name", name),)), count=1, in_detail=True)
    if not found.documents:
        raise NotFound
    (document,) = found.documents
    if not request.user.has(others_for) and document.get("user") != request.user.name:
        raise NotAuthorized("User not authorised to access object")
    return document


# connections ----------------------------------------------------------------------------------------------------------


@get("/connections", summary="All connections that may be seen", operation_class=lists(answers.Connection))
async def connections(request: ApiRequest, state: State) -> Any:
    return await _listed(request, state, "connection")


@get(
    "/vhosts/{vhost:str}/connections",
    summary="Connections to a virtual host",
    operation_class=lists(answers.Connection),
)
async def connections_of(request: ApiRequest, state: State, vhost: str) -> Any:
    request.user.require_visible(vhost)
    return await _listed(request, state, "connection", vhost=vhost)


@get("/connections/username/{user:str}", summary="Connections of a user", operation_class=lists(answers.Connection))
async def connections_of_user(request: ApiRequest, state: State, user: str) -> Any:
    return await _listed(request, state, "connection", where={"user": user})


@get("/connections/{name:str}", summary="One connection", operation_class=gives(answers.Connection))
async def connection(request: ApiRequest, state: State, name: str) -> Document:
    return await _find(request, state.broker, "connection", name)


@get("/connections/{name:str}/channels", summary="Channels of a connection", operation_class=lists(answers.Channel))
async def channels_of_connection(request: ApiRequest, state: State, name: str) -> Any:
    await _find(request, state.broker, "connection", name)
    return await _listed(request, state, "channel", where={"connection_details.name": name})


@delete("/connections/{name:str}", summary="Close a connection", operation_class=does(headers=_REASON))
async def close_connection(request: ApiRequest, state: State, name: str) -> None:
    """Tells the client the reason given in the header `X-Reason`."""
    broker: Broker = state.broker
    found = await _find(request, broker, "connection", name, others_for=ADMINISTRATOR)
    await broker.perform(CloseConnection(found["vhost"], name, _reason(request)), found["vhost"])


@delete(
    "/connections/username/{user:str}", summary="Close all connections of a user", operation_class=does(headers=_REASON)
)
async def close_connections_of_user(request: ApiRequest, state: State, user: str) -> None:
    broker: Broker = state.broker
    if not request.user.has(ADMINISTRATOR) and user != request.user.name:
        raise NotAuthorized("User not authorised to access object")
    found = await broker.listing(Rank("connection", where=(("user", user),)))
    for document in found.documents:
        vhost = document["vhost"]
        await broker.perform(CloseConnection(vhost, document["name"], _reason(request)), vhost)


def _reason(request: ApiRequest) -> str:
    return (request.headers.get("x-reason") or DEFAULT_REASON)[:CLOSE_REASON_CHARACTERS_MAX]


# channels -------------------------------------------------------------------------------------------------------------


@get("/channels", summary="All channels that may be seen", operation_class=lists(answers.Channel))
async def channels(request: ApiRequest, state: State) -> Any:
    return await _listed(request, state, "channel")


@get("/vhosts/{vhost:str}/channels", summary="Channels in a virtual host", operation_class=lists(answers.Channel))
async def channels_of(request: ApiRequest, state: State, vhost: str) -> Any:
    request.user.require_visible(vhost)
    return await _listed(request, state, "channel", vhost=vhost)


@get("/channels/{name:str}", summary="One channel", operation_class=gives(answers.Channel))
async def channel(request: ApiRequest, state: State, name: str) -> Document:
    return await _find(request, state.broker, "channel", name)


@put(
    "/channels/{name:str}",
    summary="Change the prefetch of consumers to come",
    status_code=204,
    operation_class=does(body=PrefetchBody),
)
async def set_prefetch(request: ApiRequest, state: State, name: str) -> None:
    broker: Broker = state.broker
    found = await _find(request, broker, "channel", name, others_for=ADMINISTRATOR)
    body = await read_body(request, PrefetchBody)
    if not 0 <= body.prefetch <= 65535:
        raise ApiError(400, "prefetch must be a number of 0 to 65535")
    vhost, owner = found["vhost"], found["connection_details"]["name"]
    await broker.perform(SetPrefetch(vhost, owner, found["number"], body.prefetch), vhost)


# consumers ------------------------------------------------------------------------------------------------------------


@get("/consumers", summary="All consumers that may be seen", operation_class=lists(answers.Consumer))
async def consumers(request: ApiRequest, state: State) -> Any:
    return await _listed(request, state, "consumer")


@get("/consumers/{vhost:str}", summary="Consumers in a virtual host", operation_class=lists(answers.Consumer))
async def consumers_of(request: ApiRequest, state: State, vhost: str) -> Any:
    request.user.require_visible(vhost)
    return await _listed(request, state, "consumer", vhost=vhost)


@delete(
    "/consumers/{vhost:str}/{connection_name:str}/{number:int}/{tag:str}",
    summary="Cancel a consumer",
    operation_class=does(),
)
async def cancel_consumer(
    request: ApiRequest, state: State, vhost: str, connection_name: str, number: int, tag: str
) -> None:
    broker: Broker = state.broker
    request.user.require_vhost(vhost)
    await _find(request, broker, "connection", connection_name, others_for=ADMINISTRATOR)
    await broker.perform(CancelConsumer(vhost, connection_name, number, tag), vhost)


CLIENTS: Final[list[Any]] = [
    connections,
    connections_of,
    connections_of_user,
    connection,
    channels_of_connection,
    close_connection,
    close_connections_of_user,
    channels,
    channels_of,
    channel,
    set_prefetch,
    consumers,
    consumers_of,
    cancel_consumer,
]
