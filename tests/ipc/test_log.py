"""Log lines: one an event, for people or machines, at a level that may change, on a stream that may fail."""

import io
import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog

from ipc.limits import LOG_TEXT_CHARACTERS_MAX
from ipc.log import configure_logging
from ipc.messages.log_lines import LogLine
from ipc.settings import LogFormat


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    yield
    structlog.reset_defaults()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Broken(io.StringIO):
    def __init__(self, fault: Exception) -> None:
        super().__init__()
        self.fault = fault

    def write(self, _text: str) -> int:
        raise self.fault


def lines(stream: io.StringIO) -> list[str]:
    return stream.getvalue().splitlines()


def parsed(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines(stream)]


def fail() -> None:
    raise ValueError("two\nlines")


def test_a_line_of_text_has_level_event_logger_shard_and_fields() -> None:
    stream = io.StringIO()
    configure_logging("info", "text", shard=3, stream=stream)

    structlog.get_logger("compactor").info("memory reclaimed", freed_bytes=4096, trigger="SIGUSR1")

    (line,) = lines(stream)
    for part in ("[info", "memory reclaimed", "[compactor]", "shard=3", "freed_bytes=4096", "trigger=SIGUSR1"):
        assert part in line


def test_json_has_the_same_as_fields() -> None:
    stream = io.StringIO()
    configure_logging("info", "json", shard=0, stream=stream)

    structlog.get_logger("compactor").warning("x", by_kind={"dict": 1, ("odd", "key"): 2}, odd=object, text="\ud800")

    (event,) = parsed(stream)
    assert event.pop("timestamp").endswith("Z")
    assert event == {
        "event": "x",
        "level": "warning",
        "logger": "compactor",
        "shard": 0,
        "by_kind": {"dict": 1},
        "odd": "<class 'object'>",
        "text": "\ud800",
    }


def test_a_field_of_the_event_wins_over_the_process_it_comes_from() -> None:
    stream = io.StringIO()
    configure_logging("info", "json", shard=1, stream=stream)

    structlog.get_logger("supervisor").info("x", shard=2)

    assert parsed(stream)[0]["shard"] == 2


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_the_level_changes_while_running_for_loggers_that_exist(log_format: Any) -> None:
    stream = io.StringIO()
    lazy = structlog.get_logger("lazy")
    configure_logging("warning", log_format, stream=stream)
    bound = structlog.get_logger("bound").bind(client=1)

    for log in (lazy, bound):
        log.info("too low")
    configure_logging("debug", log_format, stream=stream)
    for log in (lazy, bound):
        log.debug("now")

    assert len(lines(stream)) == 2
    assert "too low" not in stream.getvalue()


