"""`/api/definitions`: everything that is declared and laid down as one file, to be taken away and brought back."""

from collections.abc import AsyncIterator
from typing import Any, Final

from litestar import get, post
from litestar.datastructures import State, UploadFile
from litestar.response import Stream

from runtime.management.access import ADMINISTRATOR, ApiRequest, require
from runtime.management.bodies import decoded_object, read_object
from runtime.management.changing import directory_of
from runtime.management.definitions.exporting import exported
from runtime.management.definitions.file import Content, ContentOfVHost
from runtime.management.definitions.importing import Importing
from runtime.management.describing import gives, imports, query_text
from runtime.management.errors import BadRequest
from runtime.management.resources.overview import COMPATIBLE_VERSION

_GUARDS: Final = [require(ADMINISTRATOR)]
_DOWNLOAD: Final = query_text("download", "The name of a file that a browser is to save them in.")
_MULTIPART: Final = "multipart/form-data"


async def _file(request: ApiRequest, state: State, vhost: str | None) -> Stream:
    headers = {}
    name = request.query_params.get("download")
    if name:
        shown = "".join(letter for letter in str(name) if letter.isascii() and (letter.isalnum() or letter in "._-"))
        headers["Content-Disposition"] = f'attachment; filename="{shown or "definitions.json"}"'
    pieces = exported(state.broker, directory_of(state), vhost, like_rabbitmq=COMPATIBLE_VERSION)
    first = await anext(pieces)  # of a small file all: what goes wrong with it can still be told
    return Stream(_behind(first, pieces), media_type="application/json", headers=headers)


async def _behind(first: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in pieces:
        yield piece


async def _read(request: ApiRequest) -> dict[str, Any]:
    """The body, or the file in a form."""
    if not request.headers.get("content-type", "").startswith(_MULTIPART):
        return await read_object(request)
    form = await request.form()
    for _name, part in form.multi_items():
        if isinstance(part, UploadFile):
            return decoded_object(await part.read())
    raise BadRequest("there is no file in the form")


async def _import(request: ApiRequest, state: State, vhost: str | None) -> None:
    document = await _read(request)
    async with state.importing:
        await Importing(state.broker, directory_of(state), document, vhost).run()


@get(
    "/definitions",
    guards=_GUARDS,
    summary="Definitions of everything; ?download=NAME to save them",
    operation_class=gives(None, _DOWNLOAD),
)
async def definitions(request: ApiRequest, state: State) -> Stream:
    return await _file(request, state, None)


@get(
    "/definitions/{vhost:str}",
    guards=_GUARDS,
    summary="Definitions of one virtual host",
    operation_class=gives(None, _DOWNLOAD),
)
async def definitions_of(request: ApiRequest, state: State, vhost: str) -> Stream:
    request.user.require_known(vhost)
    return await _file(request, state, vhost)


@post(
    ["/definitions", "/definitions/upload"],
    guards=_GUARDS,
    status_code=204,
    summary="Import definitions",
    operation_class=imports(Content),
)
async def import_definitions(request: ApiRequest, state: State) -> None:
    """A JSON body, or a form with a file; all of it, or nothing and 400 with what is wrong where."""
    await _import(request, state, None)


@post(
    ["/definitions/{vhost:str}", "/definitions/{vhost:str}/upload"],
    guards=_GUARDS,
    status_code=204,
    summary="Import definitions into one virtual host",
    operation_class=imports(ContentOfVHost),
)
async def import_definitions_of(request: ApiRequest, state: State, vhost: str) -> None:
    """Policies, parameters, exchanges, queues and bindings; what else is in the file is passed over."""
    request.user.require_known(vhost)
    await _import(request, state, vhost)


DEFINITIONS: Final[list[Any]] = [definitions, definitions_of, import_definitions, import_definitions_of]
