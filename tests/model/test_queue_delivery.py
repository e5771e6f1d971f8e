"""Each ready message goes to one consumer with room: fairly, in order, and in its old place when it came back."""

import pytest

from ipc.limits import DELIVERY_RUN_MAX
from shards.model.queues.queue import DELIVERIES_PER_TURN_MAX, Queue
from tests.model.making import Eater, append, declare, take_all
from tests.protocols.conversation import World


@pytest.fixture
def queue(world: World) -> Queue:
    return declare(world.vhost, "jobs")


def numbers(first: int, end: int) -> list[bytes]:
    return [b"%d" % number for number in range(first, end)]


def subscribe(queue: Queue, *eaters: Eater) -> None:
    for eater in eaters:
        queue.add_consumer(eater)


def test_one_consumer_gets_everything_in_order(queue: Queue) -> None:
    eater = Eater(queue)
    subscribe(queue, eater)
    append(queue, *numbers(0, 500))

    assert not queue.deliver(0)

    assert eater.bodies == numbers(0, 500)


def test_few_messages_go_to_consumers_one_by_one_in_turn(queue: Queue) -> None:
    one, two, three = eaters = [Eater(queue) for _ in range(3)]
    subscribe(queue, *eaters)
    append(queue, *numbers(0, 3))
    queue.deliver(0)
    append(queue, b"3")
    queue.deliver(0)

    assert (one.bodies, two.bodies, three.bodies) == ([b"0", b"3"], [b"1"], [b"2"])


def test_many_messages_go_to_consumers_in_equal_shares(queue: Queue) -> None:
    eaters = [Eater(queue) for _ in range(4)]
    subscribe(queue, *eaters)
    append(queue, *numbers(0, 1000))

    queue.deliver(0)

    shares = [len(eater.bodies) for eater in eaters]
    assert sum(shares) == 1000
    assert max(shares) - min(shares) <= DELIVERY_RUN_MAX


def test_a_consumer_without_room_does_not_hold_the_others_up(queue: Queue) -> None:
    small, large = Eater(queue, appetite=2), Eater(queue)
    subscribe(queue, small, large)
    append(queue, *numbers(0, 100))

    queue.deliver(0)

    assert len(small.bodies) == 2
    assert len(large.bodies) == 98


def test_a_consumer_with_room_again_goes_on(queue: Queue) -> None:
    eater = Eater(queue, appetite=3)
    subscribe(queue, eater)
    append(queue, *numbers(0, 7))

    for expected in (3, 6, 7):
        queue.deliver(0)
        assert len(eater.bodies) == expected
        eater.settle()

    assert eater.bodies == numbers(0, 7)


def test_a_long_backlog_is_handed_out_over_several_turns(queue: Queue) -> None:
    eater = Eater(queue)
    append(queue, *numbers(0, DELIVERIES_PER_TURN_MAX + 1))
    subscribe(queue, eater)

    assert queue.deliver(0)
    assert len(eater.bodies) == DELIVERIES_PER_TURN_MAX
    assert not queue.deliver(0)
    assert len(eater.bodies) == DELIVERIES_PER_TURN_MAX + 1


def test_an_exclusive_consumer_is_alone(queue: Queue) -> None:
    subscribe(queue, Eater(queue, is_exclusive=True))

    assert not queue.admits(Eater(queue))


def test_an_exclusive_consumer_comes_too_late_where_another_is(queue: Queue) -> None:
    first = Eater(queue)
    subscribe(queue, first)

    assert not queue.admits(Eater(queue, is_exclusive=True))

    queue.remove_consumer(first)
    assert queue.admits(Eater(queue, is_exclusive=True))


def test_a_requeued_message_keeps_its_place(queue: Queue) -> None:
    eater = Eater(queue, appetite=4)
    subscribe(queue, eater)
    append(queue, *numbers(0, 8))
    queue.deliver(0)

    eater.give_back()
    queue.remove_consumer(eater)

    assert take_all(queue) == numbers(0, 8)


