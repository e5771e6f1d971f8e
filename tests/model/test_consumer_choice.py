"""Which consumer gets a message where they are not all equal: by priority, or only one at a time."""

import pytest

from shards.model.queues.queue import Queue
from tests.model.making import Eater, append, declare
from tests.protocols.conversation import World


@pytest.fixture
def queue(world: World) -> Queue:
    return declare(world.vhost, "jobs")


@pytest.fixture
def single(world: World) -> Queue:
    return declare(world.vhost, "single", arguments={"x-single-active-consumer": True})


def test_a_higher_priority_is_served_first(queue: Queue) -> None:
    low, high = Eater(queue), Eater(queue, priority=5)
    queue.add_consumer(low)
    queue.add_consumer(high)
    append(queue, b"a", b"b")

    queue.deliver(0)

    assert (low.bodies, high.bodies) == ([], [b"a", b"b"])


def test_a_lower_priority_gets_what_a_higher_one_has_no_room_for(queue: Queue) -> None:
    low, high = Eater(queue), Eater(queue, priority=5, appetite=1)
    queue.add_consumer(low)
    queue.add_consumer(high)
    append(queue, b"a", b"b", b"c")

    queue.deliver(0)

    assert (high.bodies, low.bodies) == ([b"a"], [b"b", b"c"])


def test_those_of_one_priority_take_turns(queue: Queue) -> None:
    eaters = [Eater(queue, priority=2) for _ in range(2)]
    other = Eater(queue)
    for eater in (other, *eaters):
        queue.add_consumer(eater)
    for body in (b"a", b"b", b"c", b"d"):
        append(queue, body)
        queue.deliver(0)

    assert [len(eater.bodies) for eater in eaters] == [2, 2]
    assert other.bodies == []


def test_only_the_first_consumer_is_active(single: Queue) -> None:
    first, second = Eater(single), Eater(single)
    single.add_consumer(first)
    single.add_consumer(second)
    append(single, b"a", b"b")

    single.deliver(0)

    assert (first.bodies, second.bodies) == ([b"a", b"b"], [])
    assert single.active_consumer is first


def test_the_next_one_takes_over_when_the_active_one_leaves(single: Queue) -> None:
    first, second, third = eaters = [Eater(single) for _ in range(3)]
    for eater in eaters:
        single.add_consumer(eater)
    single.remove_consumer(first)
    append(single, b"a")

    single.deliver(0)

    assert (second.bodies, third.bodies) == ([b"a"], [])


def test_an_active_consumer_without_room_is_waited_for(single: Queue) -> None:
    first, second = Eater(single, appetite=1), Eater(single)
    single.add_consumer(first)
    single.add_consumer(second)
    append(single, b"a", b"b")
    single.deliver(0)
    assert (first.bodies, second.bodies) == ([b"a"], [])

    first.settle()
    single.deliver(0)

    assert (first.bodies, second.bodies) == ([b"a", b"b"], [])
