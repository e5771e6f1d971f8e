"""The directory: what a first start makes, what changes survive, and what is refused without touching it."""

import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from ipc.data_directory import DataDirectory
from ipc.errors import ExitCode, StartRefused
from ipc.limits import PERMISSIONS_BYTES_MAX, RULES_BYTES_MAX
from ipc.messages.commands import Permissions, TopicPermissions
from ipc.messages.rules import NO_RULES, Policy, Rules
from ipc.settings import UserSettings
from runtime.auth.directory import EVERYTHING, FORMAT, Directory, DirectoryRefusal, User, VHost
from runtime.auth.passwords import verify

GOLDEN = Path(__file__).parent / "golden"
READ_ONLY = Permissions("", "", "logs.*")
SHORT = Policy("short", "^jobs", {"max-length": 5, "overflow": "reject-publish"}, "queues", 3)
BRIEF = Policy("brief", ".*", {"message-ttl": 1000})


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
    assert verify(guest.password_hash, "guest", UserSettings())
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
    assert verify(directory.users()[0].password_hash, "geheim", UserSettings())


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
        (lambda: directory.set_tags("no", ()), "no user 'no'"),
        (lambda: directory.set_tags("guest", ("two words",)), "a tag is one word"),
        (lambda: directory.set_policy("no", SHORT), "no vhost 'no'"),
        (lambda: directory.set_policy("/", Policy("p", ".*", {})), "no policy provided"),
        (lambda: directory.clear_policy("/", "no"), "no policy 'no' in vhost '/'"),
        (lambda: directory.clear_policy("/", "no", is_operator=True), "no operator policy 'no' in vhost '/'"),
        (lambda: directory.set_limit("no", "max-queues", 1), "no vhost 'no'"),
        (lambda: directory.set_limit("/", "max-fun", 1), "no limit 'max-fun'; there are max-connections, max-queues"),
        (lambda: directory.set_limit("/", "max-queues", 2**31), "a limit is at most 2147483647"),
        (lambda: directory.clear_limit("/", "max-queues"), "no limit 'max-queues' in vhost '/'"),
        (
            lambda: directory.set_topic_permissions("no", "/", TopicPermissions("x", "", "")),
            "no user 'no' or no vhost '/'",
        ),
        (
            lambda: directory.clear_topic_permissions("guest", "/"),
            "user 'guest' has no such topic permissions in vhost '/'",
        ),
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


# policies, limits and topics ------------------------------------------------------------------------------------------


def test_policies_and_limits_survive_a_restart(paths: DataDirectory, directory: Directory) -> None:
    directory.set_policy("/", SHORT)
    directory.set_policy("/", BRIEF)
    directory.set_policy("/", BRIEF, is_operator=True)
    directory.set_limit("/", "max-connections", 10)
    directory.set_limit("/", "max-queues", 0)
    directory.close()

    again = reopened(paths)

    assert again.rules("/") == Rules((BRIEF, SHORT), (BRIEF,), connections_max=10, queues_max=0)
    assert again.rules("no") == NO_RULES


def test_a_policy_set_again_is_replaced_and_a_cleared_one_is_gone(directory: Directory) -> None:
    longer = Policy("short", "^jobs", {"max-length": 50})
    directory.set_policy("/", SHORT)
    directory.set_policy("/", longer)
    assert directory.rules("/").policies == (longer,)

    directory.clear_policy("/", "short")
    assert directory.rules("/") == NO_RULES


def test_a_negative_limit_is_none(directory: Directory) -> None:
    directory.set_limit("/", "max-queues", 5)
    directory.set_limit("/", "max-queues", -7)

    assert directory.rules("/") == NO_RULES
    directory.clear_limit("/", "max-queues")


def test_policies_and_limits_go_with_their_vhost(directory: Directory) -> None:
    directory.add_vhost("orders")
    directory.set_policy("orders", SHORT)
    directory.set_limit("orders", "max-queues", 5)

    directory.delete_vhost("orders")
    directory.add_vhost("orders")

    assert directory.rules("orders") == NO_RULES