def test_requeued_messages_keep_their_order_however_they_come_back(queue: Queue) -> None:
    eater = Eater(queue, appetite=6)
    subscribe(queue, eater)
    append(queue, *numbers(0, 9))
    queue.deliver(0)
    queue.remove_consumer(eater)

    queue.requeue(reversed(eater.positions[1::2]))
    queue.requeue(eater.positions[0::2])

    assert take_all(queue) == numbers(0, 9)


def test_only_what_came_back_is_redelivered(queue: Queue) -> None:
    first = Eater(queue, appetite=2)
    subscribe(queue, first)
    append(queue, *numbers(0, 4))
    queue.deliver(0)
    first.give_back()
    queue.remove_consumer(first)

    second = Eater(queue)
    subscribe(queue, second)
    queue.deliver(0)

    assert second.redelivered == [True, True, False, False]


def test_a_requeued_message_goes_to_another_consumer_with_room(world: World, queue: Queue) -> None:
    first, second = Eater(queue, appetite=1), Eater(queue, appetite=1)
    subscribe(queue, first, second)
    append(queue, b"dig")
    queue.deliver(0)
    assert (first.bodies, second.bodies) == ([b"dig"], [])

    queue.remove_consumer(first)
    first.give_back()
    world.finish_turn()

    assert second.bodies == [b"dig"]


def test_a_consumer_who_left_gets_nothing_more(queue: Queue) -> None:
    gone, stays = Eater(queue), Eater(queue)
    subscribe(queue, gone, stays)
    queue.remove_consumer(gone)
    queue.offer(gone)
    append(queue, *numbers(0, 5))

    queue.deliver(0)

    assert gone.bodies == []
    assert stays.bodies == numbers(0, 5)


def test_counts_tell_ready_from_unacknowledged(queue: Queue) -> None:
    eater = Eater(queue, appetite=2)
    subscribe(queue, eater)
    append(queue, *numbers(0, 5))
    assert (queue.ready_count, queue.unacknowledged_count) == (5, 0)

    queue.deliver(0)
    assert (queue.ready_count, queue.unacknowledged_count) == (3, 2)

    eater.settle()
    assert (queue.ready_count, queue.unacknowledged_count) == (3, 0)


def test_purging_takes_what_is_ready_and_leaves_what_is_handed_out(queue: Queue) -> None:
    eater = Eater(queue, appetite=2)
    subscribe(queue, eater)
    append(queue, *numbers(0, 5))
    queue.deliver(0)

    assert queue.purge() == 3

    assert (queue.ready_count, queue.unacknowledged_count) == (0, 2)
    queue.remove_consumer(eater)
    eater.give_back()
    assert take_all(queue) == numbers(0, 2)


def test_a_queue_nobody_used_owns_no_store(queue: Queue) -> None:
    assert queue.purge() == 0
    queue.flush(0)

    assert queue.store is None
    assert (queue.ready_count, queue.unacknowledged_count, queue.consumer_count) == (0, 0, 0)


def test_an_auto_delete_queue_goes_with_its_last_consumer(world: World) -> None:
    queue = declare(world.vhost, "jobs", is_auto_delete=True)
    one, two = Eater(queue), Eater(queue)
    subscribe(queue, one, two)

    world.vhost.remove_consumer(one)
    assert world.vhost.find_queue("jobs") is queue

    world.vhost.remove_consumer(two)
    assert world.vhost.find_queue("jobs") is None


def test_an_auto_delete_queue_nobody_ever_consumed_from_stays(world: World) -> None:
    queue = declare(world.vhost, "jobs", is_auto_delete=True)
    append(queue, b"dig")

    assert not queue.is_abandoned
    assert take_all(queue) == [b"dig"]


def test_a_deleted_queue_tells_its_consumers(world: World, queue: Queue) -> None:
    eater = Eater(queue)
    subscribe(queue, eater)

    world.vhost.delete_queue(queue)

    assert eater.is_told_of_deletion
    assert queue.consumer_count == 0


def test_deliveries_of_a_deleted_queue_may_still_be_settled(world: World, queue: Queue) -> None:
    eater = Eater(queue, appetite=2)
    subscribe(queue, eater)
    append(queue, *numbers(0, 3))
    queue.deliver(0)
    world.vhost.delete_queue(queue)

    eater.give_back()
    eater.settle()
    world.finish_turn()

    assert not queue.deliver(0)
