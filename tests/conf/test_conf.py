"""The commented settings file and the typed settings are one list told twice."""

import configparser
import tomllib
from pathlib import Path

import msgspec
import pytest

from ipc.errors import ExitCode
from ipc.settings import Settings

CONF = Path(__file__).parents[2] / "conf"
SETTINGS_FILE = CONF / "ebbmq.toml"

Leaves = dict[str, object]


def leaves(sections: dict[str, dict[str, object]]) -> Leaves:
    return {f"{section}.{key}": value for section, keys in sections.items() for key, value in keys.items()}


@pytest.fixture
def written() -> Leaves:
    return leaves(tomllib.loads(SETTINGS_FILE.read_text()))


@pytest.fixture
def typed() -> Leaves:
    return leaves(msgspec.to_builtins(Settings(), builtin_types=(tuple,)))


def test_the_file_names_every_setting_and_no_other(written: Leaves, typed: Leaves) -> None:
    assert sorted(written) == sorted(typed)


def test_the_file_gives_every_setting_its_default(written: Leaves, typed: Leaves) -> None:
    as_lists = {key: list(value) if isinstance(value, tuple) else value for key, value in typed.items()}
    assert written == as_lists


def test_the_file_gives_every_setting_its_type(written: Leaves, typed: Leaves) -> None:
    """`10` equals `10.0`, but a reader should see which settings take fractions."""
    as_lists = {key: list if isinstance(value, tuple) else type(value) for key, value in typed.items()}
    assert {key: type(value) for key, value in written.items()} == as_lists


def test_the_file_is_accepted_as_it_stands() -> None:
    assert msgspec.toml.decode(SETTINGS_FILE.read_bytes(), type=Settings) == Settings()


def test_settings_stand_in_the_order_of_their_types(written: Leaves, typed: Leaves) -> None:
    assert list(written) == list(typed)


def test_every_setting_has_its_reason() -> None:
    """A block of settings without a blank line between them shares the comment above it."""
    for block in SETTINGS_FILE.read_text().split("\n\n"):
        lines = [line for line in block.splitlines() if not line.startswith("[")]
        if any(not line.startswith("#") for line in lines):
            assert lines[0].startswith("#"), f"no reason given for {lines[0]}"


@pytest.fixture
def service() -> configparser.SectionProxy:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(CONF / "ebbmq.service")
    return unit["Service"]


def test_systemd_does_not_retry_what_retrying_cannot_cure(service: configparser.SectionProxy) -> None:
    incurable = {
        ExitCode.SETTINGS_INVALID,
        ExitCode.DATA_DIRECTORY_UNUSABLE,
        ExitCode.FORMAT_UNKNOWN,
        ExitCode.STORE_DAMAGED,
    }
    assert {int(code) for code in service["RestartPreventExitStatus"].split()} == incurable
    assert service["Type"] == "notify"


def test_systemd_hands_over_a_watch_on_the_units_memory_pressure(service: configparser.SectionProxy) -> None:
    """As docs/deployment.md says; `auto` does without where memory is not accounted for, which is no reason to fail."""
    assert service["MemoryPressureWatch"] == "auto"
