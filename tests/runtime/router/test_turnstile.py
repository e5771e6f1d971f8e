"""A user with a limit is let in as long as there is room, however many of its clients come at a time."""

from pathlib import Path

import pytest
import trio
import trio.testing

from ipc.data_directory import DataDirectory
from ipc.errors import NotAllowed
from ipc.settings import UserSettings
from runtime.auth.directory import Directory
from runtime.router.turnstile import Turnstile


class Hall:
    """Where clients go; counting them takes a while."""

    def __init__(self, directory: Directory) -> None:
        self.turnstile = Turnstile(directory, self._count)
        self.inside = 0
        self.asked = 0
        self.told = ""

    async def _count(self, user: str) -> int:
        self.asked += 1
        found = self.inside
        await trio.sleep(0.1)
        return found

    async def enter(self) -> bool:
        try:
            async with self.turnstile.passing("guest"):
                self.inside += 1
        except NotAllowed as refusal:
            self.told = refusal.text
            return False
        return True


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return Directory.open(DataDirectory(tmp_path), UserSettings())


async def entering(hall: Hall, clients: int) -> int:
    """How many of them were let in."""
    let_in = 0

    async def enter() -> None:
        nonlocal let_in
        if await hall.enter():
            let_in += 1

    async with trio.open_nursery() as nursery:
        for _ in range(clients):
            nursery.start_soon(enter)
    return let_in


async def test_clients_that_come_together_do_not_pass_together(
    directory: Directory, autojump_clock: trio.testing.MockClock
) -> None:
    hall = Hall(directory)
    directory.set_user_limit("guest", "max-connections", 3)

    assert await entering(hall, 8) == 3
    assert hall.told == "connection refused for user 'guest': user connection limit (3) is reached"
    hall.inside = 1
    assert await entering(hall, 8) == 2


@pytest.mark.parametrize("limit", [None, -1])
async def test_who_has_no_limit_is_not_counted(limit: int | None, directory: Directory) -> None:
    hall = Hall(directory)
    if limit is not None:
        directory.set_user_limit("guest", "max-connections", limit)

    assert await entering(hall, 8) == 8
    assert hall.asked == 0


async def test_a_limit_of_none_lets_nobody_in(directory: Directory) -> None:
    hall = Hall(directory)
    directory.set_user_limit("guest", "max-connections", 0)

    assert await entering(hall, 2) == 0
