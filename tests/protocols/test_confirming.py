"""Confirms come in order, as few as possible, and never before a message is as safe as its kind promises."""

from collections.abc import Sequence
from typing import Any

import pytest
from pamqp import commands

from ipc.limits import LARGE_BODY_BYTES
from ipc.settings import StoreSettings
from ipc.wire.amqp import methods
from tests.protocols.conversation import Client, World, content


@pytest.fixture
def client(world: World) -> Client:
    """A publisher with confirms, and a disk that is synced when the test says so."""
    client = world.client().open()
    client.declare("lasting", durable=True)
    client.declare("passing")
    assert isinstance(client.ask(commands.Confirm.Select()), commands.Confirm.SelectOk)
    world.syncs_by_itself = False
    return client


def confirmed(replies: Sequence[Any]) -> list[tuple[int, bool]]:
    assert all(isinstance(reply, commands.Basic.Ack) for reply in replies), replies
    return [(reply.delivery_tag, reply.multiple) for reply in replies]


def test_a_transient_message_is_confirmed_at_once(client: Client) -> None:
    client.publish("", "lasting", b"dig")

    assert confirmed(client.replies()) == [(1, False)]


def test_a_persistent_message_for_a_transient_queue_is_confirmed_at_once(client: Client) -> None:
    client.publish("", "passing", b"dig", persistent=True)

    assert confirmed(client.replies()) == [(1, False)]


@pytest.mark.parametrize("size_bytes", [0, 16, LARGE_BODY_BYTES])
def test_a_persistent_message_for_a_durable_queue_waits_for_the_disk(
    world: World, client: Client, size_bytes: int
) -> None:
    client.publish("", "lasting", bytes(size_bytes), persistent=True)
    assert client.replies() == []

    world.sync()

    assert confirmed(client.replies()) == [(1, False)]


@pytest.mark.parametrize("name", ["named", ""])
@pytest.mark.parametrize(
    ("facts", "is_kept"),
    [({"durable": False}, False), ({"durable": True, "exclusive": True}, False), ({"durable": True}, True)],
)
def test_what_a_queue_is_decides_whether_it_survives_and_not_who_named_it(
    world: World, client: Client, name: str, facts: dict[str, bool], is_kept: bool
) -> None:
    world.syncs_by_itself = True
    queue = client.declare(name, **facts).queue
    client.publish("", queue, b"dig", persistent=True)
    assert confirmed(client.replies()) == [(1, False)]

    after = world.crash()

    assert (after.vhost.find_queue(queue) is not None) == is_kept
    assert not is_kept or after.client().open().drain(queue) == [b"dig"]


def test_a_message_without_a_queue_is_confirmed(client: Client) -> None:
    client.publish("", "nowhere", b"lost", persistent=True)

    assert confirmed(client.replies()) == [(1, False)]


def test_a_returned_message_is_confirmed_after_its_return(client: Client) -> None:
    client.publish("", "nowhere", b"lost", mandatory=True)

    returned, ack = client.replies()

    assert isinstance(returned.method, commands.Basic.Return)
    assert confirmed([ack]) == [(1, False)]


def test_messages_of_one_turn_are_confirmed_together(client: Client) -> None:
    client.send(content("", "passing", b"dig") * 100)

    assert confirmed(client.replies()) == [(100, True)]


def test_a_transient_message_behind_a_persistent_one_waits_with_it(world: World, client: Client) -> None:
    client.publish("", "lasting", b"dig", persistent=True)
    client.publish("", "passing", b"dig")
    assert client.replies() == []

    world.sync()

    assert confirmed(client.replies()) == [(2, True)]


def test_a_round_in_flight_confirms_only_what_was_written_before_it_began(world: World, client: Client) -> None:
    client.publish("", "lasting", b"1", persistent=True)
    first = world.turn.begin_round()
    client.publish("", "lasting", b"2", persistent=True)
    client.publish("", "lasting", b"3")
    assert client.replies() == []

    world.turn.complete_round(first)
    assert confirmed(client.replies()) == [(1, False)]

    world.sync()
    assert confirmed(client.replies()) == [(3, True)]


