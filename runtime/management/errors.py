"""What goes wrong, as RabbitMQ's API says it: a status and `{"error": …, "reason": …}`."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException

from ipc.errors import ReplyCode
from runtime.auth.directory import DirectoryRefusal
from runtime.management.broker import Refused, Unavailable
from runtime.management.options import allowed

_log: Final[structlog.stdlib.BoundLogger] = structlog.get_logger("management")

_ERRORS: Final = {
    400: "bad_request",
    401: "not_authorized",
    403: "forbidden",
    404: "Object Not Found",
    405: "Method Not Allowed",
    409: "conflict",
    412: "precondition_failed",
    413: "payload_too_large",
    415: "unsupported_media_type",
    422: "unprocessable",
    429: "too_many_requests",
    500: "internal_server_error",
    503: "unavailable",
}


_CHALLENGE: Final = {"WWW-Authenticate": 'Basic realm="EbbMQ Management"'}
_CODE: Final = re.compile(r"^[A-Z_]+ - ")  # RabbitMQ's API leaves it out, as its status says it


class ApiError(Exception):
    """A request that is not carried out."""

    def __init__(self, status: int, reason: str, *, error: str | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.error = error or _ERRORS[status]
        self.details: dict[str, Any] = {}
        """What else the answer says."""
        self.headers: dict[str, str] = {}


class BadRequest(ApiError):
    def __init__(self, reason: str) -> None:
        super().__init__(400, reason)


class NotAuthorized(ApiError):
    """Who asks may not, or is not known: the same status, as RabbitMQ does."""

    def __init__(self, reason: str) -> None:
        super().__init__(401, reason)


class NotFound(ApiError):
    def __init__(self, reason: str = "Not Found") -> None:
        super().__init__(404, reason)


@contextmanager
def validated() -> Iterator[None]:
    """What the directory refuses in here is told as RabbitMQ tells of what it validates."""
    try:
        yield
    except DirectoryRefusal as refusal:
        raise BadRequest(f"Validation failed\n\n{refusal}\n") from refusal


Answer = Response[dict[str, Any]]


def _answer(status: int, error: str, reason: str, **details: Any) -> Answer:
    headers = _CHALLENGE if status == 401 else {}
    return Response({"error": error, "reason": reason, **details}, status_code=status, headers=headers)


def _api_error(_request: Request[Any, Any, Any], fault: ApiError) -> Answer:
    answer = _answer(fault.status, fault.error, fault.reason, **fault.details)
    answer.headers.update(fault.headers)
    return answer


def _refused(_request: Request[Any, Any, Any], refused: Refused) -> Answer:
    """What a client would have been told, as RabbitMQ's API passes it on."""
    text = _CODE.sub("", refused.text)
    if refused.code == ReplyCode.NOT_FOUND:
        return _answer(404, _ERRORS[404], text or "Not Found")
    if refused.code in (ReplyCode.ACCESS_REFUSED, ReplyCode.NOT_ALLOWED):
        return _answer(401, _ERRORS[401], text)
    if refused.code == ReplyCode.INTERNAL_ERROR:
        return _answer(503, _ERRORS[503], text)
    return _answer(400, _ERRORS[400], text)


def _not_changed(_request: Request[Any, Any, Any], refusal: DirectoryRefusal) -> Answer:
    return _answer(400, _ERRORS[400], str(refusal))


def _unavailable(_request: Request[Any, Any, Any], fault: Unavailable) -> Answer:
    return _answer(503, _ERRORS[503], str(fault))


def _invalid(_request: Request[Any, Any, Any], fault: ValidationException) -> Answer:
    found = fault.extra if isinstance(fault.extra, list) else []
    told = "; ".join(f"{one.get('key', 'request')}: {one.get('message')}" for one in found if isinstance(one, dict))
    return _answer(400, _ERRORS[400], told or fault.detail)


def _http(_request: Request[Any, Any, Any], fault: HTTPException) -> Answer:
    answer = _answer(fault.status_code, _ERRORS.get(fault.status_code, "error"), fault.detail)
    headers = dict(fault.headers or {})
    if "allow" in headers:
        headers["allow"] = allowed(headers["allow"].split(", "))
    answer.headers.update(headers)
    return answer


def _defect(request: Request[Any, Any, Any], fault: Exception) -> Answer:
    _log.error("request failed", method=request.method, path=request.url.path, exc_info=fault)
    return _answer(500, _ERRORS[500], "the management process has a defect, see its log")


HANDLERS: Final[dict[int | type[Exception], Any]] = {
    ApiError: _api_error,
    Refused: _refused,
    DirectoryRefusal: _not_changed,
    Unavailable: _unavailable,
    ValidationException: _invalid,
    HTTPException: _http,
    Exception: _defect,
}
