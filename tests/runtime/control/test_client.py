"""A command talks to whatever listens on the socket, and says what is wrong with it in a sentence."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ipc.data_directory import DataDirectory
from ipc.errors import ControlFailed, ExitCode
from ipc.messages import control
from runtime.control import place
from runtime.control.client import conversation

HELLO = {"say": "hello", "protocol": 1, "fingerprint": "f", "version": "0.1.0", "pid": 7, "asks": ["status"]}
END = {"say": "end", "silent": []}


@contextmanager
def listening(directory: Path, *replies: bytes) -> Iterator[DataDirectory]:
    """Somebody who says the first of these at once, each of the others when asked, and then hangs up."""
    paths = DataDirectory(directory)
    end = place.listen(paths.control)

    def serve() -> None:
        client, _address = end.accept()
        with client:
            for number, reply in enumerate(replies):
                if number:
                    client.recv(4096)
                client.sendall(reply)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield paths
    finally:
        thread.join(10)
        end.close()


def lines(*objects: object) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in objects)


def failure(directory: Path, *replies: bytes) -> ControlFailed:
    with listening(directory, *replies) as paths, pytest.raises(ControlFailed) as failed, conversation(paths) as asking:
        asking.ask(control.Status())
    return failed.value


def test_an_answer_is_all_its_lines_up_to_the_end(tmp_path: Path) -> None:
    shard = {"say": "shard", "shard": 0, "pid": 3, "vhosts": 1, "queues": 2, "connections": 3, "seconds": 4.5}

    with listening(tmp_path, lines(HELLO), lines(shard, shard, END)) as paths, conversation(paths) as asking:
        answered = asking.ask(control.Status())

    assert asking.hello.pid == 7
    assert answered.all(control.Shard) == [control.Shard(0, 3, 1, 2, 3, 4.5)] * 2
    assert answered.all(control.Largest) == []
    assert answered.end == control.End()


def test_what_a_later_version_adds_is_skipped(tmp_path: Path) -> None:
    with (
        listening(tmp_path, lines({**HELLO, "motto": "ebb"}), lines({**END, "more": 1})) as paths,
        conversation(paths) as asking,
    ):
        assert asking.ask(control.Status()).end == control.End()


@pytest.mark.parametrize(
    ("replies", "sentence"),
    [
        ([lines({**HELLO, "protocol": 2})], "another protocol"),
        ([lines(END)], "another protocol"),
        ([b"SSH-2.0-OpenSSH\n"], "not understood"),
        ([b"x" * 300_000], "not understood"),
        ([b""], "ended the conversation"),
        ([lines({"say": "refused", "code": "busy", "text": "full"})], "the broker refuses: full"),
        ([lines(HELLO), lines({"say": "refused", "code": "failed", "text": "broken"})], "the broker refuses: broken"),
        ([lines(HELLO), lines({"say": "song"})], "0.1.0, is not understood"),
        ([lines(HELLO), lines({"say": "shard"})[:5]], "ended the conversation"),
    ],
)
def test_whatever_else_listens_is_told_in_a_sentence(tmp_path: Path, replies: list[bytes], sentence: str) -> None:
    failed = failure(tmp_path, *replies)

    assert sentence in str(failed)
    assert failed.exit_code is ExitCode.FAILED


def stale(paths: DataDirectory) -> None:
    place.listen(paths.control).close()


def nothing(_paths: DataDirectory) -> None:
    pass


def a_file(paths: DataDirectory) -> None:
    paths.control.write_text("no socket")


@pytest.mark.parametrize("leave", [nothing, stale, a_file])
def test_where_nobody_listens_there_is_no_broker(tmp_path: Path, leave: Callable[[DataDirectory], None]) -> None:
    paths = DataDirectory(tmp_path)
    leave(paths)

    with pytest.raises(ControlFailed) as failed, conversation(paths):
        pass

    assert failed.value.exit_code is ExitCode.NO_BROKER


def test_a_new_socket_takes_the_place_of_whatever_was_left(tmp_path: Path) -> None:
    paths = DataDirectory(tmp_path)
    a_file(paths)
    stale(paths)

    with place.listen(paths.control) as end, place.connect(paths.control, seconds=1.0) as client:
        taken, _address = end.accept()
        taken.close()
        assert client.recv(1) == b""
    place.remove(paths.control)
    assert not paths.control.exists()


def test_a_socket_is_reached_below_a_path_that_is_too_long_for_one(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120) / ("e" * 120)
    deep.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as plain, pytest.raises(OSError, match="too long"):
        plain.connect(str(deep / "control.sock"))

    with place.listen(DataDirectory(deep).control) as end, place.connect(DataDirectory(deep).control, seconds=1.0):
        end.accept()[0].close()
