"""Opens the directory of accounts for one command, whether or not a broker uses it, and tells the broker of changes."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, ParamSpec, TypeVar

import click

from ipc.data_directory import DataDirectory
from ipc.errors import ExitCode, StartRefused
from ipc.settings import Settings, UserSettings
from runtime.auth.directory import Directory, DirectoryRefusal
from runtime.cli.settings_sources import CONFIG_VARIABLE, SettingsSources, from_flag
from runtime.supervisor.data_lock import DataLock, owner

P = ParamSpec("P")
R = TypeVar("R")

_CONFIG: Final = click.option("--config", metavar="FILE", envvar=CONFIG_VARIABLE, help="The broker's settings file.")
_DATA_DIR: Final = click.option("--data-dir", metavar="DIRECTORY", help="The broker's data directory.")


def located(command: Callable[P, R]) -> Callable[P, R]:
    """Adds the options that say whose accounts are meant."""
    return _CONFIG(_DATA_DIR(command))


def settings_of(config: str | None, data_dir: str | None) -> Settings:
    flags = () if data_dir is None else (from_flag("--data-dir", "main.data_dir", data_dir),)
    return SettingsSources(config, dict(os.environ), flags).read()


class Accounts:
    """An open directory; `is_running` if a broker has it open as well."""

    def __init__(self, paths: DataDirectory, directory: Directory, settings: UserSettings, *, is_running: bool) -> None:
        self.paths = paths
        self.directory = directory
        self.settings = settings
        self.is_running = is_running


@contextmanager
def opened(config: str | None, data_dir: str | None) -> Iterator[Accounts]:
    """The accounts, for a look. Raises StartRefused and click's exceptions."""
    settings = settings_of(config, data_dir)
    paths = DataDirectory(settings.main.data_dir)
    if not paths.format.exists():
        raise click.ClickException(f"{paths.root} is no data directory of EbbMQ")
    with _accounts(paths, settings) as accounts:
        yield accounts


@contextmanager
def changed(config: str | None, data_dir: str | None) -> Iterator[Accounts]:
    """The accounts, for a change; afterwards a running broker reads them again.

    A directory that no broker has used yet is made. Raises StartRefused and click's exceptions.
    """
    settings = settings_of(config, data_dir)
    paths = DataDirectory(settings.main.data_dir)
    with _accounts(paths, settings) as accounts:
        yield accounts
    _tell_broker(paths)


@contextmanager
def _accounts(paths: DataDirectory, settings: Settings) -> Iterator[Accounts]:
    """A broker that is not running is kept from starting meanwhile."""
    lock = _lock_unless_running(paths)
    try:
        directory = Directory.open(paths, settings.users)
        try:
            yield Accounts(paths, directory, settings.users, is_running=lock is None)
        except DirectoryRefusal as refusal:
            raise click.ClickException(str(refusal)) from refusal
        finally:
            directory.close()
    finally:
        if lock is not None:
            lock.close()


def _lock_unless_running(paths: DataDirectory) -> DataLock | None:
    try:
        return DataLock.take(paths)
    except StartRefused as refusal:
        if refusal.exit_code is ExitCode.DATA_DIRECTORY_IN_USE:
            return None
        raise


def _tell_broker(paths: DataDirectory) -> None:
    pid = owner(paths)
    if pid is not None and pid != os.getpid():
        os.kill(pid, signal.SIGHUP)
