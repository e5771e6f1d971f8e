"""What RabbitMQ's tools ask for to learn what a broker can do: mostly that there is none of it here."""

from typing import Any, Final

from litestar import get
from litestar.datastructures import State

from ipc.messages.inventory import Document
from runtime.management.access import MONITORING, ApiRequest, require
from runtime.management.describing import gives, gives_all


@get("/extensions", summary="Parts of RabbitMQ's own pages", operation_class=gives_all())
async def extensions() -> list[Document]:
    return [{"javascript": "dispatcher.js"}]


@get("/feature-flags", summary="What RabbitMQ's nodes have to agree on", operation_class=gives_all())
async def feature_flags() -> list[Document]:
    return []


@get("/deprecated-features", summary="What RabbitMQ is about to drop", operation_class=gives_all())
async def deprecated_features() -> list[Document]:
    return []


@get("/deprecated-features/used", summary="The same, as far as it is used", operation_class=gives_all())
async def deprecated_features_used() -> list[Document]:
    return []


@get(
    ["/federation-links", "/federation-links/{vhost:str}"],
    summary="Federation, which there is none of",
    operation_class=gives_all(),
)
async def federation_links(request: ApiRequest) -> list[Document]:
    if vhost := request.path_params.get("vhost"):
        request.user.require_visible(vhost)
    return []


@get(
    ["/shovels", "/shovels/{vhost:str}"],
    guards=[require(MONITORING)],
    summary="Shovels, which there are none of",
    operation_class=gives_all(),
)
async def shovels(request: ApiRequest) -> list[Document]:
    if vhost := request.path_params.get("vhost"):
        request.user.require_visible(vhost)
    return []


@get("/auth", summary="How to log in", operation_class=gives())
async def auth(state: State) -> Document:
    return {"oauth_enabled": False, "oauth_client_id": "", "oauth_provider_url": ""}


EXTENSIONS: Final[list[Any]] = [
    extensions,
    feature_flags,
    deprecated_features,
    deprecated_features_used,
    federation_links,
    shovels,
    auth,
]