def test_a_vhosts_policies_fit_into_one_packet(directory: Directory) -> None:
    fitting = RULES_BYTES_MAX // 8000
    for number in range(fitting):
        directory.set_policy("/", Policy(f"p{number}", "x" * 7900, {"max-length": 5}))

    with pytest.raises(DirectoryRefusal) as refused:
        directory.set_policy("/", Policy("one too many", "x" * 7900, {"max-length": 5}))
    assert str(refused.value) == f"policies of one vhost take at most {RULES_BYTES_MAX} bytes"

    rules = directory.rules("/")
    assert len(rules.policies) == fitting
    assert len(msgspec.msgpack.encode(rules)) <= RULES_BYTES_MAX
    directory.clear_policy("/", "p0")
    directory.set_policy("/", Policy("one in its place", "x" * 7900, {"max-length": 5}))


def test_topic_permissions_come_with_the_others(directory: Directory) -> None:
    events = TopicPermissions("events", "^a", "^b")
    audit = TopicPermissions("audit", "", ".*")
    directory.set_topic_permissions("guest", "/", events)
    directory.set_topic_permissions("guest", "/", audit)

    assert directory.find_permissions("guest", "/") == Permissions(".*", ".*", ".*", (audit, events))
    assert directory.topic_permissions() == [("guest", "/", audit), ("guest", "/", events)]

    directory.set_permissions("guest", "/", READ_ONLY)
    directory.clear_topic_permissions("guest", "/", "audit")
    assert directory.find_permissions("guest", "/") == Permissions("", "", "logs.*", (events,))

    directory.clear_topic_permissions("guest", "/")
    assert directory.find_permissions("guest", "/") == READ_ONLY


def test_topic_permissions_wait_for_a_user_who_may_not_enter_yet(directory: Directory) -> None:
    directory.add_user("alice", "hash")
    directory.set_topic_permissions("alice", "/", TopicPermissions("events", "", ""))
    assert directory.find_permissions("alice", "/") is None

    directory.set_permissions("alice", "/", EVERYTHING)
    granted = directory.find_permissions("alice", "/")
    assert granted is not None
    assert [topic.exchange for topic in granted.topics] == ["events"]

    directory.delete_user("alice")
    assert directory.topic_permissions() == []


