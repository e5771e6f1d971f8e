"""A supervisor loaded with some of everything, for tests that look at what it holds."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import msgspec
import trio

from ipc.data_directory import DataDirectory
from ipc.messages.commands import Level, Permissions
from ipc.messages.log_lines import LogLine
from ipc.messages.logins import Attempt
from ipc.messages.reports import MemoryReading, Reclaimed
from ipc.settings import MainSettings, Settings, UserSettings
from runtime.auth.directory import Directory
from runtime.owner import Owner
from runtime.roster import ShardLink
from runtime.router.handshake import Handshake
from runtime.router.lobby import Guest, Lobby
from runtime.router.turnstile import Turnstile
from runtime.supervisor.data_lock import DataLock
from runtime.supervisor.supervisor import Supervisor


class Source:
    def read(self) -> Settings:
        return Settings()


def loaded_supervisor(directory: Path) -> Supervisor:
    """A supervisor that does not run, with some of everything it can hold."""

    async def loaded() -> Supervisor:
        settings = Settings(main=MainSettings(shards=3))
        lock = DataLock.take(DataDirectory(directory))
        accounts = Directory.open(lock.paths, settings.users)
        supervisor = Supervisor(Source(), settings, lock, accounts, print)
        async with trio.open_nursery() as nursery:
            load(supervisor, accounts, nursery)
        return supervisor

    return trio.run(loaded)


def load(supervisor: Supervisor, directory: Directory, nursery: trio.Nursery) -> None:
    """Vhosts placed, open and failed, users with permissions, logins, guests, questions, closings, endings, reports."""
    for number in range(20):
        directory.add_vhost(f"vhost{number}", 1)
        directory.set_permissions("guest", f"vhost{number}", Permissions(".*", ".*", ".*"))
    supervisor._vhosts.place_all()
    for number in range(20):
        supervisor._roster.opened(f"vhost{number}", cast("ShardLink", object()))
        supervisor._roster.failed(f"vhost{number % 5}", "no such directory")
        supervisor._roster.forget(f"moving{number}", is_moving=True)
        supervisor._template._endings[number] = 0
        supervisor._fleet[0]._closings[f"vhost{number}"] = trio.Event()
        supervisor._fleet[0]._openings.add(f"vhost{number}")
        supervisor._inquiries._open[number] = cast("Any", object())
        supervisor._inquiries._owed[number] = 1
        supervisor._management._waiting[number] = trio.CancelScope()
        supervisor._reclaim.heard(report(number))
        supervisor._reclaim._awaited.add(number)
        supervisor._log_ring.add(msgspec.msgpack.encode(LogLine("2024-05-01T12:00:00Z", "info", "test", "a line")))
    turnstile = Turnstile(directory, supervisor._count_connections)
    handshake = Handshake(supervisor._roster, directory, supervisor._logins, Settings, turnstile)
    lobby = Lobby(handshake, Settings, nursery)
    supervisor._settings = Settings(users=UserSettings(track_auth_attempt_source=True))
    for number in range(20):
        supervisor._logins.note_now(Attempt("http", f"user {number}", f"192.0.2.{number}", "in"))
        supervisor._logins.note_now(Attempt("http", f"user {number}", f"198.51.100.{number}", "wrong"))
        handshake._logins._recent.remember("hash", f"password {number}", 0.0)
        lobby._guests[number] = cast("Guest", object())
        lobby._doors[number] = cast("Any", object())
    supervisor._keep_lobby(lobby)


def report(number: int) -> Reclaimed:
    nothing = MemoryReading(0, 0, 0)
    return Reclaimed(0, number, Level.TRIM, "test", 0.0, 0.0, 0.0, 0, {}, {}, 0, nothing, nothing)


def owners_of(root: Owner) -> Iterable[Owner]:
    pending = [root]
    while pending:
        owner = pending.pop()
        yield owner
        pending.extend(owner.owned())


def kinds_of_owners() -> Iterator[type[Owner]]:
    """Of the supervisor, whatever else is imported."""
    for kind in Owner.__subclasses__():
        if kind.__module__.startswith("runtime.") and not kind.__module__.startswith("runtime.management."):
            yield kind
