"""Exchanges bound to exchanges: as many as clients like, in lines and in circles, and none of them twice."""

import pytest

from shards.model.bindings import Destination
from shards.model.vhost import VHost
from shards.store.definitions import DropExchange
from tests.model.making import declare, declare_exchange
from tests.protocols.conversation import World

LENGTH = 3_000  # more than Python calls into each other


@pytest.fixture
def vhost(world: World) -> VHost:
    return world.vhost


def chain(vhost: VHost, *, is_auto_delete: bool = False) -> None:
    """`0` leads to `1`, and so on, and the last one to the queue `jobs`."""
    exchanges = [
        declare_exchange(vhost, str(number), is_durable=False, is_auto_delete=is_auto_delete)
        for number in range(LENGTH)
    ]
    destinations: list[Destination] = [*exchanges[1:], declare(vhost, "jobs", is_durable=False)]
    for source, destination in zip(exchanges, destinations, strict=True):
        vhost.bind(source, destination, "", {})


def test_a_message_goes_all_the_way(vhost: VHost) -> None:
    chain(vhost)

    assert vhost.route(vhost.exchange("0"), "", dict) == ([vhost.queue("jobs")], True)


def test_a_line_of_auto_delete_exchanges_goes_with_the_queue_at_its_end(vhost: VHost) -> None:
    chain(vhost, is_auto_delete=True)

    vhost.delete_queue(vhost.queue("jobs"))

    assert all(vhost.find_exchange(str(number)) is None for number in range(LENGTH))


def test_a_line_of_auto_delete_exchanges_goes_with_the_exchange_at_its_end(vhost: VHost) -> None:
    chain(vhost, is_auto_delete=True)

    vhost.delete_exchange(str(LENGTH - 1))

    assert all(vhost.find_exchange(str(number)) is None for number in range(LENGTH))
    assert vhost.queue("jobs").inbound() == []


def test_a_line_of_auto_delete_exchanges_goes_with_the_last_binding(vhost: VHost) -> None:
    chain(vhost, is_auto_delete=True)

    vhost.unbind(vhost.exchange(str(LENGTH - 1)), vhost.queue("jobs"), "", {})

    assert vhost.find_exchange("0") is None


def test_an_auto_delete_exchange_stays_while_anything_is_bound_to_it(vhost: VHost) -> None:
    news, jobs = declare_exchange(vhost, "news", is_auto_delete=True), declare(vhost, "jobs")
    vhost.bind(news, jobs, "one", {})
    vhost.bind(news, jobs, "two", {})

    vhost.unbind(news, jobs, "one", {})
    assert vhost.find_exchange("news") is news

    vhost.unbind(news, jobs, "two", {})
    assert vhost.find_exchange("news") is None


def test_an_auto_delete_exchange_that_nothing_was_ever_bound_to_stays(vhost: VHost) -> None:
    news = declare_exchange(vhost, "news", is_auto_delete=True)
    vhost.bind(vhost.exchange("amq.fanout"), news, "", {})

    vhost.unbind(vhost.exchange("amq.fanout"), news, "", {})

    assert vhost.find_exchange("news") is news


def test_durable_exchanges_that_go_along_are_noted_once_each(vhost: VHost) -> None:
    first, second = (declare_exchange(vhost, name, is_auto_delete=True) for name in ("first", "second"))
    jobs = declare(vhost, "jobs", is_durable=False)
    vhost.bind(first, second, "", {})
    vhost.bind(first, jobs, "", {})
    vhost.bind(second, jobs, "", {})
    vhost.take_changes()

    vhost.delete_queue(jobs)

    changes = vhost.take_changes()
    assert sorted(change.name for change in changes if isinstance(change, DropExchange)) == ["first", "second"]
    assert len(changes) == 2


@pytest.mark.parametrize("kind", ["direct", "fanout", "topic", "headers"])
def test_a_mesh_of_exchanges_delivers_once(vhost: VHost, kind: str) -> None:
    exchanges = [declare_exchange(vhost, str(number), kind) for number in range(12)]
    queue = declare(vhost, "jobs")
    destinations: list[Destination] = [*exchanges, queue]
    for source in exchanges:
        for destination in destinations:
            vhost.bind(source, destination, "key", {})

    queues, _ = vhost.route(exchanges[0], "key", dict)

    assert queues == [queue]
