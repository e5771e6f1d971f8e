"""`/api/vhost-limits`: how many connections and queues a virtual host may have."""

from typing import Any, Final

from litestar import delete, get, put
from litestar.datastructures import State

from ipc.messages.inventory import Document
from runtime.management import answers
from runtime.management.access import ADMINISTRATOR, ApiRequest, require
from runtime.management.bodies import read_body
from runtime.management.changing import carry_out, directory_of
from runtime.management.describing import does, gives_all
from runtime.management.errors import validated
from runtime.management.resources.users import LimitBody

_ADMINISTRATORS: Final = [require(ADMINISTRATOR)]


@get("/vhost-limits", summary="Virtual hosts that have limits", operation_class=gives_all(answers.VHostLimits))
async def vhost_limits(request: ApiRequest, state: State) -> list[Document]:
    directory = directory_of(state)
    visible = request.user.vhosts()
    return [
        {"vhost": vhost.name, "value": dict(limits)}
        for vhost in directory.vhosts()
        if (visible is None or vhost.name in visible) and (limits := directory.limits(vhost.name))
    ]


@get(
    "/vhost-limits/{vhost:str}",
    summary="The limits of one virtual host",
    operation_class=gives_all(answers.VHostLimits),
)
async def limits_of_vhost(request: ApiRequest, state: State, vhost: str) -> list[Document]:
    request.user.require_visible(vhost)
    limits = directory_of(state).limits(vhost)
    return [{"vhost": vhost, "value": dict(limits)}] if limits else []


@put(
    "/vhost-limits/{vhost:str}/{limit:str}",
    guards=_ADMINISTRATORS,
    status_code=204,
    summary="Limit a virtual host",
    operation_class=does(body=LimitBody),
)
async def put_vhost_limit(request: ApiRequest, state: State, vhost: str, limit: str) -> None:
    request.user.require_known(vhost)
    body = await read_body(request, LimitBody)
    with validated():
        await carry_out(state, directory_of(state).set_limit, vhost, limit, body.value)


@delete(
    "/vhost-limits/{vhost:str}/{limit:str}",
    guards=_ADMINISTRATORS,
    summary="Lift a limit of a virtual host",
    operation_class=does(),
)
async def delete_vhost_limit(request: ApiRequest, state: State, vhost: str, limit: str) -> None:
    directory = directory_of(state)
    request.user.require_known(vhost)
    if limit in directory.limits(vhost):
        await carry_out(state, directory.clear_limit, vhost, limit)


VHOST_LIMITS: Final[list[Any]] = [vhost_limits, limits_of_vhost, put_vhost_limit, delete_vhost_limit]
