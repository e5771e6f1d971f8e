"""Permissions are regular expressions, searched for; what they said is remembered, not for ever and not too much."""

import pytest

from ipc.errors import AccessRefused
from ipc.limits import PERMISSION_ANSWERS_MAX
from ipc.messages.commands import Permissions, TopicPermissions
from shards.model.access import Access


def access(configure: str = "", write: str = "", read: str = "") -> Access:
    return Access("ann", "/", Permissions(configure=configure, write=write, read=read))


def topics(*granted: TopicPermissions, user: str = "ann", vhost: str = "/") -> Access:
    return Access(user, vhost, Permissions(".*", ".*", ".*", granted))


def test_an_expression_matches_anywhere_in_a_name() -> None:
    rights = access(read="jobs")

    assert rights.may("read", "old jobs done")
    assert not rights.may("read", "job")


def test_each_right_has_its_own_expression() -> None:
    rights = access(configure="^c", write="^w", read="^r")

    for right in ("configure", "write", "read"):
        assert [name for name in "cwr" if rights.may(right, name)] == [right[0]]


@pytest.mark.parametrize("name", ["jobs", "", " ", "\n"])
def test_an_empty_expression_denies_every_name(name: str) -> None:
    assert not access().may("write", name)


def test_the_default_exchange_is_checked_under_a_name() -> None:
    assert access(write="^amq\\.default$").may("write", "")
    assert not access(write="^jobs$").may("write", "")


def test_a_refusal_says_who_may_not_do_what() -> None:
    with pytest.raises(AccessRefused) as refused:
        access().require("write", "queue", "jobs")

    assert refused.value.text == "write access to queue 'jobs' in vhost '/' refused for user 'ann'"


def test_changed_permissions_hold_at_once() -> None:
    rights = access(read=".*")
    assert rights.may("read", "jobs")

    rights.change(Permissions(configure="", write="jobs", read=""))

    assert not rights.may("read", "jobs")
    assert rights.may("write", "jobs")


def test_the_memory_of_answers_is_bounded() -> None:
    rights = access(read="7$")
    for number in range(10_000):
        assert rights.may("read", f"queue-{number}") is (number % 10 == 7)

    assert len(rights._answers) <= PERMISSION_ANSWERS_MAX


# topics ---------------------------------------------------------------------------------------------------------------


def test_without_topic_permissions_for_an_exchange_every_routing_key_is_allowed() -> None:
    rights = topics(TopicPermissions("events", write="^a", read=""))

    assert rights.may_topic("write", "other", "b")
    assert access().may_topic("read", "events", "b")


def test_topic_permissions_are_searched_for_in_routing_keys() -> None:
    rights = topics(TopicPermissions("events", write="^orders\\.", read="eu"))

    assert rights.may_topic("write", "events", "orders.new")
    assert not rights.may_topic("write", "events", "new.orders.")
    assert rights.may_topic("read", "events", "orders.eu.#")
    assert not rights.may_topic("read", "events", "#")


def test_an_empty_topic_expression_denies_every_routing_key() -> None:
    rights = topics(TopicPermissions("events", write="", read=""))

    assert not rights.may_topic("write", "events", "")
    assert not rights.may_topic("read", "events", "\n")


def test_variables_stand_for_the_clients_own_names() -> None:
    rights = topics(TopicPermissions("events", write="^{username}\\.{vhost}\\.", read=".*"), vhost="sales")

    assert rights.may_topic("write", "events", "ann.sales.new")
    assert not rights.may_topic("write", "events", "bob.sales.new")


@pytest.mark.parametrize("user", [".*", "a|.", "{vhost}", "("])
def test_a_name_is_no_expression(user: str) -> None:
    rights = topics(TopicPermissions("events", write="^{username}$", read=""), user=user)

    assert rights.may_topic("write", "events", user)
    assert not rights.may_topic("write", "events", "anything else")


def test_what_is_no_expression_any_more_with_a_name_in_it_denies() -> None:
    rights = topics(TopicPermissions("events", write="{{username}}", read=""), user="2")

    assert not rights.may_topic("write", "events", "2")


def test_a_topic_refusal_says_who_may_not_do_what() -> None:
    with pytest.raises(AccessRefused) as refused:
        topics(TopicPermissions("events", write="^a", read="")).require_topic("write", "events", "b")

    assert refused.value.text == ("write access to topic 'b' in exchange 'events' in vhost '/' refused for user 'ann'")


def test_changed_topic_permissions_hold_at_once_and_answers_are_bounded() -> None:
    rights = topics(TopicPermissions("events", write="7$", read=""))
    for number in range(10_000):
        assert rights.may_topic("write", "events", f"key.{number}") is (number % 10 == 7)
    assert len(rights._topic_answers) <= PERMISSION_ANSWERS_MAX

    rights.change(Permissions(".*", ".*", ".*"))

    assert rights.may_topic("write", "events", "key.1")
