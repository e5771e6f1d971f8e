"""The directory: what a first start makes, what changes survive, and what is refused without touching it."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ipc.data_directory import DataDirectory
from ipc.errors import ExitCode, StartRefused
from ipc.messages.commands import Permissions
from ipc.settings import UserSettings
from runtime.auth.directory import EVERYTHING, Directory, DirectoryRefusal, VHost
from runtime.auth.passwords import verify

READ_ONLY = Permissions("", "", "logs.*")


@pytest.fixture
def paths(tmp_path: Path) -> DataDirectory:
    return DataDirectory(tmp_path)


@pytest.fixture
def directory(paths: DataDirectory) -> Iterator[Directory]:
    directory = Directory.open(paths, UserSettings())
    yield directory
    directory.close()


def reopened(paths: DataDirectory) -> Directory:
    return Directory.open(paths, UserSettings())


def refusal_of(paths: DataDirectory) -> StartRefused:
    with pytest.raises(StartRefused) as refused:
        Directory.open(paths, UserSettings())
    return refused.value


def test_a_first_start_makes_the_first_vhost_and_a_guest_who_may_do_everything_in_it(directory: Directory) -> None:
    (guest,) = directory.users()

    assert directory.vhosts() == [VHost(1, "/", None, False)]
    assert (guest.name, guest.tags) == ("guest", ("administrator",))
    assert verify(guest.password_hash, "guest")
    assert directory.permissions() == [("guest", "/", EVERYTHING)]


def test_a_second_start_makes_nothing(paths: DataDirectory, directory: Directory) -> None:
    directory.delete_user("guest")
    directory.close()

    again = reopened(paths)

    assert again.users() == []
    assert again.permissions() == []


def test_the_settings_name_the_first_user(paths: DataDirectory) -> None:
    directory = Directory.open(paths, UserSettings(default_user="root", default_password="geheim"))

    assert [user.name for user in directory.users()] == ["root"]
    assert verify(directory.users()[0].password_hash, "geheim")


def test_changes_survive_a_restart(paths: DataDirectory, directory: Directory) -> None:
    directory.add_vhost("orders")
    directory.place("orders", 3)
    directory.add_user("alice", "hash", ("monitoring", "policymaker"))
    directory.set_permissions("alice", "orders", READ_ONLY)
    directory.set_password("guest", "other")
    directory.close()

    again = reopened(paths)

    assert again.vhosts() == [VHost(1, "/", None, False), VHost(2, "orders", 3, False)]
    alice = again.find_user("alice")
    assert alice is not None
    assert alice.tags == ("monitoring", "policymaker")
    assert again.find_permissions("alice", "orders") == READ_ONLY
    guest = again.find_user("guest")
    assert guest is not None
    assert guest.password_hash == "other"


def test_a_shard_given_with_a_vhost_is_a_pin_and_placing_keeps_it(directory: Directory) -> None:
    assert directory.add_vhost("pinned", shard=1) == VHost(2, "pinned", 1, True)

    directory.place("pinned", 0)

    assert directory.find_vhost("pinned") == VHost(2, "pinned", 0, True)


def test_a_vhosts_number_is_never_given_twice(directory: Directory) -> None:
    directory.add_vhost("a")
    directory.delete_vhost("a")

    assert directory.add_vhost("b").number == 3


def test_permissions_go_with_their_user_and_their_vhost(directory: Directory) -> None:
    directory.add_vhost("orders")
    directory.add_user("alice", "hash")
    directory.set_permissions("alice", "orders", EVERYTHING)
    directory.set_permissions("alice", "/", EVERYTHING)
    directory.set_permissions("guest", "orders", EVERYTHING)

    directory.delete_vhost("orders")
    directory.delete_user("alice")

    assert directory.permissions() == [("guest", "/", EVERYTHING)]


def test_permissions_are_replaced_and_cleared(directory: Directory) -> None:
    directory.set_permissions("guest", "/", READ_ONLY)
    assert directory.find_permissions("guest", "/") == READ_ONLY

    directory.clear_permissions("guest", "/")
    assert directory.find_permissions("guest", "/") is None


def test_what_cannot_be_done_is_refused_in_a_sentence(directory: Directory) -> None:
    attempts: list[tuple[Callable[[], object], str]] = [
        (lambda: directory.add_vhost("/"), "vhost '/' exists already"),
        (lambda: directory.add_vhost(""), "a vhost's name has 1 to 255 bytes"),
        (lambda: directory.delete_vhost("no"), "no vhost 'no'"),
        (lambda: directory.place("no", 1), "no vhost 'no'"),
        (lambda: directory.add_user("guest", "hash"), "user 'guest' exists already"),
        (lambda: directory.add_user("ü" * 128, "hash"), "a user's name has 1 to 255 bytes"),
        (lambda: directory.add_user("a", "hash", ("two words",)), "a tag is one word"),
        (lambda: directory.delete_user("no"), "no user 'no'"),
        (lambda: directory.set_password("no", "hash"), "no user 'no'"),
        (lambda: directory.set_permissions("no", "/", EVERYTHING), "no user 'no' or no vhost '/'"),
        (lambda: directory.set_permissions("guest", "no", EVERYTHING), "no user 'guest' or no vhost 'no'"),
        (lambda: directory.clear_permissions("guest", "no"), "user 'guest' has no permissions in vhost 'no'"),
    ]
    before = (directory.vhosts(), directory.users(), directory.permissions())

    for attempt, sentence in attempts:
        with pytest.raises(DirectoryRefusal) as refused:
            attempt()
        assert str(refused.value) == sentence

    assert (directory.vhosts(), directory.users(), directory.permissions()) == before


def test_a_permission_must_be_a_regular_expression(directory: Directory) -> None:
    with pytest.raises(DirectoryRefusal, match="not a regular expression"):
        directory.set_permissions("guest", "/", Permissions("(", "", ""))


def test_another_process_changes_show_after_a_reload(paths: DataDirectory, directory: Directory) -> None:
    command_line = reopened(paths)
    command_line.add_vhost("orders")
    command_line.close()
    assert directory.find_vhost("orders") is None

    directory.reload()

    assert directory.find_vhost("orders") is not None


def test_many_threads_may_change_it_at_once(directory: Directory) -> None:
    threads = [threading.Thread(target=directory.add_vhost, args=(f"v{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {vhost.name for vhost in directory.vhosts()} == {"/", *(f"v{number}" for number in range(8))}


# refused starts -------------------------------------------------------------------------------------------------------


def test_a_newer_format_is_refused_and_left_alone(paths: DataDirectory, directory: Directory) -> None:
    directory.close()
    with sqlite3.connect(paths.directory) as newer:
        newer.execute("PRAGMA user_version = 2")
    newer.close()
    before = paths.directory.read_bytes()

    refused = refusal_of(paths)

    assert refused.exit_code is ExitCode.FORMAT_UNKNOWN
    assert "has format 2" in str(refused)
    assert paths.directory.read_bytes() == before


def test_somebody_elses_database_is_refused_and_left_alone(paths: DataDirectory) -> None:
    with sqlite3.connect(paths.directory) as foreign:
        foreign.execute("CREATE TABLE songs (title TEXT)")
    foreign.close()
    before = paths.directory.read_bytes()

    refused = refusal_of(paths)

    assert refused.exit_code is ExitCode.FORMAT_UNKNOWN
    assert paths.directory.read_bytes() == before


def test_what_is_no_database_is_refused_and_left_alone(paths: DataDirectory) -> None:
    paths.directory.write_bytes(b"not a database, but longer than its header would be" * 10)
    before = paths.directory.read_bytes()

    refused = refusal_of(paths)

    assert refused.exit_code is ExitCode.STORE_DAMAGED
    assert paths.directory.read_bytes() == before


def test_a_damaged_page_is_found(paths: DataDirectory, directory: Directory) -> None:
    directory.close()
    damaged = bytearray(paths.directory.read_bytes())
    damaged[4096:8192] = b"\xa5" * 4096
    paths.directory.write_bytes(damaged)

    assert refusal_of(paths).exit_code is ExitCode.STORE_DAMAGED


def test_a_missing_data_directory_is_unusable(tmp_path: Path) -> None:
    refused = refusal_of(DataDirectory(tmp_path / "missing"))

    assert refused.exit_code is ExitCode.DATA_DIRECTORY_UNUSABLE
    assert str(refused) == f"{tmp_path}/missing/directory.sqlite cannot be used: unable to open database file"


def test_a_database_that_is_a_directory_is_unusable(paths: DataDirectory) -> None:
    paths.directory.mkdir()

    assert refusal_of(paths).exit_code is ExitCode.DATA_DIRECTORY_UNUSABLE
