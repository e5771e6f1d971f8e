"""What all processes write to their log: one event a line with its fields, as text for people or as JSON for machines.

```
log = structlog.get_logger("compactor")          once a module or object; configured now or later
log.info("memory reclaimed", freed_bytes=4096)
2024-05-01T12:00:00.000000Z [info     ] memory reclaimed               [compactor] shard=1 freed_bytes=4096
{"event":"memory reclaimed","level":"info","timestamp":"…","logger":"compactor","shard":1,"freed_bytes":4096}
```
Whatever happens to the stream, logging raises nothing: a full disk or a closed pipe costs lines, never a client.
"""

import json
import sys
import traceback
from types import TracebackType
from typing import Any, Final, TextIO

import structlog
from structlog.typing import EventDict, Processor

from ipc.limits import TRACEBACK_FRAMES_MAX
from ipc.settings import LogFormat, LogLevel

_RANKS: Final = {"debug": 0, "info": 1, "warning": 2, "warn": 2, "error": 3, "exception": 3, "critical": 4}


def configure_logging(
    level: LogLevel, log_format: LogFormat, *, shard: int | None = None, stream: TextIO | None = None
) -> None:
    """Set how this process logs, or change it: loggers follow. Without `stream` it is whatever stderr is then."""
    processors: list[Processor] = [
        _Threshold(level),
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _Origin(shard),
        *_RENDERINGS[log_format](stream or sys.stderr),
    ]
    if structlog.is_configured():
        # In place, because loggers with bound fields hold this very list.
        processors_in_use: list[Processor] = structlog.get_config()["processors"]
        processors_in_use[:] = processors
        processors = processors_in_use
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(0),
        logger_factory=_LineLoggers(stream),
        cache_logger_on_first_use=False,
    )


class _Threshold:
    """Drops what is below the level."""

    def __init__(self, level: LogLevel) -> None:
        self._rank = _RANKS[level]

    def __call__(self, logger: Any, method: str, event: EventDict) -> EventDict:
        if _RANKS.get(method, self._rank) < self._rank:
            raise structlog.DropEvent
        return event


class _Origin:
    """Says which part of which process speaks, unless the event does."""

    def __init__(self, shard: int | None) -> None:
        self._shard = shard

    def __call__(self, logger: Any, method: str, event: EventDict) -> EventDict:
        origin: dict[str, Any] = {}
        if logger is not None and logger.name:
            origin["logger"] = logger.name
        if self._shard is not None:
            origin["shard"] = self._shard
        return {**origin, **event}


# rendering ------------------------------------------------------------------------------------------------------------


def _for_people(stream: TextIO) -> list[Processor]:
    return [
        _exception_in_line,
        _escape,
        structlog.dev.ConsoleRenderer(colors=_is_terminal(stream), sort_keys=False),
    ]


def _for_machines(_stream: TextIO) -> list[Processor]:
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_json)]


_RENDERINGS: Final = {"text": _for_people, "json": _for_machines}


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except (OSError, ValueError, AttributeError):
        return False


def _json(event: Any, **_options: Any) -> str:
    return json.dumps(event, default=repr, separators=(",", ":"), skipkeys=True)


def _escape(logger: Any, method: str, event: EventDict) -> EventDict:
    # Names come from clients: none may clear a terminal or look like the beginning of another line.
    shown = {
        key: _Escaped(value) if isinstance(value, str) and not value.isprintable() else value
        for key, value in event.items()
    }
    shown["event"] = str(shown["event"])
    return shown


class _Escaped:
    """Text that stands in the log as Python would write it."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return repr(self._text)


def _exception_in_line(logger: Any, method: str, event: EventDict) -> EventDict:
    fault = _fault(event.pop("exc_info", None))
    if fault is not None:
        event["fault"] = _described(fault)
    return event


def _fault(exc_info: Any) -> BaseException | None:
    if isinstance(exc_info, BaseException):
        return exc_info
    if isinstance(exc_info, tuple):
        return exc_info[1]  # type: ignore[no-any-return]
    return sys.exception() if exc_info else None


def _described(fault: BaseException) -> str:
    """Exception, innermost frame first, causes and members of groups: what a traceback says, in one line."""
    text = f"{type(fault).__name__}: {fault}{_frames(fault.__traceback__)}"
    if isinstance(fault, BaseExceptionGroup):
        text += " [" + "; ".join(_described(member) for member in fault.exceptions) + "]"
    return f"{text} caused by {_described(fault.__cause__)}" if fault.__cause__ is not None else text


def _frames(trace: TracebackType | None) -> str:
    frames = traceback.extract_tb(trace)[-TRACEBACK_FRAMES_MAX:]
    frames.reverse()
    return "".join(f" < {frame.filename}:{frame.lineno} {frame.name}" for frame in frames)


# writing --------------------------------------------------------------------------------------------------------------


class _LineLoggers:
    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def __call__(self, name: str = "", *_: Any) -> "_LineLogger":
        return _LineLogger(name, self._stream)


class _LineLogger:
    """Writes finished lines, each in one call, so that processes that share a stream do not mix theirs."""

    def __init__(self, name: str, stream: TextIO | None) -> None:
        self.name = name
        self._stream = stream

    def msg(self, line: str) -> None:
        stream = self._stream or sys.stderr
        try:
            try:
                stream.write(line + "\n")
            except UnicodeEncodeError:
                stream.write(line.encode("ascii", "backslashreplace").decode("ascii") + "\n")
            stream.flush()
        except (OSError, ValueError, AttributeError):  # full, gone, closed, or there never was one
            pass

    debug = info = warning = warn = error = exception = critical = log = msg
