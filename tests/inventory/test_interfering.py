"""What an operator does to queues and bindings beyond AMQP needs the permissions of what AMQP has for it."""

from typing import Any

import pytest

from ipc.errors import AccessRefused, NotFound, ResourceLocked
from ipc.messages.commands import Permissions, TopicPermissions
from ipc.messages.inventory import Behalf, Discard, Done, Pause, Unbind
from shards.inventory.column import Gone
from shards.inventory.interfering import discard, pause, unbind
from tests.inventory.asking import ranked
from tests.protocols.conversation import EVERYTHING, World

ANYBODY = Behalf("guest", EVERYTHING)
NOBODY = Behalf("nobody", Permissions(configure="", write="", read=""))


def thrown_away(world: World, count: int, behalf: Behalf = ANYBODY) -> int:
    done = [item for item in discard(world.vhosts, Discard("/", "q", count, behalf)) if isinstance(item, Done)]
    world.finish_turn()
    return int(done[0].document["message_count"])


def filled(world: World, count: int) -> Any:
    client = world.client().open()
    client.declare("q", durable=True)
    for number in range(count):
        client.publish("", "q", b"%d" % number, persistent=True)
    return client


def test_the_next_messages_are_thrown_away_and_the_rest_stays_in_order(world: World) -> None:
    client = filled(world, 5)

    assert thrown_away(world, 2) == 2

    client.consume("q", acks=False)
    assert client.bodies() == [b"2", b"3", b"4"]


def test_no_more_is_thrown_away_than_there_is(world: World) -> None:
    filled(world, 3)

    assert thrown_away(world, 10) == 3
    assert world.vhost.queue("q").ready_count == 0


def test_what_was_thrown_away_does_not_come_back_after_a_crash(world: World) -> None:
    filled(world, 5)
    thrown_away(world, 2)
    world.sync()

    again = world.crash()

    assert again.vhost.queue("q").ready_count == 3


def test_throwing_away_needs_the_permission_to_read(world: World) -> None:
    filled(world, 1)

    with pytest.raises(AccessRefused, match="read access to queue 'q'"):
        thrown_away(world, 1, NOBODY)
    assert world.vhost.queue("q").ready_count == 1


def test_nothing_of_somebodys_own_queue_is_thrown_away(world: World) -> None:
    client = world.client().open()
    client.declare("q", exclusive=True)
    client.publish("", "q", b"kept")

    with pytest.raises(ResourceLocked):
        thrown_away(world, 1)


def test_pausing_needs_the_permission_to_configure(world: World) -> None:
    filled(world, 1)

    with pytest.raises(AccessRefused, match="configure access to queue 'q'"):
        pause(world.vhosts, Pause("/", "q", True, NOBODY))
    pause(world.vhosts, Pause("/", "q", True, ANYBODY))
    assert world.vhost.queue("q").is_paused


def test_what_is_not_there_is_not_paused(world: World) -> None:
    with pytest.raises(NotFound):
        pause(world.vhosts, Pause("/", "none", True, ANYBODY))
    with pytest.raises(Gone):
        pause(world.vhosts, Pause("none", "q", True, ANYBODY))


def topic_binding(world: World) -> Unbind:
    filled(world, 0)
    world.vhost.bind(world.vhost.exchange("amq.topic"), world.vhost.queue("q"), "news", {"b": bytearray(b"\xff")})
    _counted, places = ranked(world, "binding", where=(("source", "amq.topic"),))
    return Unbind("/", places[0], ANYBODY)


def test_a_binding_is_taken_back_whatever_its_arguments_are(world: World) -> None:
    unbind(world.vhosts, topic_binding(world))

    assert world.vhost.queue("q").inbound() == []


@pytest.mark.parametrize(
    ("permissions", "told"),
    [
        (Permissions(configure=".*", write="", read=".*"), "write access to queue 'q'"),
        (Permissions(configure=".*", write=".*", read=""), "read access to exchange 'amq.topic'"),
        (
            Permissions(".*", ".*", ".*", (TopicPermissions(exchange="amq.topic", write=".*", read="^sport"),)),
            "read access to topic 'news'",
        ),
    ],
)
def test_taking_a_binding_back_needs_what_unbinding_needs(world: World, permissions: Permissions, told: str) -> None:
    request = topic_binding(world)

    with pytest.raises(AccessRefused, match=told):
        unbind(world.vhosts, Unbind(request.vhost, request.binding, Behalf("somebody", permissions)))
    assert len(world.vhost.queue("q").inbound()) == 1
