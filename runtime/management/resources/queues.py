"""`/api/queues`: lists, single queues, and what one can do to them but to their messages."""

from collections.abc import Mapping
from typing import Any, Final, Literal

from litestar import Response, delete, get, post, put
from litestar.datastructures import State
from msgspec import Struct, structs
from pamqp import commands

from ipc.limits import CONSUMERS_DETAILED_MAX
from ipc.messages.inventory import Document, ListUnacknowledged, Pause
from runtime.management import answers
from runtime.management.access import ADMINISTRATOR, ApiRequest, require
from runtime.management.bodies import Table, read_body
from runtime.management.broker import Broker
from runtime.management.describing import COLUMNS, does, gives, lists, makes, query_flag, query_number, refuses
from runtime.management.empty import declared
from runtime.management.errors import BadRequest, NotFound
from runtime.management.inner_client import inner_client
from runtime.management.paging import Paging, chosen, flag, listed, number, paged

# What RabbitMQ shows of a queue while nobody wants statistics, and what beside it where totals are wanted all the same.
_DEFINITION: Final = ("name", "vhost", "type", "durable", "auto_delete", "exclusive", "arguments", "node", "state")
_TOTALS: Final = ("messages", "messages_ready", "messages_unacknowledged")
_STATISTICS: Final = (
    query_flag("disable_stats", "Without what changes all the time."),
    query_flag("enable_queue_totals", "With numbers of messages even then."),
)
_LENGTH: Final = query_number("consumer_list_length", "At most so many consumers.", high=CONSUMERS_DETAILED_MAX)


class QueueBody(Struct, frozen=True):
    """What a queue is to be; `node` is passed over, for there is one."""

    durable: bool = False
    auto_delete: bool = False
    arguments: Table = {}


class ActionBody(Struct, frozen=True):
    """What RabbitMQ does to the copies of a queue; here there is one, which is in step with itself."""

    action: Literal["sync", "cancel_sync"]


@get("/queues", summary="All queues that may be seen", operation_class=lists(answers.Queue, *_STATISTICS))
async def queues(request: ApiRequest, state: State) -> Any:
    """`disable_stats`: without what changes all the time; `enable_queue_totals`: with numbers of messages even then."""
    broker: Broker = state.broker
    return await listed(broker, "queue", _paging(request.query_params), vhosts=request.user.vhosts())


@get("/queues/{vhost:str}", summary="The queues of a virtual host", operation_class=lists(answers.Queue, *_STATISTICS))
async def queues_of(request: ApiRequest, state: State, vhost: str) -> Any:
    broker: Broker = state.broker
    request.user.require_visible(vhost)
    return await listed(broker, "queue", _paging(request.query_params), vhost=vhost)


@get(
    "/queues/{vhost:str}/{name:str}",
    summary="One queue",
    operation_class=gives(answers.Queue, *_STATISTICS, COLUMNS, _LENGTH),
)
async def queue(request: ApiRequest, state: State, vhost: str, name: str) -> Document:
    """With its consumers, `consumer_details`; `consumer_list_length`: at most so many of them."""
    request.user.require_visible(vhost)
    paging = _paging(request.query_params)
    length = number(request.query_params, "consumer_list_length", None, 0, CONSUMERS_DETAILED_MAX)
    found = await _find(state.broker, vhost, name)
    if length is not None:
        found["consumer_details"] = found["consumer_details"][:length]
    return chosen(found, paging.columns)


def _paging(query: Mapping[str, Any]) -> Paging:
    """Raises BadRequest for values that are none."""
    paging = Paging.of(query)
    is_brief, has_totals = flag(query, "disable_stats"), flag(query, "enable_queue_totals")
    if not is_brief or paging.columns:
        return paging
    return structs.replace(paging, columns=_DEFINITION + _TOTALS if has_totals else _DEFINITION)


@put("/queues/{vhost:str}/{name:str}", summary="Declare a queue", operation_class=makes(QueueBody))
async def declare_queue(request: ApiRequest, state: State, vhost: str, name: str) -> Response[bytes]:
    """201 where it was made, 204 where an equal one was there."""
    broker: Broker = state.broker
    request.user.require_vhost(vhost)
    body = await read_body(request, QueueBody)
    is_there = await broker.has("queue", vhost, name)
    async with inner_client(broker, request.user.name, vhost) as client:
        await client.ask(
            commands.Queue.Declare,
            commands.Queue.DeclareOk,
            queue=name,
            durable=body.durable,
            auto_delete=body.auto_delete,
            arguments=dict(body.arguments),
        )
    return declared(is_new=not is_there)


