"""`/api/vhosts`: virtual hosts, what they are for, and how many messages are in them."""

from typing import Any, Final

from litestar import Response, delete, get, put
from litestar.datastructures import State
from msgspec import Struct

from ipc.messages.inventory import CountAll, Document
from runtime.auth.directory import EVERYTHING, Directory, VHost
from runtime.management import answers
from runtime.management.access import ADMINISTRATOR, ApiRequest, require
from runtime.management.bodies import read_body, words
from runtime.management.broker import Broker
from runtime.management.changing import carry_out, directory_of
from runtime.management.describing import does, gives, gives_all, lists, makes
from runtime.management.documents import UNDEFINED, metadata, permission_document, queue_type, topic_permission_document
from runtime.management.empty import declared
from runtime.management.errors import NotFound
from runtime.management.paging import Paging, paged

_GUARDS: Final = [require(ADMINISTRATOR)]
_COUNTS: Final = ("messages", "messages_ready", "messages_unacknowledged")


class VHostBody(Struct, frozen=True):
    """`tags` as an array, or as one text with commas. `tracing` is taken and does nothing."""

    description: str | None = None
    tags: list[str] | str | None = None
    default_queue_type: str | None = None
    tracing: bool = False


def _document(broker: Broker, vhost: VHost, counts: Document) -> Document:
    return {
        "name": vhost.name,
        "description": vhost.description,
        "tags": list(vhost.tags),
        "default_queue_type": vhost.default_queue_type or UNDEFINED,
        "metadata": metadata(vhost),
        "tracing": False,
        "cluster_state": {broker.node: "running"},
        "dir": str(vhost.number),
        **{name: counts.get(name, 0) for name in _COUNTS},
    }


async def _counts(broker: Broker, names: frozenset[str] | None) -> dict[str, Document]:
    documents = await broker.totals(CountAll(names, by_vhost=True))
    return {document["name"]: document["objects"] for document in documents if "name" in document}


def known_vhost(directory: Directory, name: str) -> VHost:
    """Raises NotFound."""
    vhost = directory.find_vhost(name)
    if vhost is None:
        raise NotFound
    return vhost


@get("/vhosts", summary="All virtual hosts that may be seen", operation_class=lists(answers.VHost))
async def vhosts(request: ApiRequest, state: State) -> Any:
    visible = request.user.vhosts()
    counts = await _counts(state.broker, visible)
    found = sorted(directory_of(state).vhosts(), key=lambda vhost: vhost.name)
    documents = [
        _document(state.broker, vhost, counts.get(vhost.name, {}))
        for vhost in found
        if visible is None or vhost.name in visible
    ]
    return paged(documents, Paging.of(request.query_params))


@get("/vhosts/{vhost:str}", guards=_GUARDS, summary="One virtual host", operation_class=gives(answers.VHost))
async def vhost_named(state: State, vhost: str) -> Document:
    found = known_vhost(directory_of(state), vhost)
    counts = await _counts(state.broker, frozenset({vhost}))
    return _document(state.broker, found, counts.get(vhost, {}))


@put(
    "/vhosts/{vhost:str}",
    guards=_GUARDS,
    summary="Add a virtual host, or describe one",
    operation_class=makes(VHostBody),
)
async def put_vhost(request: ApiRequest, state: State, vhost: str) -> Response[bytes]:
    """Whoever adds one may do everything in it; 201 where it was added, 204 where it was there."""
    body = await read_body(request, VHostBody)
    directory = directory_of(state)
    found = directory.find_vhost(vhost)
    was_there = found is not None
    default_queue_type = body.default_queue_type
    if default_queue_type is None and found is not None:  # RabbitMQ leaves it as it is, too
        default_queue_type = found.default_queue_type

    def change() -> None:
        with directory.together():
            directory.put_vhost(
                vhost,
                description=body.description or "",
                tags=words(body.tags),
                default_queue_type=queue_type(default_queue_type or ""),
            )
            if not was_there and request.user.name:  # the operator at the machine has no need of it
                directory.set_permissions(request.user.name, vhost, EVERYTHING)

    await carry_out(state, change)
    return declared(is_new=not was_there)


@delete(
    "/vhosts/{vhost:str}",
    guards=_GUARDS,
    summary="Delete a virtual host with all there is in it",
    operation_class=does(),
)
async def delete_vhost(state: State, vhost: str) -> None:
    directory = directory_of(state)
    known_vhost(directory, vhost)
    await carry_out(state, directory.delete_vhost, vhost)


@get(
    "/vhosts/{vhost:str}/permissions",
    guards=_GUARDS,
    summary="Who may do what in a virtual host",
    operation_class=gives_all(answers.Permission),
)
async def permissions_in(state: State, vhost: str) -> list[Document]:
    directory = directory_of(state)
    known_vhost(directory, vhost)
    return [permission_document(*row) for row in directory.permissions() if row[1] == vhost]


@get(
    "/vhosts/{vhost:str}/topic-permissions",
    guards=_GUARDS,
    summary="Who may use which routing keys there",
    operation_class=gives_all(answers.TopicPermission),
)
async def topic_permissions_in(state: State, vhost: str) -> list[Document]:
    directory = directory_of(state)
    known_vhost(directory, vhost)
    return [topic_permission_document(*row) for row in directory.topic_permissions() if row[1] == vhost]


VHOSTS: Final[list[Any]] = [vhosts, vhost_named, put_vhost, delete_vhost, permissions_in, topic_permissions_in]
