"""Topic permissions as clients meet them: at publish and bind, on topic exchanges, and changed while they are there."""

from typing import Any

import pytest
from pamqp import commands

from ipc.errors import ReplyCode
from ipc.messages.commands import Permissions, TopicPermissions
from tests.protocols.conversation import Client, World

NARROW = Permissions(".*", ".*", ".*", (TopicPermissions("amq.topic", write="^{username}\\.", read="^news\\."),))
REFUSED = ("channel", ReplyCode.ACCESS_REFUSED)


@pytest.fixture
def client(world: World) -> Client:
    client = world.client(user="ann", permissions=NARROW).open()
    client.declare("jobs")
    return client


def test_publishing_to_a_topic_needs_its_routing_key_permitted(client: Client) -> None:
    client.publish("amq.topic", "ann.greetings", b"fine")
    assert client.replies() == []

    client.publish("amq.topic", "bob.greetings", b"not fine")

    (close,) = client.replies()
    assert close.reply_code == ReplyCode.ACCESS_REFUSED
    assert close.reply_text == (
        "ACCESS_REFUSED - write access to topic 'bob.greetings' in exchange 'amq.topic' in vhost '/' refused for user "
        "'ann'"
    )


def test_copies_need_their_routing_keys_permitted_too(client: Client) -> None:
    copied = commands.Basic.Properties(headers={"CC": ["bob.greetings"]})

    client.publish("amq.topic", "ann.greetings", b"x", properties=copied)

    assert client.refusal() == REFUSED


@pytest.mark.parametrize("exchange", ["amq.direct", "amq.fanout", ""])
def test_other_exchanges_do_not_ask(client: Client, exchange: str) -> None:
    client.publish(exchange, "bob.greetings", b"fine")

    assert client.replies() == []


BINDINGS: list[Any] = [
    commands.Queue.Bind(queue="jobs", exchange="amq.topic", routing_key="secrets.#"),
    commands.Queue.Unbind(queue="jobs", exchange="amq.topic", routing_key="secrets.#"),
    commands.Exchange.Bind(destination="amq.fanout", source="amq.topic", routing_key="secrets.#"),
    commands.Exchange.Unbind(destination="amq.fanout", source="amq.topic", routing_key="secrets.#"),
]


@pytest.mark.parametrize("method", BINDINGS, ids=lambda method: str(method.name))
def test_binding_to_a_topic_needs_its_routing_key_permitted(client: Client, method: Any) -> None:
    client.say(method)

    assert client.refusal() == REFUSED


def test_a_permitted_binding_is_made(client: Client) -> None:
    assert isinstance(client.bind("amq.topic", "jobs", "news.#"), commands.Queue.BindOk)


def test_a_change_holds_for_publishers_whose_route_is_remembered(world: World, client: Client) -> None:
    client.publish("amq.topic", "ann.greetings", b"1")
    client.publish("amq.topic", "ann.greetings", b"2")
    assert client.replies() == []

    world.vhosts.change_access("ann", "/", Permissions(".*", ".*", ".*", (TopicPermissions("amq.topic", "", ""),)))
    client.publish("amq.topic", "ann.greetings", b"3")

    assert client.refusal() == REFUSED