@pytest.mark.parametrize(
    ("level", "heard"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_a_level_lets_through_itself_and_what_is_above(level: Any, heard: list[str]) -> None:
    stream = io.StringIO()
    configure_logging(level, "json", stream=stream)
    log = structlog.get_logger("x")

    for say in (log.debug, log.info, log.warning, log.error):
        say("x")

    assert [event["level"] for event in parsed(stream)] == heard


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_value_breaks_out_of_its_line(log_format: Any) -> None:
    stream = io.StringIO()
    configure_logging("info", log_format, stream=stream)

    structlog.get_logger("x").info(
        "a\nb", vhost="evil\n2024 [error] forged\x1b[2J", user="\x1b[31m\u2028", raw=b"\n\x1b"
    )

    assert len(lines(stream)) == 1
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_an_exception_stays_in_its_line_with_cause_and_place(log_format: Any) -> None:
    stream = io.StringIO()
    configure_logging("info", log_format, stream=stream)

    try:
        try:
            fail()
        except ValueError as fault:
            raise ExceptionGroup("several", [fault]) from KeyError("cause")
    except ExceptionGroup:
        structlog.get_logger("x").exception("defect")

    (line,) = lines(stream)
    for part in ("several", "ValueError", "test_log.py", "fail", "KeyError"):
        assert part in line


def test_colours_are_for_terminals_only() -> None:
    terminal, pipe = Terminal(), io.StringIO()
    for stream in (terminal, pipe):
        configure_logging("info", "text", stream=stream)
        structlog.get_logger("x").info("x")

    assert "\x1b[" in terminal.getvalue()
    assert "\x1b[" not in pipe.getvalue()


@pytest.mark.parametrize("fault", [BrokenPipeError(), OSError(28, "full"), BlockingIOError(), ValueError("closed")])
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_stream_that_fails_costs_lines_and_nothing_else(fault: Exception, log_format: Any) -> None:
    configure_logging("info", log_format, stream=Broken(fault))

    structlog.get_logger("x").error("x")


def test_a_closed_stream_costs_lines_and_nothing_else() -> None:
    stream = io.StringIO()
    stream.close()
    configure_logging("info", "text", stream=stream)

    structlog.get_logger("x").error("x")


def test_what_the_stream_cannot_encode_is_escaped() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    configure_logging("info", "text", stream=stream)

    structlog.get_logger("x").info("schnee", name="снег")

    assert b"\\u0441" in raw.getvalue()


def test_without_a_stream_it_is_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "json")

    structlog.get_logger("x").info("x")

    assert json.loads(capsys.readouterr().err)["event"] == "x"


# copies ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def copies() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Where copies come out, and where they are put in."""
    reading, writing = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    reading.settimeout(5)
    with reading, writing:
        yield reading, writing


Copies = tuple[socket.socket, socket.socket]


def copied(reading: socket.socket) -> LogLine:
    return msgspec.msgpack.decode(reading.recv(65536), type=LogLine)


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_copy_of_a_line_tells_it_in_one_printable_line(log_format: LogFormat, copies: Copies) -> None:
    reading, writing = copies
    configure_logging("info", log_format, shard=3, stream=io.StringIO(), copies=writing)

    structlog.get_logger("compactor").warning("memory reclaimed", freed_bytes=4096, name="a\nb")

    line = copied(reading)
    assert (line.level, line.source) == ("warning", "shard 3 compactor")
    assert line.text == "memory reclaimed freed_bytes=4096 name='a\\nb'"
    assert datetime.fromisoformat(line.at).tzinfo is not None


def test_copies_go_on_when_logging_is_configured_again(copies: Copies) -> None:
    reading, writing = copies
    configure_logging("info", "text", stream=io.StringIO(), copies=writing)
    configure_logging("debug", "text", stream=io.StringIO())

    structlog.get_logger("x").debug("still")

    assert copied(reading).text == "still"


def test_what_is_below_the_level_is_not_copied(copies: Copies) -> None:
    reading, writing = copies
    configure_logging("warning", "text", stream=io.StringIO(), copies=writing)

    structlog.get_logger("x").info("quiet")
    structlog.get_logger("x").warning("loud")

    assert copied(reading).text == "loud"


def test_copies_that_find_no_room_are_counted_and_cost_nobody_a_wait(copies: Copies) -> None:
    reading, writing = copies
    configure_logging("info", "text", stream=io.StringIO(), copies=writing)
    log = structlog.get_logger("x")
    for number in range(2000):
        log.info("a flood", number=number)

    arrived = 0
    reading.setblocking(False)
    with suppress(BlockingIOError):
        while reading.recv(65536):
            arrived += 1
    log.info("after the flood")

    assert copied(reading).lost == 2000 - arrived > 0


def test_a_copy_is_cut_where_a_line_is_long(copies: Copies) -> None:
    reading, writing = copies
    stream = io.StringIO()
    configure_logging("info", "json", stream=stream, copies=writing)

    structlog.get_logger("x").info("x" * 100_000)

    assert len(copied(reading).text) == LOG_TEXT_CHARACTERS_MAX
    assert len(lines(stream)[0]) > 100_000


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_logging_goes_on_when_nobody_takes_copies_any_more(log_format: LogFormat, copies: Copies) -> None:
    reading, writing = copies
    stream = io.StringIO()
    configure_logging("info", log_format, stream=stream, copies=writing)
    reading.close()

    structlog.get_logger("x").info("x")

    assert len(lines(stream)) == 1


# a file ---------------------------------------------------------------------------------------------------------------


def test_a_log_file_is_opened_anew_for_loggers_that_are_bound_already(tmp_path: Path) -> None:
    path, moved = tmp_path / "log", tmp_path / "log.1"
    configure_logging("info", "json", path=str(path))
    bound = structlog.get_logger("x").bind(client=1)
    bound.info("before")
    path.rename(moved)
    bound.info("still before")

    configure_logging("info", "json", path=str(path))
    bound.info("after")

    assert [json.loads(line)["event"] for line in moved.read_text().splitlines()] == ["before", "still before"]
    assert [json.loads(line)["event"] for line in path.read_text().splitlines()] == ["after"]


def test_a_log_file_that_cannot_be_opened_leaves_the_log_where_it_was(tmp_path: Path) -> None:
    path, moved = tmp_path / "room" / "log", tmp_path / "moved"
    path.parent.mkdir()
    configure_logging("info", "json", path=str(path))
    path.parent.rename(moved)

    configure_logging("info", "json", path=str(path))
    structlog.get_logger("x").info("on")

    events = [json.loads(line)["event"] for line in (moved / "log").read_text().splitlines()]
    assert events == ["log file cannot be opened", "on"]
