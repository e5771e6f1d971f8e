"""A client may bring many small frames at once, and gets its share of a turn for them, not all of it."""

import pytest
from pamqp import commands

from ipc.limits import EFFORT_BYTES, EFFORT_PER_TURN
from ipc.wire.amqp import frames, methods
from shards.protocols.amqp.connection import ConnectionState
from tests.protocols.conversation import Client, World, content

QUESTION = methods.frame(1, commands.Queue.Declare(queue="q", exclusive=True))


@pytest.fixture
def client(world: World) -> Client:
    return world.client().open()


def receive(client: Client, data: bytes) -> None:
    """One read of the host's, without the turn being finished."""
    with memoryview(data) as view:
        client.connection.receive(view, client.world.now)


def test_a_flood_of_small_frames_is_taken_a_turn_at_a_time(world: World, client: Client) -> None:
    receive(client, frames.HEARTBEAT_FRAME * (2 * EFFORT_PER_TURN + 1) + QUESTION)
    connection = client.connection

    for turn in (1, 2):
        left = 2 * EFFORT_PER_TURN + 1 - turn * EFFORT_PER_TURN
        assert connection.effort == EFFORT_PER_TURN
        assert connection.partial == frames.HEARTBEAT_FRAME * left + QUESTION
        assert not connection.wants_input
        assert world.turn.resumable == [connection]
        world.turn.resumable = []
        connection.resume(world.now)
    world.finish_turn()

    assert connection.wants_input
    assert connection.partial == b""
    assert [reply.name for reply in client.replies()] == ["Queue.DeclareOk"]


def test_nobody_waits_who_has_said_all(client: Client) -> None:
    receive(client, frames.HEARTBEAT_FRAME * EFFORT_PER_TURN)

    assert client.connection.wants_input
    assert client.world.turn.resumable == []


def test_what_has_to_be_looked_through_counts_by_its_size(client: Client) -> None:
    whole = methods.frame(1, commands.Queue.Declare(queue="q", exclusive=True, arguments={"x-note": "x" * 60_000}))

    receive(client, whole)

    assert client.connection.effort > 60_000 // EFFORT_BYTES


def test_bodies_count_as_frames_whatever_their_size(client: Client) -> None:
    receive(client, content("", "nowhere", bytes(300_000), mandatory=True))

    assert client.connection.effort < 20


def test_the_way_back_to_what_was_kept_leads_past_an_end(world: World, client: Client) -> None:
    """A client may be told to go while it waits for its next share."""
    goodbye = methods.frame(0, commands.Connection.Close(200, "", 0, 0))
    receive(client, frames.HEARTBEAT_FRAME * (EFFORT_PER_TURN + 1) + goodbye)
    world.finish_turn()

    assert client.connection.state is ConnectionState.CLOSED
