"""`/api/queues`: lists, single queues, and what one can do to them."""

from typing import Any, Final

from litestar import Response, delete, get, put
from litestar.datastructures import State
from msgspec import Struct
from pamqp import commands

from runtime.management.access import ApiRequest
from runtime.management.bodies import read_body
from runtime.management.broker import Broker
from runtime.management.errors import NotFound
from runtime.management.inner_client import inner_client
from runtime.management.paging import Paging, flag, listed


class QueueBody(Struct, frozen=True):
    """What a queue is to be."""

    durable: bool = False
    auto_delete: bool = False
    arguments: dict[str, Any] = {}


@get("/queues", summary="All queues that may be seen")
async def queues(request: ApiRequest, state: State) -> Any:
    broker: Broker = state.broker
    return await listed(broker, "queue", Paging.of(request.query_params), vhosts=request.user.vhosts())


@get("/queues/{vhost:str}", summary="The queues of a virtual host")
async def queues_of(request: ApiRequest, state: State, vhost: str) -> Any:
    broker: Broker = state.broker
    request.user.require_visible(vhost)
    return await listed(broker, "queue", Paging.of(request.query_params), vhost=vhost)


@get("/queues/{vhost:str}/{name:str}", summary="One queue")
async def queue(request: ApiRequest, state: State, vhost: str, name: str) -> dict[str, Any]:
    broker: Broker = state.broker
    request.user.require_visible(vhost)
    found = await broker.find("queue", vhost, name)
    if found is None:
        raise NotFound
    return found


@put("/queues/{vhost:str}/{name:str}", summary="Declare a queue")
async def declare_queue(request: ApiRequest, state: State, vhost: str, name: str) -> Response[None]:
    """201 where it was made, 204 where an equal one was there."""
    broker: Broker = state.broker
    request.user.require_vhost(vhost)
    body = await read_body(request, QueueBody)
    is_there = await broker.find("queue", vhost, name) is not None
    async with inner_client(broker, request.user.name, vhost) as client:
        await client.ask(
            commands.Queue.Declare,
            commands.Queue.DeclareOk,
            queue=name,
            durable=body.durable,
            auto_delete=body.auto_delete,
            arguments=body.arguments,
        )
    return Response(None, status_code=204 if is_there else 201)


@delete("/queues/{vhost:str}/{name:str}", summary="Delete a queue")
async def delete_queue(request: ApiRequest, state: State, vhost: str, name: str) -> None:
    broker: Broker = state.broker
    request.user.require_vhost(vhost)
    if await broker.find("queue", vhost, name) is None:
        raise NotFound
    query = request.query_params
    async with inner_client(broker, request.user.name, vhost) as client:
        await client.ask(
            commands.Queue.Delete,
            commands.Queue.DeleteOk,
            queue=name,
            if_unused=flag(query, "if-unused"),
            if_empty=flag(query, "if-empty"),
        )


QUEUES: Final[list[Any]] = [queues, queues_of, queue, declare_queue, delete_queue]
