"""Answers without a body: RabbitMQ's 201 and 204."""

from collections.abc import Mapping

from litestar import Response
from litestar.enums import MediaType


def empty(status: int, headers: Mapping[str, str] | None = None) -> Response[bytes]:
    return Response(b"", status_code=status, headers=dict(headers or {}), media_type=MediaType.TEXT)


def declared(*, is_new: bool) -> Response[bytes]:
    """201 where it was made, 204 where an equal one was there."""
    return empty(201 if is_new else 204)
