"""Policies, limits, tags and topic permissions set by the command line while a broker runs, heard through a client."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pika
import pika.exceptions
import pytest

from tests.clients.running_broker import RunningBroker, run_command
from tests.clients.waiting import eventually

StartBroker = Callable[..., RunningBroker]


def connect(broker: RunningBroker, vhost: str = "/", user: str = "guest", password: str = "guest") -> Any:
    credentials = pika.PlainCredentials(user, password)
    return pika.BlockingConnection(
        pika.ConnectionParameters("127.0.0.1", broker.port, virtual_host=vhost, credentials=credentials)
    )


def find_connection(broker: RunningBroker, vhost: str = "/", user: str = "guest", password: str = "guest") -> Any:
    """None while that user may not enter that vhost."""
    try:
        return connect(broker, vhost, user, password)
    except pika.exceptions.AMQPConnectionError:
        return None


@pytest.fixture
def channel(broker: RunningBroker) -> Iterator[Any]:
    connection = connect(broker)
    yield connection.channel()
    if connection.is_open:
        connection.close()


def set_policy(
    broker: RunningBroker, name: str, pattern: str, *more: str, kind: str = "policy", **settings: Any
) -> None:
    definition = json.dumps({key.replace("_", "-"): value for key, value in settings.items()})
    broker.command(kind, "set", name, pattern, definition, *more)


def depth(channel: Any, queue: str) -> int:
    return int(channel.queue_declare(queue, passive=True).method.message_count)


def test_a_policy_shortens_a_queue_that_is_there_and_its_end_lets_it_grow(
    broker: RunningBroker, channel: Any, name: str
) -> None:
    channel.queue_declare(name)
    for number in range(5):
        channel.basic_publish("", name, b"%d" % number)
    eventually(lambda: depth(channel, name) == 5, "five messages")

    set_policy(broker, name, f"^{name}$", max_length=2)
    eventually(lambda: depth(channel, name) == 2, "the policy to hold")
    assert channel.basic_get(name, auto_ack=True)[2] == b"3"

    broker.command("policy", "clear", name)

    def grown() -> bool:
        channel.basic_publish("", name, b"more")
        return depth(channel, name) > 2

    eventually(grown, "the policy to be gone")


def test_the_lower_of_policy_and_operator_policy_holds(broker: RunningBroker, channel: Any, name: str) -> None:
    set_policy(broker, name, f"^{name}", max_length=4)
    set_policy(broker, name, f"^{name}", kind="operator-policy", max_length=2)

    def shortened() -> bool:
        channel.queue_delete(name)
        channel.queue_declare(name)
        for number in range(6):
            channel.basic_publish("", name, b"%d" % number)
        return depth(channel, name) == 2

    eventually(shortened, "both policies to hold")
    broker.command("policy", "clear", name)
    broker.command("operator-policy", "clear", name)


def test_policies_survive_the_death_of_everything(new_broker: StartBroker, name: str) -> None:
    broker = new_broker(shards=1).start()
    connection = connect(broker)
    connection.channel().queue_declare(name, durable=True)
    set_policy(broker, "short", f"^{name}$", "--apply-to", "queues", "--priority", "5", max_length=1)
    broker.kill()

    broker.start()

    channel = connect(broker).channel()
    for number in range(3):
        channel.basic_publish("", name, b"%d" % number)
    eventually(lambda: depth(channel, name) == 1, "the policy to hold")
    listed = broker.command("policy", "list")
    assert listed == f'/\tshort\t^{name}$\tqueues\t{{"max-length":1}}\t5\n'
    assert broker.stop() == 0


def test_unroutable_messages_go_where_the_policy_says(broker: RunningBroker, channel: Any, name: str) -> None:
    channel.exchange_declare(name, "direct")
    channel.exchange_declare(f"{name}-lost", "fanout")
    channel.queue_declare(f"{name}-found")
    channel.queue_bind(f"{name}-found", f"{name}-lost")
    set_policy(broker, name, f"^{name}$", "--apply-to", "exchanges", alternate_exchange=f"{name}-lost")

    def found() -> bool:
        channel.basic_publish(name, "nowhere", b"lost")
        return depth(channel, f"{name}-found") > 0

    eventually(found, "the policy to hold")
    broker.command("policy", "clear", name)


def test_a_definition_that_nobody_would_follow_is_refused(broker: RunningBroker, name: str) -> None:
    for definition, said in (
        ('{"max-lenght": 5}', "max-lenght: not recognised policy settings"),
        ('{"max-length": -5}', "max-length: -5 is not a valid maximum length"),
        ('["max-length"]', "is not a JSON object"),
    ):
        done = run_command("policy", "set", name, ".*", definition, "--data-dir", str(broker.data))
        assert done.returncode != 0
        assert said in done.stderr
    assert name not in broker.command("policy", "list")


def test_settings_without_effect_are_taken_and_said_to_be_so(broker: RunningBroker, name: str) -> None:
    done = run_command("policy", "set", name, name, '{"queue-mode": "lazy"}', "--data-dir", str(broker.data))
    assert (done.returncode, done.stderr) == (0, "without effect here: queue-mode\n")
    broker.command("policy", "clear", name)


def test_limits_keep_further_clients_and_queues_out(broker: RunningBroker, name: str) -> None:
    broker.add_vhost(name, shard=0)
    connection = eventually(lambda: find_connection(broker, name), "the vhost")
    broker.command("limits", "set", name, "max-queues", "1")
    broker.command("limits", "set", name, "max-connections", "1")
    assert broker.command("limits", "list") == f"{name}\tmax-connections\t1\n{name}\tmax-queues\t1\n"

    def refused() -> str:
        try:
            connect(broker, name).close()
        except pika.exceptions.ProbableAccessDeniedError as closed:
            return str(closed)
        return ""

    said = eventually(refused, "the limits to hold")
    assert "(530) " in said
    assert said.count("connection limit (1) is reached") == 1
    channel = connection.channel()
    channel.queue_declare("one")
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        channel.queue_declare("two")
    assert closed.value.reply_code == 406
    assert "queue limit in vhost" in closed.value.reply_text

    connection.close()
    eventually(lambda: find_connection(broker, name), "room for another").close()
    broker.command("vhost", "delete", name, "--yes")


def test_topic_permissions_hold_for_who_is_connected(broker: RunningBroker, name: str) -> None:
    broker.command("user", "add", name, "--password-stdin", given="secret\n")
    broker.permit(name, "/", configure=".*", write=".*", read=".*")
    connection = eventually(lambda: find_connection(broker, "/", name, "secret"), "the user")
    broker.command("topic-permissions", "set", name, "/", "amq.topic", "--write", "^{username}\\.", "--read", "")

    def refused() -> bool:
        channel = connection.channel()
        channel.confirm_delivery()
        try:
            channel.basic_publish("amq.topic", "somebody.else", b"x")
        except pika.exceptions.ChannelClosedByBroker as closed:
            return bool(closed.reply_code == 403)
        channel.close()
        return False

    eventually(refused, "the permission to hold")
    channel = connection.channel()
    channel.confirm_delivery()
    channel.basic_publish("amq.topic", f"{name}.mine", b"x")
    connection.close()
    broker.command("user", "delete", name)


def test_tags_are_given_and_taken(broker: RunningBroker, name: str) -> None:
    broker.command("user", "add", name, "--password-stdin", "--tag", "monitoring", given="secret\n")
    assert f"{name}\tmonitoring\n" in broker.command("user", "list")

    broker.command("user", "tags", name, "management", "impersonator")
    assert f"{name}\tmanagement impersonator\n" in broker.command("user", "list")

    broker.command("user", "tags", name)
    assert f"{name}\t\n" in broker.command("user", "list")
    broker.command("user", "delete", name)
