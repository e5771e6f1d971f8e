"""`/api/exchanges`: lists, single exchanges, and what one can do to them but publishing."""

from typing import Any, Final

from litestar import Response, delete, get, put
from litestar.datastructures import State
from msgspec import Struct
from pamqp import commands

from ipc.messages.inventory import Document
from runtime.management import answers
from runtime.management.access import ApiRequest
from runtime.management.bodies import Table, read_body
from runtime.management.broker import Broker
from runtime.management.describing import does, gives, lists, makes, query_flag
from runtime.management.empty import declared
from runtime.management.errors import BadRequest, NotFound
from runtime.management.inner_client import inner_client
from runtime.management.paging import Paging, flag, listed
from runtime.management.resources.bindings import exchange_named

_ENDS: Final = {"end": {"enum": ["source", "destination"]}}


class ExchangeBody(Struct, frozen=True):
    """What an exchange is to be."""

    type: str = "direct"
    durable: bool = True
    auto_delete: bool = False
    internal: bool = False
    arguments: Table = {}


@get("/exchanges", summary="All exchanges that may be seen", operation_class=lists(answers.Exchange))
async def exchanges(request: ApiRequest, state: State) -> Any:
    broker: Broker = state.broker
    return await listed(broker, "exchange", Paging.of(request.query_params), vhosts=request.user.vhosts())


@get("/exchanges/{vhost:str}", summary="The exchanges of a virtual host", operation_class=lists(answers.Exchange))
async def exchanges_of(request: ApiRequest, state: State, vhost: str) -> Any:
    broker: Broker = state.broker
    request.user.require_visible(vhost)
    return await listed(broker, "exchange", Paging.of(request.query_params), vhost=vhost)


@get("/exchanges/{vhost:str}/{name:str}", summary="One exchange", operation_class=gives(answers.Exchange))
async def exchange(request: ApiRequest, state: State, vhost: str, name: str) -> Document:
    request.user.require_visible(vhost)
    return await _find(state.broker, vhost, name)


@put("/exchanges/{vhost:str}/{name:str}", summary="Declare an exchange", operation_class=makes(ExchangeBody))
async def declare_exchange(request: ApiRequest, state: State, vhost: str, name: str) -> Response[bytes]:
    """201 where it was made, 204 where an equal one was there."""
    broker: Broker = state.broker
    request.user.require_vhost(vhost)
    body = await read_body(request, ExchangeBody)
    is_there = await broker.has("exchange", vhost, exchange_named(name))
    async with inner_client(broker, request.user.name, vhost) as client:
        await client.ask(
            commands.Exchange.Declare,
            commands.Exchange.DeclareOk,
            exchange=exchange_named(name),
            exchange_type=body.type,
            durable=body.durable,
            auto_delete=body.auto_delete,
            internal=body.internal,
            arguments=dict(body.arguments),
        )
    return declared(is_new=not is_there)


@delete(
    "/exchanges/{vhost:str}/{name:str}", summary="Delete an exchange", operation_class=does(query_flag("if-unused"))
)
async def delete_exchange(request: ApiRequest, state: State, vhost: str, name: str) -> None:
    broker: Broker = state.broker
    request.user.require_vhost(vhost)
    if_unused = flag(request.query_params, "if-unused")
    await _find(broker, vhost, name)
    async with inner_client(broker, request.user.name, vhost) as client:
        await client.ask(
            commands.Exchange.Delete,
            commands.Exchange.DeleteOk,
            exchange=exchange_named(name),
            if_unused=if_unused,
        )


@get(
    "/exchanges/{vhost:str}/{name:str}/bindings/{end:str}",
    summary="Bindings with this exchange at one end",
    operation_class=lists(answers.Binding, path=_ENDS),
)
async def bindings_of_exchange(request: ApiRequest, state: State, vhost: str, name: str, end: str) -> Any:
    """`source`: those that lead from it; `destination`: those that lead to it."""
    broker: Broker = state.broker
    request.user.require_visible(vhost)
    if end not in ("source", "destination"):
        raise BadRequest(f"an exchange is the source or the destination of a binding, and not its {end[:32]!r}")
    await _find(broker, vhost, name)
    where = {end: exchange_named(name)}
    if end == "destination":
        where["destination_type"] = "exchange"
    return await listed(broker, "binding", Paging.of(request.query_params), vhost=vhost, where=where)


async def _find(broker: Broker, vhost: str, name: str) -> Document:
    """Raises NotFound."""
    found = await broker.find("exchange", vhost, exchange_named(name))
    if found is None:
        raise NotFound
    return found


EXCHANGES: Final[list[Any]] = [
    exchanges,
    exchanges_of,
    exchange,
    declare_exchange,
    delete_exchange,
    bindings_of_exchange,
]
