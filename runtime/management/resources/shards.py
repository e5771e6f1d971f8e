"""`/api/shards` and moving a virtual host from one to another, which no other broker has."""

from typing import Any, Final

import msgspec
import trio
from litestar import get, post
from litestar.datastructures import State
from msgspec import Struct

from ipc.messages.inventory import Document
from runtime.management.access import ADMINISTRATOR, MONITORING, ApiRequest, require
from runtime.management.bodies import read_body
from runtime.management.broker import Broker
from runtime.management.describing import does, gives_all
from runtime.management.errors import BadRequest, NotFound
from runtime.management.resources.nodes import status_of


class MoveBody(Struct, frozen=True):
    """Where to."""

    shard: int


@get("/shards", guards=[require(MONITORING)], summary="All shards that run", operation_class=gives_all())
async def shards(state: State) -> list[Document]:
    _status, found = await status_of(state.broker)
    documents = [msgspec.to_builtins(shard) for shard in found]
    return [{name: value for name, value in document.items() if name != "say"} for document in documents]


@post(
    "/vhosts/{vhost:str}/move",
    guards=[require(ADMINISTRATOR)],
    status_code=204,
    summary="Have another shard own a virtual host",
    operation_class=does(body=MoveBody),
)
async def move_vhost(request: ApiRequest, state: State, vhost: str) -> None:
    """Its clients are told to go, and find it on the new shard when they come back; answered when it is open there."""
    broker: Broker = state.broker
    directory = request.user.directory
    if directory.find_vhost(vhost) is None:
        raise NotFound
    body = await read_body(request, MoveBody)
    count = broker.settings.main.shards
    if not 0 <= body.shard < count:
        raise BadRequest(f"shard must be a number of 0 to {count - 1}, and is {body.shard}")
    await trio.to_thread.run_sync(directory.pin, vhost, body.shard)
    await broker.follow()


SHARDS: Final[list[Any]] = [shards, move_vhost]
