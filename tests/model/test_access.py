"""Permissions are regular expressions, searched for; what they said is remembered, not for ever and not too much."""

import pytest

from ipc.errors import AccessRefused
from ipc.messages.commands import Permissions
from shards.model.access import Access


def access(configure: str = "", write: str = "", read: str = "") -> Access:
    return Access("ann", "/", Permissions(configure=configure, write=write, read=read))


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

    assert len(rights._answers) <= 256
