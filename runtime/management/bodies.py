"""Bodies of requests: JSON objects, read into a type, with RabbitMQ's leniency and a clear word on what is wrong.

Fields nobody knows are passed over, because clients of several versions send theirs. Numbers and booleans may come as
texts, which RabbitMQ's own tools do.
"""

from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec
from litestar import Request
from msgspec import Meta

from runtime.management.errors import ApiError, BadRequest

Body = TypeVar("Body")

Table: TypeAlias = dict[str, Any] | Annotated[list[Any], Meta(max_length=0)]
"""Arguments, headers: an object. An empty list is one without fields, because PHP knows no difference; use `dict()`."""


async def read_body(request: Request[Any, Any, Any], kind: type[Body]) -> Body:
    """Raises ApiError: 400 for what is no JSON, or not of this type, naming the field; 413 beyond the limit."""
    decoded = await read_object(request)
    try:
        return msgspec.convert(decoded, kind, strict=False)
    except msgspec.ValidationError as fault:
        raise BadRequest(str(fault)) from fault


async def read_object(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """Whatever stands in it. Raises ApiError."""
    raw = await request.body()
    media = request.headers.get("content-type", "application/json").partition(";")[0].strip()
    if raw and media and media not in ("application/json", "application/x-www-form-urlencoded", "text/plain"):
        raise ApiError(415, f"a body of type {media[:64]!r} is not understood, only application/json")
    return decoded_object(raw or b"{}")


def decoded_object(raw: bytes) -> dict[str, Any]:
    """Raises ApiError (400) for what is no JSON object."""
    try:
        decoded = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise BadRequest(f"not JSON: {fault}") from fault
    if not isinstance(decoded, dict):
        raise BadRequest("the body is not a JSON object")
    return decoded


def words(given: list[str] | str | None) -> tuple[str, ...]:
    """An array, or one text with commas, as RabbitMQ takes tags."""
    if isinstance(given, str):
        given = given.split(",")
    return tuple(dict.fromkeys(word.strip() for word in given or () if word.strip()))
