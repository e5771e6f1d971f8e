"""`/api/bindings`: which exchange leads where; made and taken back as any client would."""

from typing import Any, Final
from urllib.parse import quote

from litestar import Response, delete, get, post
from litestar.datastructures import State
from msgspec import Struct
from pamqp import commands

from ipc.messages.inventory import Document, Unbind
from ipc.wire.amqp.properties_key import properties_key
from runtime.management import answers
from runtime.management.access import ApiRequest
from runtime.management.bodies import Table, read_body
from runtime.management.broker import Broker
from runtime.management.describing import binds, does, gives, lists
from runtime.management.empty import empty
from runtime.management.errors import BadRequest, NotFound
from runtime.management.inner_client import inner_client
from runtime.management.paging import Paging, listed

DEFAULT_EXCHANGE: Final = "amq.default"
"""What paths call the exchange that has no name."""

_DESTINATIONS: Final = {"q": "queue", "e": "exchange"}
_KINDS: Final = {"kind": {"enum": list(_DESTINATIONS)}}


class BindingBody(Struct, frozen=True):
    """Which messages take this way."""

    routing_key: str = ""
    arguments: Table = {}


def exchange_named(name: str) -> str:
    return "" if name == DEFAULT_EXCHANGE else name


@get("/bindings", summary="All bindings that may be seen", operation_class=lists(answers.Binding))
async def bindings(request: ApiRequest, state: State) -> Any:
    broker: Broker = state.broker
    return await listed(broker, "binding", Paging.of(request.query_params), vhosts=request.user.vhosts())


@get("/bindings/{vhost:str}", summary="The bindings of a virtual host", operation_class=lists(answers.Binding))
async def bindings_of(request: ApiRequest, state: State, vhost: str) -> Any:
    broker: Broker = state.broker
    request.user.require_visible(vhost)
    return await listed(broker, "binding", Paging.of(request.query_params), vhost=vhost)


@get(
    "/bindings/{vhost:str}/e/{source:str}/{kind:str}/{destination:str}",
    summary="The bindings between an exchange and a queue (kind q) or another exchange (kind e)",
    operation_class=lists(answers.Binding, path=_KINDS),
)
async def bindings_between(
    request: ApiRequest, state: State, vhost: str, source: str, kind: str, destination: str
) -> Any:
    broker: Broker = state.broker
    request.user.require_visible(vhost)
    where = {
        "source": exchange_named(source),
        "destination": _destination(kind, destination),
        "destination_type": _DESTINATIONS[kind],
    }
    return await listed(broker, "binding", Paging.of(request.query_params), vhost=vhost, where=where)


@post(
    "/bindings/{vhost:str}/e/{source:str}/{kind:str}/{destination:str}",
    summary="Bind a queue or an exchange to an exchange",
    operation_class=binds(BindingBody, path=_KINDS),
)
async def bind(
    request: ApiRequest, state: State, vhost: str, source: str, kind: str, destination: str
) -> Response[bytes]:
    """201, also where there was an equal one; `Location` says where it is, from here."""
    broker: Broker = state.broker
    request.user.require_vhost(vhost)
    source, target = exchange_named(source), _destination(kind, destination)
    body = await read_body(request, BindingBody)
    async with inner_client(broker, request.user.name, vhost) as client:
        if kind == "q":
            fields = {"queue": target, "exchange": source}
            await client.ask(commands.Queue.Bind, commands.Queue.BindOk, **fields, **_way(body))
        else:
            fields = {"destination": target, "source": source}
            await client.ask(commands.Exchange.Bind, commands.Exchange.BindOk, **fields, **_way(body))
    key = properties_key(body.routing_key, dict(body.arguments))
    location = f"{quote(destination, safe='')}/{quote(key, safe='~')}"
    return empty(201, {"Location": location})


@get(
    "/bindings/{vhost:str}/e/{source:str}/{kind:str}/{destination:str}/{key:str}",
    summary="One binding",
    operation_class=gives(answers.Binding, path=_KINDS),
)
async def binding(
    request: ApiRequest, state: State, vhost: str, source: str, kind: str, destination: str, key: str
) -> Document:
    request.user.require_visible(vhost)
    return await _find(state.broker, vhost, source, kind, destination, key)


@delete(
    "/bindings/{vhost:str}/e/{source:str}/{kind:str}/{destination:str}/{key:str}",
    summary="Take a binding back",
    operation_class=does(path=_KINDS),
)
async def unbind(
    request: ApiRequest, state: State, vhost: str, source: str, kind: str, destination: str, key: str
) -> None:
    broker: Broker = state.broker
    request.user.require_vhost(vhost)
    identity = (exchange_named(source), kind, _destination(kind, destination), key)
    await broker.perform(Unbind(vhost, identity, request.user.behalf(vhost)), vhost)


def _way(body: BindingBody) -> dict[str, Any]:
    return {"routing_key": body.routing_key, "arguments": dict(body.arguments)}


def _destination(kind: str, name: str) -> str:
    if kind not in _DESTINATIONS:
        raise BadRequest(f"a binding leads to a queue (q) or an exchange (e), and not to {kind[:32]!r}")
    return name if kind == "q" else exchange_named(name)


async def _find(broker: Broker, vhost: str, source: str, kind: str, destination: str, key: str) -> Document:
    target = _destination(kind, destination)
    found = await broker.find("binding", vhost, exchange_named(source), kind, target, key)
    if found is None:
        raise NotFound
    return found


BINDINGS: Final[list[Any]] = [bindings, bindings_of, bindings_between, bind, binding, unbind]
