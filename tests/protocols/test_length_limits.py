"""Queues that hold only so much."""

from pathlib import Path

import pytest
from pamqp import commands

from tests.protocols.conversation import Client, Content, World, content


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return World(tmp_path).client().open()


def test_the_oldest_messages_go_when_there_are_too_many(client: Client) -> None:
    client.declare("q", arguments={"x-max-length": 3})
    for number in range(5):
        client.publish("", "q", b"%d" % number)

    assert client.drain("q") == [b"2", b"3", b"4"]


def test_the_oldest_messages_go_when_their_bodies_are_too_large(client: Client) -> None:
    client.declare("q", arguments={"x-max-length-bytes": 10})
    for body in (b"aaaa", b"bbbb", b"cccc"):
        client.publish("", "q", body)

    assert client.drain("q") == [b"bbbb", b"cccc"]


def test_only_bodies_count_whatever_stands_in_the_headers(client: Client) -> None:
    client.declare("q", arguments={"x-max-length-bytes": 10})
    for number in range(10):
        headers = commands.Basic.Properties(headers={"padding": "p" * 100 * number})
        client.publish("", "q", b"%02d" % number, properties=headers)
    client.consume("q", acks=True)
    client.replies()
    client.nack(1)

    assert [int(body) for body in client.bodies()] == [5]
    client.nack(0, multiple=True)
    assert [int(body) for body in client.bodies()] == [5, 6, 7, 8, 9]


def test_what_is_delivered_does_not_count(client: Client) -> None:
    client.declare("q", arguments={"x-max-length": 1})
    client.consume("q", acks=True)
    for number in range(3):
        client.publish("", "q", b"%d" % number)

    assert client.bodies() == [b"0", b"1", b"2"]


def test_a_limit_of_nothing_still_serves_who_waits(client: Client) -> None:
    client.declare("q", arguments={"x-max-length": 0})
    client.publish("", "q", b"nobody waits")
    client.consume("q")
    client.publish("", "q", b"somebody waits")

    assert client.bodies() == [b"somebody waits"]


def test_many_too_many_go_over_several_turns(client: Client) -> None:
    client.declare("q", arguments={"x-max-length": 2})
    client.send(b"".join(content("", "q", b"%d" % number) for number in range(10_000)))

    assert client.drain("q") == [b"9998", b"9999"]


def test_a_full_queue_refuses_publishes_where_that_is_asked_for(client: Client) -> None:
    client.declare("q", arguments={"x-max-length": 2, "x-overflow": "reject-publish"})
    client.ask(commands.Confirm.Select())
    for number in range(4):
        client.publish("", "q", b"%d" % number)

    answers = [(type(reply).__name__, reply.delivery_tag) for reply in client.replies()]
    assert answers == [("Ack", 1), ("Ack", 2), ("Nack", 3), ("Nack", 4)]
    assert client.drain("q") == [b"0", b"1"]


def test_publishes_of_one_turn_are_confirmed_and_refused_one_by_one(client: Client) -> None:
    client.declare("q", arguments={"x-max-length": 2, "x-overflow": "reject-publish"})
    client.declare("r")
    client.ask(commands.Confirm.Select())
    client.send(content("", "q", b"0") + content("", "q", b"1") + content("", "q", b"2") + content("", "r", b"3"))

    answers = [(type(reply).__name__, reply.delivery_tag, reply.multiple) for reply in client.replies()]
    assert answers == [("Ack", 2, True), ("Nack", 3, False), ("Ack", 4, False)]


def test_what_other_queues_have_taken_of_a_refused_publish_stays_there(tmp_path: Path) -> None:
    world = World(tmp_path)
    client = world.client().open()
    client.declare("full", durable=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    client.declare("other", durable=True)
    for queue in ("full", "other"):
        client.bind("amq.fanout", queue)
    client.ask(commands.Confirm.Select())
    for number in range(2):
        client.publish("amq.fanout", "", b"%d" % number, persistent=True)
    assert [type(reply).__name__ for reply in client.replies()] == ["Ack", "Nack"]

    survivor = world.crash().client().open()

    assert (survivor.drain("full"), survivor.drain("other")) == ([b"0"], [b"0", b"1"])


def test_a_full_queue_with_a_consumer_serves_it_instead_of_refusing(client: Client) -> None:
    client.declare("q", arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    client.consume("q")
    client.ask(commands.Confirm.Select())
    client.send(b"".join(content("", "q", b"%d" % number) for number in range(5)))

    replies = client.replies()
    assert [reply.body for reply in replies if isinstance(reply, Content)] == [b"0", b"1", b"2", b"3", b"4"]
    assert not [reply for reply in replies if isinstance(reply, commands.Basic.Nack)]


def test_what_a_full_queue_refuses_may_go_to_its_dead_letter_exchange(client: Client) -> None:
    client.declare("dead")
    client.declare(
        "q",
        arguments={
            "x-max-length": 1,
            "x-overflow": "reject-publish-dlx",
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": "dead",
        },
    )
    client.publish("", "q", b"first")
    client.publish("", "q", b"second")

    assert (client.drain("q"), client.drain("dead")) == ([b"first"], [b"second"])
