"""Logging in: with the right password, from the right place, and without holding anybody else up."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing

from ipc.data_directory import DataDirectory
from ipc.errors import NotAllowed
from ipc.limits import PASSWORD_CHECKS_MAX
from ipc.messages.commands import Permissions
from ipc.settings import UserSettings
from runtime.auth.directory import EVERYTHING, Directory
from runtime.auth.login import LoginFailed, Logins, NotThisWay, TooManyFailures, is_loopback, permissions_to_enter
from runtime.auth.login_record import LoginRecord
from runtime.auth.passwords import hash_password

ANYWHERE = UserSettings(loopback_only=())


def make_logins(directory: Directory, settings: UserSettings = ANYWHERE) -> Logins:
    return Logins(directory, LoginRecord(lambda: settings), "amqp091")


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    directory = Directory.open(DataDirectory(tmp_path), UserSettings())
    yield directory
    directory.close()


async def test_the_right_password_logs_in(directory: Directory) -> None:
    user = await make_logins(directory).login("guest", "guest", "127.0.0.1", UserSettings())

    assert (user.name, user.tags) == ("guest", ("administrator",))


@pytest.mark.parametrize(("name", "password"), [("guest", "wrong"), ("guest", ""), ("nobody", "guest"), ("", "")])
async def test_anything_else_does_not(directory: Directory, name: str, password: str) -> None:
    with pytest.raises(LoginFailed):
        await make_logins(directory).login(name, password, "127.0.0.1", ANYWHERE)


async def test_guest_stays_at_home(directory: Directory) -> None:
    with pytest.raises(LoginFailed, match="only log in via localhost"):
        await make_logins(directory).login("guest", "guest", "192.0.2.1", UserSettings())

    assert (await make_logins(directory).login("guest", "guest", "192.0.2.1", ANYWHERE)).name == "guest"


async def test_a_second_login_needs_no_thread(directory: Directory) -> None:
    logins = make_logins(directory)
    await logins.login("guest", "guest", "127.0.0.1", ANYWHERE)
    began = trio.current_time()

    for _ in range(20):
        await logins.login("guest", "guest", "127.0.0.1", ANYWHERE)

    assert trio.current_time() - began < 0.02


async def test_a_changed_password_counts_at_once(directory: Directory) -> None:
    logins = make_logins(directory)
    await logins.login("guest", "guest", "127.0.0.1", ANYWHERE)

    directory.set_password("guest", hash_password("other", UserSettings()))

    with pytest.raises(LoginFailed):
        await logins.login("guest", "guest", "127.0.0.1", ANYWHERE)
    assert (await logins.login("guest", "other", "127.0.0.1", ANYWHERE)).name == "guest"


async def test_who_guesses_is_refused_unchecked_until_the_seconds_are_over(
    directory: Directory, autojump_clock: trio.testing.MockClock
) -> None:
    """Also with the right password; what was right a moment ago stays so, and so does another address."""
    settings = msgspec.structs.replace(ANYWHERE, login_failures_max=3, login_failures_seconds=30.0)
    record = LoginRecord(lambda: settings)
    logins = Logins(directory, record, "amqp091")
    other_process = Logins(directory, record, "http")
    for _ in range(3):
        with pytest.raises(LoginFailed, match="wrong password"):
            await logins.login("guest", "wrong", "192.0.2.1", settings)

    for asked in (logins, other_process):
        with pytest.raises(TooManyFailures) as refused:
            await asked.login("guest", "guest", "192.0.2.1", settings)
    assert 29 < refused.value.seconds <= 30
    assert (await logins.login("guest", "guest", "192.0.2.2", settings)).name == "guest"
    assert (await logins.login("guest", "guest", "192.0.2.1", settings)).name == "guest"
    await trio.sleep(30)
    assert (await other_process.login("guest", "guest", "192.0.2.1", settings)).name == "guest"
    assert [(protocol, tally.succeeded, tally.failed) for protocol, tally in record.by_protocol()] == [
        ("amqp091", 2, 4),
        ("http", 1, 1),
    ]


async def test_many_who_come_at_once_with_the_right_password_cost_one_check(directory: Directory) -> None:
    """And guesses that come at once get no further than those that come one after the other."""
    settings = msgspec.structs.replace(ANYWHERE, login_failures_max=3)
    record = LoginRecord(lambda: settings)
    logins = Logins(directory, record, "amqp091")
    outcomes: list[str] = []

    async def come(password: str) -> None:
        try:
            outcomes.append((await logins.login("guest", password, "192.0.2.1", settings)).name)
        except LoginFailed as failed:
            outcomes.append(type(failed).__name__)

    for password in ("guest", "wrong"):
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(come, password)

    assert outcomes.count("guest") == 20
    # Those that were being checked when the last one that counts was found wrong were wrong as well.
    assert 3 <= outcomes.count("LoginFailed") <= 3 + PASSWORD_CHECKS_MAX - 1
    assert outcomes.count("TooManyFailures") == 20 - outcomes.count("LoginFailed")


@pytest.mark.parametrize(
    ("tags", "address", "told"),
    [
        (frozenset({"administrator"}), "192.0.2.1", None),
        (frozenset({"monitoring"}), "192.0.2.1", NotThisWay),
        (None, "192.0.2.1", None),
    ],
)
async def test_the_right_password_may_not_be_enough(
    directory: Directory, tags: frozenset[str] | None, address: str, told: type[LoginFailed] | None
) -> None:
    """Then it is counted as failed, and held against nobody."""
    record = LoginRecord(lambda: ANYWHERE)
    logins = Logins(directory, record, "http", tags)
    for _ in range(20):
        try:
            await logins.login("guest", "guest", address, ANYWHERE)
        except LoginFailed as failed:
            assert type(failed) is told  # noqa: PT017 - nothing is raised where nothing is told

    ((_protocol, tally),) = record.by_protocol()
    assert (tally.succeeded, tally.failed) == ((20, 0) if told is None else (0, 20))


async def test_a_name_that_no_user_can_have_is_not_even_counted(directory: Directory) -> None:
    record = LoginRecord(lambda: ANYWHERE)
    with pytest.raises(LoginFailed, match="so long a name"):
        await Logins(directory, record, "http").login("x" * 256, "guest", "192.0.2.1", ANYWHERE)

    assert record.by_protocol() == []


async def test_the_loop_runs_on_while_passwords_are_checked(directory: Directory) -> None:
    logins = make_logins(directory)
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
