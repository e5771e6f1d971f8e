"""The broker knows which of its two speeds it runs at, and says so."""

import importlib
import os
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Final

import pytest

from ipc.speed import PURE_VARIABLE, hot_modules, read_speed
from tests.clients.running_broker import run_command

ROOT: Final = Path(__file__).parents[2]
BUILT: Final = "columns" + EXTENSION_SUFFIXES[0]
NAME: Final = "shards.store.columns"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A tree with one hot module, compiled after it was written."""
    for name, seconds in (("setup.py", 1), ("ipc/wire/raw.pxd", 1)):
        written(tmp_path / name, seconds)
    for name, seconds in (("columns.py", 1), ("columns.pxd", 1), (BUILT, 2)):
        written(tmp_path / "shards" / "store" / name, seconds)
    return tmp_path


def written(file: Path, seconds: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    os.utime(file, (seconds, seconds))


def test_hot_modules_are_those_with_a_twin_and_byte_access_is_in_them_all() -> None:
    names = [name for name, _source in hot_modules()]
    assert NAME in names
    assert "ipc.wire.raw" not in names
    assert all(Path(source).exists() for _name, source in hot_modules())


def test_what_is_said_of_a_module_is_what_is_imported() -> None:
    speed = read_speed(os.environ)
    for names, suffixes in ((speed.compiled, tuple(EXTENSION_SUFFIXES)), (speed.interpreted, (".py",))):
        for name in names:
            file = importlib.import_module(name).__file__
            assert file is not None
            assert file.endswith(suffixes)


@pytest.mark.parametrize("first", ["ipc", "ipc.wire.amqp", "shards.store", "shards.host.template", "runtime.cli.main"])
def test_a_pure_process_imports_sources_whatever_it_imports_first(first: str) -> None:
    looks = f"import {first}, {NAME} as columns; print(columns.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", looks],
        env=os.environ | {PURE_VARIABLE: "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip().endswith("columns.py")


def test_compiled_modules_are_compiled(checkout: Path) -> None:
    speed = read_speed({}, str(checkout))
    assert (speed.compiled, speed.is_full, str(speed)) == ((NAME,), True, "compiled")


@pytest.mark.parametrize("wish", ["", "0"])
def test_an_empty_wish_is_none(checkout: Path, wish: str) -> None:
    assert read_speed({PURE_VARIABLE: wish}, str(checkout)).name == "compiled"


def test_a_wish_for_sources_is_granted(checkout: Path) -> None:
    speed = read_speed({PURE_VARIABLE: "1"}, str(checkout))
    assert (speed.interpreted, str(speed)) == ((NAME,), "interpreted: EBBMQ_PURE is set")


def test_what_was_not_compiled_is_interpreted(checkout: Path) -> None:
    (checkout / "shards" / "store" / BUILT).unlink()
    assert str(read_speed({}, str(checkout))) == "interpreted: not compiled when this was installed"


def test_a_mixture_names_what_is_interpreted(checkout: Path) -> None:
    written(checkout / "ipc" / "traffic.pxd", 1)
    written(checkout / "ipc" / "traffic.py", 1)
    assert str(read_speed({}, str(checkout))) == "mixed: ipc.traffic not compiled when this was installed"


@pytest.mark.parametrize("changed", ["shards/store/columns.py", "shards/store/columns.pxd", "ipc/wire/raw.pxd"])
def test_sources_newer_than_what_was_compiled_of_them_are_noticed(checkout: Path, changed: str) -> None:
    written(checkout / changed, 3)
    speed = read_speed({}, str(checkout))
    assert (speed.name, speed.outdated, speed.is_full) == ("compiled", (NAME,), False)
    assert NAME in str(speed)


def test_in_an_installation_times_mean_nothing(checkout: Path) -> None:
    (checkout / "setup.py").unlink()
    written(checkout / "shards" / "store" / "columns.py", 3)
    assert read_speed({}, str(checkout)).is_full


def test_the_version_says_at_which_speed() -> None:
    assert f"({read_speed(os.environ).name}" in run_command("--version").stdout
    assert "(interpreted: EBBMQ_PURE is set)" in run_command("--version", extra={PURE_VARIABLE: "1"}).stdout


@pytest.mark.skipif(not os.environ.get("EBBMQ_SANITIZE"), reason="only in the tree of `make sanitize`")
def test_what_the_sanitizers_watch_is_in_use() -> None:
    speed = read_speed(os.environ)
    assert speed.name == "compiled"
    for name in speed.compiled:
        file = Path(importlib.import_module(name).__file__ or "")
        assert "sanitized" in file.parts
        assert b"__asan_report" in file.read_bytes()
