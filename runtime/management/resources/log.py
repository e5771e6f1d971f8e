"""`/api/logs` and `/api/livelog`, LavinMQ's: what all processes of the broker have logged last, and what they log now.

A listener is sent what is kept already, then each line as it comes, in the form that browsers' `EventSource` reads:

```
id: 1714521600000-1714521590007                       milliseconds since 1970, and the number of the line
data: ["info","shard 0 compactor","memory reclaimed freed_bytes=4096"]
```
Whoever comes back with `Last-Event-ID` goes on from there, as far as lines are still kept; milliseconds alone will do.
Between two lines nothing is held for a listener. One that is slow loses lines, and is told how many in an event `lost`.
"""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, Final

import msgspec
from litestar import Response, get, post, put
from litestar.datastructures import State
from litestar.response import Stream
from msgspec import Struct

from ipc.limits import LOG_READERS_MAX, LOG_WAIT_SECONDS_MAX
from ipc.messages import control
from ipc.messages.inventory import Document
from ipc.settings import LogLevel
from runtime.management import answers
from runtime.management.access import ADMINISTRATOR, ApiRequest, Caller, require
from runtime.management.bodies import read_body
from runtime.management.broker import Broker
from runtime.management.describing import JSON, does, gives, query_text, tells
from runtime.management.errors import ApiError, BadRequest

_ADMINISTRATOR: Final = [require(ADMINISTRATOR)]
_SEVERITIES: Final = {"warning": "warn", "critical": "fatal"}  # as LavinMQ calls them
_EVENT_HEADERS: Final = {"X-Accel-Buffering": "no"}  # a proxy must not wait for more
_RETRY_MILLISECONDS: Final = 2000
_LAST: Final = (
    query_text("Last-Event-ID", "The last line that is known already.", pattern=r"^[0-9]{1,15}(-[0-9]{1,15})?$"),
)
_encode: Final = msgspec.json.Encoder().encode


class LevelBody(Struct, frozen=True):
    """From which level on is logged."""

    level: LogLevel


class Position(Struct, frozen=True):
    """The last line that a reader has seen: its number, or when it was logged, or neither."""

    number: int = 0
    milliseconds: int = 0

    @classmethod
    def of(cls, last_event_id: str | None) -> "Position":
        """Raises BadRequest for what we have not sent."""
        if not last_event_id:
            return cls()
        milliseconds, _, number = last_event_id.partition("-")
        if not all(part.isascii() and part.isdigit() and len(part) <= 15 for part in (milliseconds, number or "0")):
            raise BadRequest(f"Last-Event-ID is none of ours: {last_event_id[:64]!r}")
        return cls(int(number or 0), 0 if number else int(milliseconds))


def _milliseconds(line: control.LoggedLine) -> int:
    return int(datetime.fromisoformat(line.at).timestamp() * 1000)


def _severity(line: control.LoggedLine) -> str:
    return _SEVERITIES.get(line.level, line.level)


# all at once ----------------------------------------------------------------------------------------------------------


@get("/logs", guards=_ADMINISTRATOR, summary="What was logged last", operation_class=tells("text/plain", JSON))
async def logs(request: ApiRequest, state: State) -> Response[Any]:
    """As a text to be saved; as JSON to whoever prefers that."""
    broker: Broker = state.broker
    lines: list[tuple[int, control.LoggedLine]] = []
    after = 0
    while (found := await broker.log_lines(after)).lines:
        lines.extend(enumerate(found.lines, found.first))
        after = found.first + len(found.lines) - 1
    if "application/json" in request.headers.get("accept", ""):
        return Response([_document(number, line) for number, line in lines])
    text = "".join(f"{line.at} [{_severity(line).upper()}] {line.source} - {line.text}\n" for _, line in lines)
    headers = {"Content-Disposition": "attachment; filename=logs.txt"}
    return Response(text, media_type="text/plain; charset=utf-8", headers=headers)


def _document(number: int, line: control.LoggedLine) -> Document:
    return {
        "id": _identity(number, line),
        "timestamp": line.at,
        "severity": _severity(line),
        "source": line.source,
        "message": line.text,
    }


def _identity(number: int, line: control.LoggedLine) -> str:
    return f"{_milliseconds(line)}-{number}"


# as it comes ----------------------------------------------------------------------------------------------------------


@get(
    "/livelog",
    guards=_ADMINISTRATOR,
    summary="What is logged, as it comes",
    media_type="text/event-stream",
    operation_class=tells("text/event-stream", headers=_LAST),
)
async def live_log(request: ApiRequest, state: State) -> Stream:
    """Server-sent events, without an end; `Last-Event-ID` says where to go on."""
    broker: Broker = state.broker
    position = Position.of(request.headers.get("last-event-id"))
    if broker.log_readers.borrowed_tokens >= LOG_READERS_MAX:
        raise ApiError(503, f"{LOG_READERS_MAX} others listen to the log already")
    return Stream(_events(broker, request.user, position), media_type="text/event-stream", headers=_EVENT_HEADERS)


async def _events(broker: Broker, caller: Caller, position: Position) -> AsyncIterator[bytes]:
    """Until the listener has gone, or may not listen any more."""
    yield f"retry: {_RETRY_MILLISECONDS}\n\n".encode()
    after = position.number
    while caller.is_still(ADMINISTRATOR):
        async with broker.log_readers:
            found = await broker.log_lines(after, wait_seconds=LOG_WAIT_SECONDS_MAX)
        after = found.first + len(found.lines) - 1
        yield b"".join(_told(found, position.milliseconds)) or b": nothing new\n\n"


def _told(found: control.LogLines, since_milliseconds: int) -> list[bytes]:
    told = [_lost(found.lost)] if found.lost else []
    for number, line in enumerate(found.lines, found.first):
        if _milliseconds(line) <= since_milliseconds:
            continue
        if line.lost:
            told.append(_lost(line.lost))
        data = _encode((_severity(line), line.source, line.text)).decode()
        told.append(f"id: {_identity(number, line)}\ndata: {data}\n\n".encode())
    return told


def _lost(count: int) -> bytes:
    return b"event: lost\ndata: %d\n\n" % count


# how is logged --------------------------------------------------------------------------------------------------------


@get(
    "/log",
    guards=_ADMINISTRATOR,
    summary="Where the log goes, from which level on, and what is kept of it",
    operation_class=gives(answers.Log),
)
async def log(state: State) -> Document:
    return await _ask(state.broker, control.DescribeLog())


@put(
    "/log/level",
    guards=_ADMINISTRATOR,
    status_code=204,
    summary="Log from another level on, until settings are read",
    operation_class=does(body=LevelBody),
)
async def set_level(request: ApiRequest, state: State) -> None:
    body = await read_body(request, LevelBody)
    await _ask(state.broker, control.SetLogLevel(body.level))


@post("/log/rotate", guards=_ADMINISTRATOR, status_code=204, summary="Open the log file anew", operation_class=does())
async def rotate(state: State) -> None:
    """400 where there is none."""
    await _ask(state.broker, control.RotateLog())


async def _ask(broker: Broker, request: control.ControlRequest) -> Document:
    """The log as it is then."""
    for reply in await broker.control(request):
        if isinstance(reply, control.Refused):
            raise BadRequest(reply.text)
        if isinstance(reply, control.Log):
            document: Document = msgspec.to_builtins(reply)
            del document["say"]
            return document
    raise ApiError(503, "the supervisor does not say how it logs")


LOG: Final[list[Any]] = [logs, live_log, log, set_level, rotate]