@delete(
    "/queues/{vhost:str}/{name:str}",
    summary="Delete a queue",
    operation_class=does(query_flag("if-unused"), query_flag("if-empty")),
)
async def delete_queue(request: ApiRequest, state: State, vhost: str, name: str) -> None:
    broker: Broker = state.broker
    request.user.require_vhost(vhost)
    if_unused, if_empty = (flag(request.query_params, name) for name in ("if-unused", "if-empty"))
    await _require(broker, vhost, name)
    async with inner_client(broker, request.user.name, vhost) as client:
        await client.ask(
            commands.Queue.Delete,
            commands.Queue.DeleteOk,
            queue=name,
            if_unused=if_unused,
            if_empty=if_empty,
        )


@get(
    "/queues/{vhost:str}/{name:str}/bindings",
    summary="The bindings that lead to a queue",
    operation_class=lists(answers.Binding),
)
async def bindings_of_queue(request: ApiRequest, state: State, vhost: str, name: str) -> Any:
    broker: Broker = state.broker
    request.user.require_visible(vhost)
    await _require(broker, vhost, name)
    where = {"destination": name, "destination_type": "queue"}
    return await listed(broker, "binding", Paging.of(request.query_params), vhost=vhost, where=where)


@get(
    "/queues/{vhost:str}/{name:str}/unacked",
    summary="What was handed out and waits to be acknowledged",
    operation_class=lists(),
)
async def unacknowledged(request: ApiRequest, state: State, vhost: str, name: str) -> Any:
    broker: Broker = state.broker
    request.user.require_visible(vhost)
    paging = Paging.of(request.query_params)
    return paged(await broker.documents(ListUnacknowledged(vhost, name), vhost), paging)


@post(
    "/queues/{vhost:str}/{name:str}/actions",
    summary="Synchronise the copies of a queue",
    status_code=204,
    guards=[require(ADMINISTRATOR)],
    operation_class=does(body=ActionBody),
)
async def act(request: ApiRequest, state: State, vhost: str, name: str) -> None:
    request.user.require_vhost(vhost)
    await read_body(request, ActionBody)
    await _require(state.broker, vhost, name)


# pausing --------------------------------------------------------------------------------------------------------------


@put(
    "/queues/{vhost:str}/{name:str}/pause",
    summary="Hand nothing out until it is resumed",
    status_code=204,
    operation_class=does(),
)
async def pause(request: ApiRequest, state: State, vhost: str, name: str) -> None:
    await _pause(request, state.broker, vhost, name, is_paused=True)


@put("/queues/{vhost:str}/{name:str}/resume", summary="Hand out again", status_code=204, operation_class=does())
async def resume(request: ApiRequest, state: State, vhost: str, name: str) -> None:
    await _pause(request, state.broker, vhost, name, is_paused=False)


async def _pause(request: ApiRequest, broker: Broker, vhost: str, name: str, *, is_paused: bool) -> None:
    request.user.require_vhost(vhost)
    await broker.perform(Pause(vhost, name, is_paused, request.user.behalf(vhost)), vhost)


@put(
    "/queues/{vhost:str}/{name:str}/restart",
    summary="Open a queue that closed",
    status_code=204,
    operation_class=refuses(),
)
async def restart(request: ApiRequest, state: State, vhost: str, name: str) -> None:
    """400: no queue closes by itself here, where LavinMQ closes those it cannot read."""
    request.user.require_vhost(vhost)
    await _require(state.broker, vhost, name)
    raise BadRequest("the queue is not closed")


async def _find(broker: Broker, vhost: str, name: str) -> Document:
    """Raises NotFound."""
    found = await broker.find("queue", vhost, name)
    if found is None:
        raise NotFound
    return found


async def _require(broker: Broker, vhost: str, name: str) -> None:
    """Raises NotFound."""
    if not await broker.has("queue", vhost, name):
        raise NotFound


QUEUES: Final[list[Any]] = [
    queues,
    queues_of,
    queue,
    declare_queue,
    delete_queue,
    bindings_of_queue,
    unacknowledged,
    act,
    pause,
    resume,
    restart,
]
