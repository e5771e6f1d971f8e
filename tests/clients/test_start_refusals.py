"""A broker that cannot start says why in one sentence and ends with a code of its own; it overwrites nothing."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from ipc.errors import ExitCode
from tests.clients.running_broker import RunningBroker, run_command

StartBroker = Callable[..., RunningBroker]


def refused(code: ExitCode, *arguments: str, extra: dict[str, str] | None = None) -> str:
    """Start, expect `code`, and give back the sentence."""
    done = run_command("serve", "--amqp-port", "0", *arguments, extra=extra)
    assert done.returncode == code, f"{done.returncode}\n{done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr
    assert "ebbmq ready" not in done.stdout
    sentence = done.stderr.strip()
    assert sentence
    return sentence


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[amqp]\nprot = 1\n", ["amqp", "prot", "port"]),
        ('[amqp]\nport = "many"\n', ["amqp", "port", "number"]),
        ("[amqp]\nport = 70000\n", ["amqp", "port", "65535"]),
        ("[main]\nshards = 0\n", ["main", "shards"]),
        ("[qamp]\nport = 1\n", ["qamp", "amqp"]),
        ('[main]\nlog_level = "loud"\n', ["log_level", "debug"]),
        ("[main\n", ["TOML"]),
    ],
    ids=["unknown key", "wrong type", "too large", "too small", "unknown section", "unknown choice", "no TOML"],
)
def test_a_wrong_settings_file_is_named_with_key_and_expectation(
    tmp_path: Path, data: Path, content: str, words: list[str]
) -> None:
    config = tmp_path / "broken.toml"
    config.write_text(content)
    sentence = refused(ExitCode.SETTINGS_INVALID, "--config", str(config), "--data-dir", str(data))
    for word in [str(config), *words]:
        assert word in sentence
    assert not data.exists()


def test_a_missing_settings_file_is_named(tmp_path: Path, data: Path) -> None:
    missing = str(tmp_path / "missing.toml")
    assert missing in refused(ExitCode.SETTINGS_INVALID, "--config", missing, "--data-dir", str(data))


def test_a_wrong_setting_on_the_command_line_is_named(data: Path) -> None:
    sentence = refused(ExitCode.SETTINGS_INVALID, "--data-dir", str(data), "--set", "store.segmet_bytes_max=1")
    assert "segmet_bytes_max" in sentence


def test_a_wrong_setting_in_the_environment_is_named(data: Path) -> None:
    sentence = refused(ExitCode.SETTINGS_INVALID, "--data-dir", str(data), extra={"EBBMQ_AMQP_HEARTBEAT": "often"})
    assert "EBBMQ_AMQP_HEARTBEAT" in sentence


def test_an_unknown_flag_is_a_usage_error() -> None:
    assert run_command("serve", "--no-such-flag").returncode == ExitCode.USAGE


def test_a_port_in_use_is_named(data: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = run_command("serve", "--amqp-port", port, "--bind", "127.0.0.1", "--data-dir", str(data))
    assert done.returncode == ExitCode.PORT_IN_USE, done.stderr
    assert port in done.stderr
    assert "Traceback" not in done.stderr


def test_a_data_directory_in_use_is_refused_and_its_owner_goes_on(new_broker: StartBroker) -> None:
    broker = new_broker().start()
    sentence = refused(ExitCode.DATA_DIRECTORY_IN_USE, "--data-dir", str(broker.data))
    assert str(broker.data) in sentence
    assert str(broker.process.pid) in sentence
    assert broker.stop() == 0


def test_a_data_directory_that_is_a_file_is_refused(data: Path) -> None:
    data.write_text("mine")
    assert str(data) in refused(ExitCode.DATA_DIRECTORY_UNUSABLE, "--data-dir", str(data))
    assert data.read_text() == "mine"


def test_a_directory_of_somebody_else_is_left_alone(data: Path) -> None:
    data.mkdir()
    (data / "thesis.tex").write_text("mine")
    assert str(data) in refused(ExitCode.DATA_DIRECTORY_UNUSABLE, "--data-dir", str(data))
    assert [path.name for path in data.iterdir()] == ["thesis.tex"]


def test_a_read_only_directory_is_refused() -> None:
    """/proc refuses everybody, root included, which a mode of 0500 does not."""
    refused(ExitCode.DATA_DIRECTORY_UNUSABLE, "--data-dir", "/proc/ebbmq")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere, so a mode cannot refuse")
def test_a_directory_without_write_permission_is_refused(data: Path) -> None:
    data.mkdir(mode=0o500)
    assert str(data) in refused(ExitCode.DATA_DIRECTORY_UNUSABLE, "--data-dir", str(data))


@pytest.mark.parametrize("line", ["ebbmq data format 999\n", "something else\n"], ids=["newer", "foreign"])
def test_an_unknown_format_is_refused_and_not_touched(new_broker: StartBroker, line: str) -> None:
    broker = new_broker().start()
    assert broker.stop() == 0
    (broker.data / "format").write_text(line)
    before = {path: path.stat().st_mtime_ns for path in broker.data.rglob("*.sqlite")}
    sentence = refused(ExitCode.FORMAT_UNKNOWN, "--data-dir", str(broker.data))
    assert str(broker.data) in sentence
    assert (broker.data / "format").read_text() == line
    assert {path: path.stat().st_mtime_ns for path in broker.data.rglob("*.sqlite")} == before


@pytest.mark.parametrize("which", ["directory.sqlite", "vhosts/1/definitions.sqlite"])
def test_a_damaged_database_is_refused_and_not_touched(new_broker: StartBroker, which: str) -> None:
    broker = new_broker().start()
    assert broker.stop() == 0
    damaged = broker.data / which
    damaged.write_bytes(b"this is no database" * 1000)
    for journal in damaged.parent.glob(f"{damaged.name}-*"):
        journal.unlink()
    refused(ExitCode.STORE_DAMAGED, "--data-dir", str(broker.data))
    assert damaged.read_bytes() == b"this is no database" * 1000


def test_the_version_is_printed() -> None:
    done = run_command("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("ebbmq")
