"""What all processes write to their log: one event a line with its fields, as text for people or as JSON for machines.

```
log = structlog.get_logger("compactor")          once a module or object; configured now or later
log.info("memory reclaimed", freed_bytes=4096)
2024-05-01T12:00:00.000000Z [info     ] memory reclaimed               [compactor] shard=1 freed_bytes=4096
{"event":"memory reclaimed","level":"info","timestamp":"…","logger":"compactor","shard":1,"freed_bytes":4096}
```
Whatever happens to the stream, logging raises nothing: a full disk or a closed pipe costs lines, never a client.

Beside that, a copy of each line goes to the supervisor, which keeps the last ones for whoever wants to see them: one
packet a line, sent without waiting; what finds no room is counted.
"""

import json
import os
import socket
import sys
import traceback
from types import TracebackType
from typing import Any, Final, Protocol

import msgspec
import structlog
from structlog.typing import EventDict, Processor

from ipc.limits import LOG_TEXT_CHARACTERS_MAX, TRACEBACK_FRAMES_MAX
from ipc.messages.log_lines import LogLine
from ipc.settings import LogFormat, LogLevel


class Stream(Protocol):
    """Where lines go."""

    def write(self, text: str, /) -> int: ...

    def flush(self) -> None: ...

    def isatty(self) -> bool: ...


_RANKS: Final = {"debug": 0, "info": 1, "warning": 2, "warn": 2, "error": 3, "exception": 3, "critical": 4}


def configure_logging(
    level: LogLevel,
    log_format: LogFormat,
    *,
    shard: int | None = None,
    stream: Stream | None = None,
    path: str = "",
    copies: socket.socket | None = None,
) -> None:
    """Set how this process logs, or change it: loggers follow. Without `stream` it is whatever stderr is then.

    With a `path` it is that file, which is opened anew each time this is called; where it cannot be opened, lines go
    where they went before. Copies of them go to the SEQPACKET socket `copies`; without it to where they went before, if
    anywhere.
    """
    fault: OSError | None = None
    if path:
        file = _file_in_use() or _File()
        fault = file.open(path)
        stream = file if file.is_open else stream
    copying = _Copying(copies) if copies is not None else _copying_in_use()
    processors: list[Processor] = [
        _Threshold(level),
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _Origin(shard),
        *(() if copying is None else (copying,)),
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
    if fault is not None:
        structlog.get_logger("log").error("log file cannot be opened", path=path, reason=str(fault))


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


# copies ---------------------------------------------------------------------------------------------------------------


class _Copying:
    """Sends each event as a `LogLine`, and leaves it as it is."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._encode = msgspec.msgpack.Encoder().encode
        self._lost = 0

    def __call__(self, logger: Any, method: str, event: EventDict) -> EventDict:
        try:
            line = LogLine(event["timestamp"], event["level"], _source(event), _told(event), self._lost)
            self._end.send(self._encode(line), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            self._lost = 0
        except BlockingIOError:
            self._lost += 1
        except (OSError, ValueError):  # nobody is there any more; or a text that cannot be encoded
            pass
        return event


def _copying_in_use() -> _Copying | None:
    in_use: list[Processor] = structlog.get_config()["processors"] if structlog.is_configured() else []
    return next((one for one in in_use if isinstance(one, _Copying)), None)


_TOLD_APART: Final = frozenset({"event", "timestamp", "level", "logger", "exc_info"})


def _source(event: EventDict) -> str:
    logger = str(event.get("logger", ""))
    return f"shard {event['shard']} {logger}" if _is_shards_own(event) else logger


def _is_shards_own(event: EventDict) -> bool:
    """A shard speaks, and not the supervisor of one."""
    return "shard" in event and event.get("logger") != "supervisor"


def _told(event: EventDict) -> str:
    """Event and fields in one line: `memory reclaimed freed_bytes=4096`."""
    fields = {name: value for name, value in event.items() if name not in _TOLD_APART}
    if _is_shards_own(event):
        del fields["shard"]
    fault = _fault(event.get("exc_info"))
    if fault is not None:
        fields["fault"] = _described(fault)
    told = " ".join((_plain(event["event"]), *(f"{name}={_plain(value)}" for name, value in fields.items())))
    return told if len(told) <= LOG_TEXT_CHARACTERS_MAX else told[: LOG_TEXT_CHARACTERS_MAX - 1] + "…"


def _plain(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if text.isprintable() else repr(text)


# rendering ------------------------------------------------------------------------------------------------------------


def _for_people(stream: Stream) -> list[Processor]:
    return [
        _exception_in_line,
        _escape,
        structlog.dev.ConsoleRenderer(colors=_is_terminal(stream), sort_keys=False),
    ]


def _for_machines(_stream: Stream) -> list[Processor]:
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_json)]


_RENDERINGS: Final = {"text": _for_people, "json": _for_machines}


def _is_terminal(stream: Stream) -> bool:
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


class _File:
    """A log file that can be opened anew, for those as well who write to it already."""

    def __init__(self) -> None:
        self._descriptor = -1

    @property
    def is_open(self) -> bool:
        return self._descriptor >= 0

    def open(self, path: str) -> OSError | None:
        """Write there from now on; what is wrong if it cannot be opened."""
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY
            opened = os.open(os.path.expanduser(path), flags, 0o640)
        except OSError as fault:
            return fault
        if self.is_open:  # at the same number, because a thread may be writing
            os.dup2(opened, self._descriptor, inheritable=False)
            os.close(opened)
        else:
            self._descriptor = opened
        return None

    def write(self, text: str) -> int:
        return os.write(self._descriptor, text.encode("utf-8", "backslashreplace"))

    def flush(self) -> None:
        pass  # every line is written in one call

    def isatty(self) -> bool:
        return False


def _file_in_use() -> "_File | None":
    factory = structlog.get_config()["logger_factory"] if structlog.is_configured() else None
    stream = factory.stream if isinstance(factory, _LineLoggers) else None
    return stream if isinstance(stream, _File) else None


class _LineLoggers:
    def __init__(self, stream: Stream | None) -> None:
        self.stream = stream

    def __call__(self, name: str = "", *_: Any) -> "_LineLogger":
        return _LineLogger(name, self.stream)


class _LineLogger:
    """Writes finished lines, each in one call, so that processes that share a stream do not mix theirs."""

    def __init__(self, name: str, stream: Stream | None) -> None:
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