def test_a_transient_message_published_during_a_round_waits_for_those_before_it(world: World, client: Client) -> None:
    client.publish("", "lasting", b"1", persistent=True)
    first = world.turn.begin_round()
    client.publish("", "passing", b"2")
    assert client.replies() == []

    world.turn.complete_round(first)

    assert confirmed(client.replies()) == [(2, True)]


def test_numbers_count_from_the_selection_on(world: World) -> None:
    client = world.client().open()
    client.declare("jobs")
    client.publish("", "jobs", b"unconfirmed")
    client.ask(commands.Confirm.Select())
    client.publish("", "jobs", b"1")
    client.replies()
    client.ask(commands.Confirm.Select())
    client.publish("", "jobs", b"2")

    assert confirmed(client.replies()) == [(2, False)]


def test_each_channel_counts_for_itself(client: Client) -> None:
    client.open(2).ask(commands.Confirm.Select(), 2)
    client.publish("", "passing", b"dig")
    client.publish("", "passing", b"dig")
    client.publish("", "passing", b"dig", channel=2)

    assert [(channel, ack.delivery_tag) for channel, ack in client.heard()] == [(1, 1), (1, 2), (2, 1)]


@pytest.mark.parametrize("end", ["closed", "refused", "lost"])
def test_a_channel_that_ended_before_its_round_hears_nothing_more(world: World, client: Client, end: str) -> None:
    client.publish("", "lasting", b"dig", persistent=True)
    if end == "closed":
        client.ask(commands.Channel.Close(reply_code=200, reply_text="", class_id=0, method_id=0))
        client.open()
    elif end == "refused":
        client.ack(99)
        assert client.refusal() == ("channel", 406)
    else:
        client.disconnect()

    world.sync()

    assert client.replies() == []


def test_a_channel_closed_in_the_turn_of_its_publish_hears_nothing_more(client: Client) -> None:
    close = commands.Channel.Close(reply_code=200, reply_text="", class_id=0, method_id=0)
    client.send(content("", "passing", b"dig") + methods.frame(1, close))

    (reply,) = client.replies()
    assert isinstance(reply, commands.Channel.CloseOk)


def test_a_channel_opened_again_counts_anew(world: World, client: Client) -> None:
    client.publish("", "lasting", b"dig", persistent=True)
    client.ask(commands.Channel.Close(reply_code=200, reply_text="", class_id=0, method_id=0))
    client.open().ask(commands.Confirm.Select())
    client.publish("", "lasting", b"dig", persistent=True)

    world.sync()

    assert confirmed(client.replies()) == [(1, False)]


def test_without_syncing_a_written_message_is_confirmed(tmp_path_factory: pytest.TempPathFactory) -> None:
    world = World(tmp_path_factory.mktemp("os"), store=StoreSettings(durability="os"))
    client = world.client().open()
    client.declare("lasting", durable=True)
    client.ask(commands.Confirm.Select())
    world.syncs_by_itself = False

    client.publish("", "lasting", b"dig", persistent=True)

    assert confirmed(client.replies()) == [(1, False)]
    world.close()


def test_what_was_confirmed_is_there_after_a_crash(world: World, client: Client) -> None:
    client.publish("", "lasting", b"one", persistent=True)
    world.sync()
    assert confirmed(client.replies()) == [(1, False)]

    after = world.crash()
    found = after.client().open().drain("lasting")
    after.close()

    assert found == [b"one"]


def test_a_message_delivered_and_acknowledged_before_it_was_written_is_confirmed_too(
    world: World, client: Client
) -> None:
    consumer = world.client().open()
    consumer.consume("lasting")

    client.send(content("", "lasting", b"dig", properties=commands.Basic.Properties(delivery_mode=2)) * 5)
    world.sync()

    assert len(consumer.bodies()) == 5
    assert confirmed(client.replies()) == [(5, True)]
