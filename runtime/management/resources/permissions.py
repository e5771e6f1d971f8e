"""`/api/permissions` and `/api/topic-permissions`: who may do what where."""

from typing import Any, Final

from litestar import Response, delete, get, put
from litestar.datastructures import State
from msgspec import Struct

from ipc.messages.commands import Permissions, TopicPermissions
from ipc.messages.inventory import Document
from runtime.auth.directory import Directory
from runtime.management import answers
from runtime.management.access import ADMINISTRATOR, ApiRequest, require
from runtime.management.bodies import read_body
from runtime.management.changing import carry_out, directory_of
from runtime.management.describing import does, gives, gives_all, lists, makes
from runtime.management.documents import permission_document, topic_permission_document
from runtime.management.empty import declared
from runtime.management.errors import BadRequest, NotFound
from runtime.management.paging import Paging, paged

_GUARDS: Final = [require(ADMINISTRATOR)]


class PermissionsBody(Struct, frozen=True):
    """Regular expressions for names; an empty one denies."""

    configure: str
    write: str
    read: str


class TopicPermissionsBody(Struct, frozen=True):
    """Regular expressions for routing keys on one topic exchange; an empty one denies."""

    exchange: str
    write: str
    read: str


def _require_both(directory: Directory, vhost: str, user: str) -> None:
    """RabbitMQ's word for it."""
    if directory.find_vhost(vhost) is None or directory.find_user(user) is None:
        raise BadRequest("vhost_or_user_not_found")


@get("/permissions", guards=_GUARDS, summary="All permissions", operation_class=lists(answers.Permission))
async def permissions(request: ApiRequest, state: State) -> Any:
    documents = [permission_document(*row) for row in directory_of(state).permissions()]
    return paged(documents, Paging.of(request.query_params))


@get(
    "/permissions/{vhost:str}/{user:str}",
    guards=_GUARDS,
    summary="What a user may do in a virtual host",
    operation_class=gives(answers.Permission),
)
async def permissions_of(state: State, vhost: str, user: str) -> Document:
    granted = directory_of(state).find_permissions(user, vhost)
    if granted is None:
        raise NotFound
    return permission_document(user, vhost, granted)


@put(
    "/permissions/{vhost:str}/{user:str}",
    guards=_GUARDS,
    summary="Let a user do something in a virtual host",
    operation_class=makes(PermissionsBody),
)
async def put_permissions(request: ApiRequest, state: State, vhost: str, user: str) -> Response[bytes]:
    directory = directory_of(state)
    body = await read_body(request, PermissionsBody)
    _require_both(directory, vhost, user)
    was_there = directory.find_permissions(user, vhost) is not None
    granted = Permissions(body.configure, body.write, body.read)
    await carry_out(state, directory.set_permissions, user, vhost, granted)
    return declared(is_new=not was_there)


@delete(
    "/permissions/{vhost:str}/{user:str}",
    guards=_GUARDS,
    summary="Keep a user out of a virtual host",
    operation_class=does(),
)
async def delete_permissions(state: State, vhost: str, user: str) -> None:
    directory = directory_of(state)
    if directory.find_permissions(user, vhost) is None:
        raise NotFound
    await carry_out(state, directory.clear_permissions, user, vhost)


# topics ---------------------------------------------------------------------------------------------------------------


def _topics(directory: Directory, vhost: str, user: str) -> list[Document]:
    return [topic_permission_document(*row) for row in directory.topic_permissions() if row[:2] == (user, vhost)]


@get(
    "/topic-permissions",
    guards=_GUARDS,
    summary="All topic permissions",
    operation_class=lists(answers.TopicPermission),
)
async def topic_permissions(request: ApiRequest, state: State) -> Any:
    documents = [topic_permission_document(*row) for row in directory_of(state).topic_permissions()]
    return paged(documents, Paging.of(request.query_params))


@get(
    "/topic-permissions/{vhost:str}/{user:str}",
    guards=_GUARDS,
    summary="A user's topic permissions there",
    operation_class=gives_all(answers.TopicPermission),
)
async def topic_permissions_of(state: State, vhost: str, user: str) -> list[Document]:
    found = _topics(directory_of(state), vhost, user)
    if not found:
        raise NotFound
    return found


@put(
    "/topic-permissions/{vhost:str}/{user:str}",
    guards=_GUARDS,
    summary="Narrow down a user's routing keys",
    operation_class=makes(TopicPermissionsBody),
)
async def put_topic_permissions(request: ApiRequest, state: State, vhost: str, user: str) -> Response[bytes]:
    directory = directory_of(state)
    body = await read_body(request, TopicPermissionsBody)
    _require_both(directory, vhost, user)
    was_there = any(topic["exchange"] == body.exchange for topic in _topics(directory, vhost, user))
    granted = TopicPermissions(body.exchange, body.write, body.read)
    await carry_out(state, directory.set_topic_permissions, user, vhost, granted)
    return declared(is_new=not was_there)


@delete(
    ["/topic-permissions/{vhost:str}/{user:str}", "/topic-permissions/{vhost:str}/{user:str}/{exchange:str}"],
    guards=_GUARDS,
    summary="Lift a user's topic permissions, of one exchange or all",
    operation_class=does(),
)
async def delete_topic_permissions(state: State, vhost: str, user: str, exchange: str | None = None) -> None:
    directory = directory_of(state)
    if not any(exchange in (None, topic["exchange"]) for topic in _topics(directory, vhost, user)):
        raise NotFound
    await carry_out(state, directory.clear_topic_permissions, user, vhost, exchange)


PERMISSIONS: Final[list[Any]] = [
    permissions,
    permissions_of,
    put_permissions,
    delete_permissions,
    topic_permissions,
    topic_permissions_of,
    put_topic_permissions,
    delete_topic_permissions,
]
