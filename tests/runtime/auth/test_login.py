"""Logging in: with the right password, from the right place, and without holding anybody else up."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from ipc.data_directory import DataDirectory
from ipc.errors import NotAllowed
from ipc.messages.commands import Permissions
from ipc.settings import UserSettings
from runtime.auth.directory import EVERYTHING, Directory
from runtime.auth.login import LoginFailed, Logins, is_loopback, permissions_to_enter
from runtime.auth.passwords import hash_password

ANYWHERE = UserSettings(loopback_only=())


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    directory = Directory.open(DataDirectory(tmp_path), UserSettings())
    yield directory
    directory.close()


async def test_the_right_password_logs_in(directory: Directory) -> None:
    user = await Logins(directory).login("guest", "guest", "127.0.0.1", UserSettings())

    assert (user.name, user.tags) == ("guest", ("administrator",))


@pytest.mark.parametrize(("name", "password"), [("guest", "wrong"), ("guest", ""), ("nobody", "guest"), ("", "")])
async def test_anything_else_does_not(directory: Directory, name: str, password: str) -> None:
    with pytest.raises(LoginFailed):
        await Logins(directory).login(name, password, "127.0.0.1", ANYWHERE)


async def test_guest_stays_at_home(directory: Directory) -> None:
    with pytest.raises(LoginFailed, match="only log in via localhost"):
        await Logins(directory).login("guest", "guest", "192.0.2.1", UserSettings())

    assert (await Logins(directory).login("guest", "guest", "192.0.2.1", ANYWHERE)).name == "guest"


async def test_a_second_login_needs_no_thread(directory: Directory) -> None:
    logins = Logins(directory)
    await logins.login("guest", "guest", "127.0.0.1", ANYWHERE)
    began = trio.current_time()

    for _ in range(20):
        await logins.login("guest", "guest", "127.0.0.1", ANYWHERE)

    assert trio.current_time() - began < 0.02


async def test_a_changed_password_counts_at_once(directory: Directory) -> None:
    logins = Logins(directory)
    await logins.login("guest", "guest", "127.0.0.1", ANYWHERE)

    directory.set_password("guest", hash_password("other", UserSettings()))

    with pytest.raises(LoginFailed):
        await logins.login("guest", "guest", "127.0.0.1", ANYWHERE)
    assert (await logins.login("guest", "other", "127.0.0.1", ANYWHERE)).name == "guest"


async def test_the_loop_runs_on_while_passwords_are_checked(directory: Directory) -> None:
    logins = Logins(directory)
    turns = 0

    async def guess() -> None:
        with pytest.raises(LoginFailed):
            await logins.login("guest", "wrong", "127.0.0.1", ANYWHERE)

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(guess)
        while len(nursery.child_tasks) > 0:
            turns += 1
            await trio.sleep(0.001)

    assert turns > 10


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("192.0.2.1", False),
        ("::ffff:192.0.2.1", False),
        ("fe80::1%eth0", False),
    ],
)
def test_loopback_is_known_in_all_its_forms(address: str, expected: bool) -> None:
    assert is_loopback(address) is expected


def test_entering_takes_a_vhost_and_a_permission(directory: Directory) -> None:
    directory.add_vhost("orders")
    directory.add_user("alice", "hash")
    directory.set_permissions("alice", "orders", Permissions("", "", ""))

    assert permissions_to_enter(directory, "guest", "/") == EVERYTHING
    assert permissions_to_enter(directory, "alice", "orders") == Permissions("", "", "")
    with pytest.raises(NotAllowed, match="vhost 'no' not found"):
        permissions_to_enter(directory, "guest", "no")
    with pytest.raises(NotAllowed, match="access to vhost '/' refused for user 'alice'"):
        permissions_to_enter(directory, "alice", "/")
