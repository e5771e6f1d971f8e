"""Precedence of the sources, and refusals that say where, what and instead of what."""

from pathlib import Path

import pytest

from ipc.errors import ExitCode, StartRefused
from ipc.settings import Settings
from runtime.cli.settings_sources import FIELD_TYPES, SettingsSources, expectation, from_flag, from_set

CONF = Path(__file__).parents[3] / "conf" / "ebbmq.toml"


def read(file: Path | None = None, environment: dict[str, str] | None = None, sets: tuple[str, ...] = ()) -> Settings:
    flags = tuple(from_set(pair) for pair in sets)
    return SettingsSources(str(file) if file else None, environment or {}, flags).read()


def toml(tmp_path: Path, content: str) -> Path:
    path = tmp_path / "ebbmq.toml"
    path.write_text(content)
    return path


def test_without_sources_every_setting_has_its_default() -> None:
    assert read() == Settings()


def test_flags_win_over_environment_over_file_over_default(tmp_path: Path) -> None:
    file = toml(tmp_path, "[main]\nshards = 3\ndrain_seconds = 3\n[amqp]\nport = 3\n")
    environment = {"EBBMQ_MAIN_SHARDS": "4", "EBBMQ_MAIN_DRAIN_SECONDS": "4"}

    settings = read(file, environment, ("main.shards=5",))

    assert (settings.main.shards, settings.main.drain_seconds, settings.amqp.port) == (5, 4.0, 3)
    assert settings.amqp.heartbeat == Settings().amqp.heartbeat


def test_a_flag_of_its_own_is_read_as_its_setting_wants() -> None:
    assert SettingsSources(None, {}, (from_flag("--amqp-port", "amqp.port", "0"),)).read().amqp.port == 0


def test_a_list_is_given_with_commas() -> None:
    assert read(sets=("users.loopback_only=guest, root",)).users.loopback_only == ("guest", "root")
    assert read(sets=("users.loopback_only=",)).users.loopback_only == ()


def test_variables_of_others_with_our_prefix_are_left_alone() -> None:
    environment = {"EBBMQ_PURE": "1", "EBBMQ_SERVICE_HOST": "10.0.0.1", "EBBMQ_PORT": "tcp://10.0.0.1"}

    assert read(environment=environment) == Settings()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("[main]\nshard = 1\n", "unknown key main.shard; expected 'shards'"),
        ("[mian]\n", "unknown section [mian]; expected 'main'"),
        ("main = 1\n", "main: expected a section [main]"),
        ("[main]\nshards = 'two'\n", "main.shards: expected a whole number from 1 to 256, not 'two'"),
        ("[main]\nshards = 0\n", "main.shards: expected a whole number from 1 to 256, not 0"),
        ("[main]\nlog_level = 'loud'\n", "main.log_level: expected one of debug, info, warning, error, not 'loud'"),
        ("[users]\nloopback_only = 'guest'\n", "users.loopback_only: expected a list of strings, not 'guest'"),
        (
            "[store]\nvhosts = {orders = 1}\n",
            "store.vhosts: expected a table such as {orders = {durability = \"os\"}}, not {'orders': 1}",
        ),
        (
            "[compaction]\nkinds = {dict = 1}\n",
            "compaction.kinds: expected a table such as {dict = {ratio = 3.0}}, not {'dict': 1}",
        ),
        ("[main\n", "is not TOML: Expected ']' at the end of a table declaration (at line 1, column 6)"),
    ],
)
def test_a_file_is_refused_by_name_key_and_expectation(tmp_path: Path, content: str, complaint: str) -> None:
    file = toml(tmp_path, content)

    with pytest.raises(StartRefused) as refusal:
        read(file)

    assert str(refusal.value) == f"{file}: {complaint}"
    assert refusal.value.exit_code is ExitCode.SETTINGS_INVALID


@pytest.mark.parametrize(
    ("environment", "sets", "complaint"),
    [
        ({"EBBMQ_AMQP_PORT": "x"}, (), "environment variable EBBMQ_AMQP_PORT: amqp.port: expected a whole number"),
        ({"EBBMQ_AMQP_PROT": "1"}, (), "environment variable EBBMQ_AMQP_PROT: unknown key amqp.prot; expected 'port'"),
        ({}, ("amqp.port=65536",), "--set: amqp.port: expected a whole number from 0 to 65535, not '65536'"),
        ({}, ("amqp.port",), "--set: expected section.key=value, got 'amqp.port'"),
        ({}, ("amqp=1",), "--set: expected section.key=value, got 'amqp=1'"),
        ({}, ("nowhere.key=1",), "--set: unknown section 'nowhere'; expected one of main, amqp,"),
        ({}, ("main.drain_seconds=nan",), "--set: main.drain_seconds: expected a number of at least 0, not 'nan'"),
        ({}, ("connection.outbox_bytes_low=99999999",), "settings: connection.outbox_bytes_low: expected at most"),
    ],
)
def test_other_sources_are_refused_the_same_way(
    environment: dict[str, str], sets: tuple[str, ...], complaint: str
) -> None:
    with pytest.raises(StartRefused, match=f"^{complaint.replace('[', '.').replace('.', '[.]')}"):
        read(environment=environment, sets=sets)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartRefused, match="cannot be read: No such file or directory"):
        read(tmp_path / "nowhere.toml")


def test_the_example_file_is_accepted() -> None:
    read(CONF)


def test_every_setting_can_say_what_it_expects() -> None:
    assert all(expectation(kind) for section in FIELD_TYPES.values() for kind in section.values())