def test_one_users_permissions_fit_beside_what_a_client_says(directory: Directory) -> None:
    for number in range(PERMISSIONS_BYTES_MAX // 4096):
        directory.set_topic_permissions("guest", "/", TopicPermissions(f"x{number}", "a" * 2000, "b" * 2000))

    with pytest.raises(DirectoryRefusal) as refused:
        directory.set_topic_permissions("guest", "/", TopicPermissions("one too many", "a" * 2000, "b" * 2000))
    assert str(refused.value) == f"permissions of one user take at most {PERMISSIONS_BYTES_MAX} bytes"
    with pytest.raises(DirectoryRefusal):
        directory.set_permissions("guest", "/", Permissions("c" * PERMISSIONS_BYTES_MAX, "", ""))

    assert len(msgspec.msgpack.encode(directory.find_permissions("guest", "/"))) <= PERMISSIONS_BYTES_MAX


def test_tags_are_replaced(directory: Directory) -> None:
    directory.set_tags("guest", ("monitoring", "impersonator"))
    assert [user.tags for user in directory.users()] == [("monitoring", "impersonator")]

    directory.set_tags("guest", ())
    assert [user.tags for user in directory.users()] == [()]


@pytest.mark.parametrize("released", ["format-1", "format-2"])
def test_a_directory_of_an_older_format_is_brought_up_to_date(released: str, paths: DataDirectory) -> None:
    shutil.copy(GOLDEN / f"{released}.sqlite", paths.directory)

    found = reopened(paths)

    assert found.vhosts() == [VHost(1, "/", 0, False), VHost(3, "orders", 1, True)]
    assert [(user.name, user.tags, user.limits) for user in found.users()] == [
        ("alice", ("monitoring", "policymaker"), {}),
        ("guest", ("administrator",), {}),
    ]
    if released == "format-2":
        assert found.find_permissions("alice", "orders") == Permissions(
            "^alice", ".*", "", (TopicPermissions("amq.topic", "^a", "^b"),)
        )
        assert found.rules("orders") == Rules((SHORT,), (Policy("calm", ".*", {"message-ttl": 86400000}),), 10)
        assert found.limits("orders") == {"max-connections": 10, "max-queues": -1}
    found.set_policy("orders", BRIEF)
    found.put_vhost("orders", description="what is ordered")
    found.set_parameter("orders", "shovel", "s", {"src-uri": "amqp://"})
    found.close()
    again = reopened(paths)
    assert BRIEF in again.rules("orders").policies
    assert again.find_vhost("orders") == VHost(3, "orders", 1, True, "what is ordered")
    assert again.parameters() == [("orders", "shovel", "s", {"src-uri": "amqp://"})]


# what people say about vhosts, parameters, limits of users ------------------------------------------------------------


def test_a_vhost_that_is_put_again_keeps_its_files_and_its_place(directory: Directory) -> None:
    directory.add_vhost("orders", shard=1)

    directory.put_vhost("orders", description="d", tags=("a b", "c"), default_queue_type="quorum")

    assert directory.find_vhost("orders") == VHost(2, "orders", 1, True, "d", ("a b", "c"), "quorum")


def test_a_user_who_is_put_again_keeps_permissions_and_limits(directory: Directory) -> None:
    directory.set_user_limit("guest", "max-channels", 5)

    directory.put_user("guest", "other", ("management",))

    assert directory.find_user("guest") == User("guest", "other", ("management",), {"max-channels": 5})
    assert directory.find_permissions("guest", "/") == Permissions(".*", ".*", ".*", channels_max=5)


def test_limits_of_a_user_are_set_cleared_and_go_with_it(directory: Directory) -> None:
    directory.add_user("alice", "hash")
    directory.set_user_limit("alice", "max-connections", -7)
    directory.set_user_limit("alice", "max-channels", 3)
    assert directory.find_user("alice") == User("alice", "hash", (), {"max-channels": 3, "max-connections": -1})

    directory.clear_user_limit("alice", "max-channels")
    assert directory.find_user("alice") == User("alice", "hash", (), {"max-connections": -1})

    directory.delete_user("alice")
    directory.add_user("alice", "hash")
    assert directory.find_user("alice") == User("alice", "hash", ())


def test_parameters_are_replaced_cleared_and_go_with_their_vhost(directory: Directory) -> None:
    directory.add_vhost("orders")
    directory.set_parameter("orders", "shovel", "s", {"src-uri": "amqp://a"})
    directory.set_parameter("orders", "shovel", "s", {"src-uri": "amqp://b"})
    directory.set_parameter("orders", "federation-upstream-set", "all", [{"upstream": "u"}])
    assert directory.find_parameter("orders", "shovel", "s") == {"src-uri": "amqp://b"}

    directory.clear_parameter("orders", "shovel", "s")
    assert directory.parameters() == [("orders", "federation-upstream-set", "all", [{"upstream": "u"}])]

    directory.delete_vhost("orders")
    assert directory.parameters() == []


def test_global_parameters_hold_any_json(paths: DataDirectory, directory: Directory) -> None:
    values = {"cluster_name": "tide", "list": [1, {"a": None}], "nothing": None}
    for name, value in values.items():
        directory.set_global_parameter(name, value)
    directory.close()

    again = reopened(paths)

    assert again.global_parameters() == values
    again.clear_global_parameter("list")
    assert "list" not in again.global_parameters()


def test_what_people_say_is_refused_in_a_sentence_where_it_is_wrong(directory: Directory) -> None:
    attempts: list[tuple[Callable[[], object], str]] = [
        (lambda: directory.put_vhost(""), "a vhost's name has 1 to 255 bytes"),
        (lambda: directory.put_vhost("a", default_queue_type="heap"), "no queue type 'heap'"),
        (lambda: directory.put_vhost("a", description="x" * 5000), "description and tags of a vhost take at most"),
        (lambda: directory.put_user("", "hash", ()), "a user's name has 1 to 255 bytes"),
        (lambda: directory.set_user_limit("no", "max-channels", 1), "no user 'no'"),
        (lambda: directory.set_user_limit("guest", "max-queues", 1), "no limit 'max-queues'"),
        (lambda: directory.set_user_limit("guest", "max-channels", 2**31), "a limit is at most 2147483647"),
        (lambda: directory.clear_user_limit("guest", "max-channels"), "no limit 'max-channels' for user 'guest'"),
        (lambda: directory.set_parameter("/", "nope", "n", {}), "component nope not found"),
        (lambda: directory.set_parameter("no", "shovel", "n", {}), "no vhost 'no'"),
        (lambda: directory.set_parameter("/", "shovel", "n", []), "the value of a shovel is a JSON object"),
        (lambda: directory.set_parameter("/", "shovel", "", {}), "a parameter's name has 1 to 255 bytes"),
        (lambda: directory.set_parameter("/", "shovel", "n", {"a": "x" * 2**21}), "parameters of one vhost take at"),
        (lambda: directory.clear_parameter("/", "shovel", "n"), "no parameter 'n' of shovel in vhost '/'"),
        (lambda: directory.set_global_parameter("cluster_name", 5), "cluster_name should be a text"),
        (lambda: directory.set_global_parameter("n", "x" * 2**21), "global parameters take at most"),
        (lambda: directory.clear_global_parameter("n"), "no global parameter 'n'"),
    ]
    for attempt, complaint in attempts:
        with pytest.raises(DirectoryRefusal) as refused:
            attempt()
        assert complaint in str(refused.value)
    assert directory.parameters() == []
    assert directory.global_parameters() == {}


# several changes as one -----------------------------------------------------------------------------------------------


def test_changes_made_together_are_seen_when_all_are_made(directory: Directory) -> None:
    with directory.together():
        directory.put_vhost("orders")
        directory.put_user("alice", "hash", ())
        directory.set_permissions("alice", "orders", EVERYTHING)
        assert directory.find_vhost("orders") is None

    assert directory.find_permissions("alice", "orders") == EVERYTHING


def test_a_refused_change_can_be_passed_over_without_the_others(directory: Directory) -> None:
    with directory.together():
        directory.put_vhost("orders")
        with pytest.raises(DirectoryRefusal):
            directory.set_permissions("nobody", "orders", EVERYTHING)
        directory.set_limit("orders", "max-queues", 5)

    assert directory.limits("orders") == {"max-queues": 5}
    assert directory.permissions() == [("guest", "/", EVERYTHING)]


def test_an_exception_undoes_all_changes_made_together(paths: DataDirectory, directory: Directory) -> None:
    def put_and_fail() -> None:
        with directory.together():
            directory.put_vhost("orders")
            raise EOFError

    with pytest.raises(EOFError):
        put_and_fail()

    assert directory.find_vhost("orders") is None
    directory.add_vhost("orders")
    directory.close()
    assert [vhost.name for vhost in reopened(paths).vhosts()] == ["/", "orders"]


def test_changes_can_be_tried_without_being_made(directory: Directory) -> None:
    with directory.together(for_good=False):
        directory.put_vhost("orders")
        directory.set_limit("orders", "max-queues", 5)

    assert [vhost.name for vhost in directory.vhosts()] == ["/"]
    directory.reload()
    assert [vhost.name for vhost in directory.vhosts()] == ["/"]


def test_a_policy_that_cannot_be_read_back_is_damage(paths: DataDirectory, directory: Directory) -> None:
    directory.set_policy("/", SHORT)
    directory.close()
    with sqlite3.connect(paths.directory) as spoilt:
        spoilt.execute("UPDATE policies SET definition = '[]'")
    spoilt.close()

    refused = refusal_of(paths)

    assert refused.exit_code is ExitCode.STORE_DAMAGED
    assert "policy 'short' of vhost '/' cannot be read" in str(refused)


# refused starts -------------------------------------------------------------------------------------------------------


def test_a_newer_format_is_refused_and_left_alone(paths: DataDirectory, directory: Directory) -> None:
    directory.close()
    with sqlite3.connect(paths.directory) as newer:
        newer.execute(f"PRAGMA user_version = {FORMAT + 1}")
    newer.close()
    before = paths.directory.read_bytes()

    refused = refusal_of(paths)

    assert refused.exit_code is ExitCode.FORMAT_UNKNOWN
    assert f"has format {FORMAT + 1}" in str(refused)
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


def test_its_cache_of_pages_goes_unless_somebody_changes_something(directory: Directory) -> None:
    """Whoever waits for a change must not make a pass wait as well."""
    said: list[str] = []
    directory._connection.set_trace_callback(said.append)

    released_in_a_thread(directory)
    assert said == ["PRAGMA shrink_memory"]

    with directory.together():
        said.clear()
        released_in_a_thread(directory)
        assert said == []
    assert directory.find_user("guest") is not None


def released_in_a_thread(directory: Directory) -> None:
    thread = threading.Thread(target=directory.release)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
