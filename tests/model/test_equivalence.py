"""A second declaration must mean what the first did, and is told the first difference in RabbitMQ's words."""

from typing import Any

import pytest

from ipc.errors import AccessRefused, PreconditionFailed, ResourceLocked
from tests.model.making import declare, declare_exchange
from tests.protocols.conversation import World


def test_an_equal_declaration_finds_the_same_queue(world: World) -> None:
    first = declare(world.vhost, "jobs", arguments={"x-max-length": 5})

    assert declare(world.vhost, "jobs", arguments={"x-max-length": 5}) is first


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"is_durable": False}, "'durable' for queue 'jobs' in vhost '/': received 'false' but current is 'true'"),
        ({"is_auto_delete": True}, "'auto_delete' for queue 'jobs' in vhost '/': received 'true'"),
        ({"arguments": {}}, "received none but current is the value '5' of type 'signedint'"),
        ({"arguments": {"x-max-length": 6}}, "received '6' but current is '5'"),
        ({"arguments": {"x-max-length": 5, "a": "b"}}, "received the value 'b' of type 'longstr' but current is none"),
    ],
)
def test_another_queue_under_the_same_name_is_refused(world: World, other: dict[str, Any], told: str) -> None:
    declare(world.vhost, "jobs", arguments={"x-max-length": 5})

    with pytest.raises(PreconditionFailed) as refused:
        declare(world.vhost, "jobs", **{"arguments": {"x-max-length": 5}, **other})

    assert told in refused.value.text
    assert refused.value.text.startswith("inequivalent arg ")


def test_a_queue_without_a_type_is_a_classic_queue(world: World) -> None:
    plain = declare(world.vhost, "plain")
    classic = declare(world.vhost, "classic", arguments={"x-queue-type": "classic"})

    assert declare(world.vhost, "plain", arguments={"x-queue-type": "classic"}) is plain
    assert declare(world.vhost, "classic") is classic


def test_a_queue_without_a_type_is_no_quorum_queue(world: World) -> None:
    declare(world.vhost, "plain")

    with pytest.raises(PreconditionFailed, match="received 'quorum' but current is 'classic'"):
        declare(world.vhost, "plain", arguments={"x-queue-type": "quorum"})


def test_a_queue_that_is_not_exclusive_is_locked_to_whoever_says_it_is(world: World) -> None:
    declare(world.vhost, "jobs")

    with pytest.raises(ResourceLocked, match="cannot obtain exclusive access to locked queue 'jobs' in vhost '/'"):
        declare(world.vhost, "jobs", is_exclusive=True)


@pytest.mark.parametrize(
    ("kind", "other", "differs"),
    [
        ("direct", {}, "type"),
        ("fanout", {"is_durable": False}, "durable"),
        ("fanout", {"is_auto_delete": True}, "auto_delete"),
        ("fanout", {"is_internal": True}, "internal"),
        ("fanout", {"arguments": {"alternate-exchange": "a"}}, "alternate-exchange"),
    ],
)
def test_another_exchange_under_the_same_name_is_refused(
    world: World, kind: str, other: dict[str, Any], differs: str
) -> None:
    declare_exchange(world.vhost, "news")

    with pytest.raises(PreconditionFailed) as refused:
        declare_exchange(world.vhost, "news", kind, **other)

    assert f"inequivalent arg '{differs}' for exchange 'news' in vhost '/'" in refused.value.text


def test_a_predeclared_exchange_may_be_declared_as_it_is(world: World) -> None:
    assert declare_exchange(world.vhost, "amq.topic", "topic") is world.vhost.exchange("amq.topic")


def test_reserved_names_are_refused(world: World) -> None:
    with pytest.raises(AccessRefused):
        declare_exchange(world.vhost, "amq.mine")
    with pytest.raises(AccessRefused):
        declare(world.vhost, "amq.mine")
