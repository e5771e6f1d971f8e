"""Deliveries that nobody acknowledges in time: their channel is closed, and they go to somebody else."""

from pathlib import Path
from typing import Any

import pytest
from pamqp import commands

from ipc.messages.rules import Policy, Rules
from ipc.settings import ConnectionSettings
from tests.protocols.conversation import Client, World

PATIENT = 60_000
TIMED: dict[str, Any] = {"arguments": {"x-consumer-timeout": PATIENT}}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def holder(world: World, *, queue: str = "q", channel: int = 1) -> Client:
    """A client that has been given a message it does not acknowledge."""
    client = world.client().open(channel)
    client.declare(queue, channel=channel, **TIMED)
    client.consume(queue, acks=True, channel=channel)
    client.publish("", queue, b"kept", channel=channel)
    assert client.bodies() == [b"kept"]
    return client


def test_the_channel_is_closed_and_the_message_goes_back(world: World) -> None:
    client = holder(world)
    world.advance(PATIENT + 2_000)

    (close,) = client.replies()
    assert isinstance(close, commands.Channel.Close)
    assert close.reply_code == 406
    assert close.reply_text == (
        "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: 60000 ms. "
        "This timeout value can be configured, see consumers doc guide to learn more"
    )
    message = world.client().open().get("q")
    assert message is not None
    assert message.method.redelivered


def test_it_is_never_closed_early(world: World) -> None:
    client = holder(world)
    for _ in range(PATIENT // 1000 - 1):
        world.advance(1000)

    assert client.replies() == []


def test_whoever_acknowledges_in_time_goes_on(world: World) -> None:
    client = holder(world)
    for number in range(10):
        world.advance(PATIENT - 1000)
        client.ack(number + 1)
        client.publish("", "q", b"next")

    assert client.bodies() == [b"next"] * 10


def test_an_old_delivery_is_seen_behind_new_ones(world: World) -> None:
    client = holder(world)
    for number in range(4):
        world.advance(PATIENT // 4)
        client.publish("", "q", b"quick")
        client.ack(number + 2)
    world.advance(2_000)

    assert isinstance(client.replies()[-1], commands.Channel.Close)


def test_other_channels_of_the_connection_go_on(world: World) -> None:
    client = holder(world)
    client.open(2)
    client.declare("other", channel=2)
    world.advance(PATIENT + 2_000)
    client.replies()

    assert client.declare("other", channel=2).message_count == 0


def test_what_basic_get_gave_has_to_be_acknowledged_too(world: World) -> None:
    client = world.client().open()
    client.declare("q", **TIMED)
    client.publish("", "q", b"kept")
    client.get("q", acks=True)
    world.advance(PATIENT + 2_000)

    assert client.refusal() == ("channel", 406)


def test_queues_of_one_channel_have_their_own_patience(world: World) -> None:
    client = world.client().open()
    client.declare("hasty", arguments={"x-consumer-timeout": 10_000})
    client.declare("calm")
    for queue in ("calm", "hasty"):
        client.consume(queue, acks=True)
    client.publish("", "calm", b"may be kept")
    world.advance(100_000)
    client.publish("", "hasty", b"may not")
    client.replies()
    world.advance(9_000)
    assert client.replies() == []

    world.advance(3_000)
    assert client.refusal() == ("channel", 406)


def test_the_setting_holds_where_a_queue_says_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, settings=ConnectionSettings(consumer_timeout_seconds=5.0))
    client = world.client().open()
    client.declare("q")
    client.consume("q", acks=True)
    client.publish("", "q", b"kept")
    client.replies()
    world.advance(7_000)

    assert client.refusal() == ("channel", 406)


def test_zero_is_no_limit_whatever_the_setting_says(tmp_path: Path) -> None:
    world = World(tmp_path, settings=ConnectionSettings(consumer_timeout_seconds=5.0))
    client = world.client().open()
    client.declare("q", arguments={"x-consumer-timeout": 0})
    client.consume("q", acks=True)
    client.publish("", "q", b"kept")
    client.replies()
    world.advance(1_000_000)

    assert client.replies() == []


def test_a_policy_reaches_deliveries_that_were_made_before(world: World) -> None:
    client = world.client().open()
    client.declare("q")
    client.consume("q", acks=True)
    client.publish("", "q", b"kept")
    client.replies()
    world.advance(100_000)
    impatient = Policy("impatient", "^q$", {"consumer-timeout": 10_000})
    for _ in world.vhost.change_rules(Rules(policies=(impatient,)), world.now):
        pass
    world.finish_turn()

    assert client.refusal() == ("channel", 406)
