"""What a client is told that asked for what it cannot have: RabbitMQ's code, and a text that leaves nothing to guess.

Texts were compared with those of RabbitMQ 3.10.8. Where that release tells less, or in Erlang's notation, ours say what
was received and what was expected.
"""

from typing import Any, NamedTuple

import pytest
from pamqp import commands

from ipc.wire.amqp.methods import Method
from tests.protocols.conversation import Client, World

LOCKED = (
    "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'theirs' in vhost '/'. It could be originally "
    "declared on another connection or the exclusive property value does not match that of the original declaration."
)


class Wrong(NamedTuple):
    """A request, and the whole text of its refusal, whose first word belongs to the code."""

    asked: Method
    code: int
    text: str


def queue(name: str = "jobs", arguments: Any = None, **facts: Any) -> Method:
    method = commands.Queue.Declare(arguments=arguments, **facts)
    method.queue = name  # set afterwards: the constructor knows fewer names than there are
    return method


def exchange(name: str = "news", kind: str = "fanout", arguments: Any = None, **facts: Any) -> Method:
    return commands.Exchange.Declare(exchange=name, exchange_type=kind, arguments=arguments, **facts)


def consume(name: str = "jobs", **facts: Any) -> Method:
    return commands.Basic.Consume(queue=name, **facts)


ENDS_THE_CHANNEL = {
    # another declaration under the same name
    "durable": Wrong(
        queue(durable=True),
        406,
        "inequivalent arg 'durable' for queue 'jobs' in vhost '/': received 'true' but current is 'false'",
    ),
    "auto-delete": Wrong(
        queue(auto_delete=True),
        406,
        "inequivalent arg 'auto_delete' for queue 'jobs' in vhost '/': received 'true' but current is 'false'",
    ),
    "another value": Wrong(
        queue("short", {"x-max-length": 6}),
        406,
        "inequivalent arg 'x-max-length' for queue 'short' in vhost '/': received '6' but current is '5'",
    ),
    "no value": Wrong(
        queue("short"),
        406,
        "inequivalent arg 'x-max-length' for queue 'short' in vhost '/': received none but current is the value '5' of "
        "type 'signedint'",
    ),
    "a value where there was none": Wrong(
        queue(arguments={"x-overflow": "drop-head"}),
        406,
        "inequivalent arg 'x-overflow' for queue 'jobs' in vhost '/': received the value 'drop-head' of type 'longstr' "
        "but current is none",
    ),
    "another type": Wrong(
        exchange(kind="direct"),
        406,
        "inequivalent arg 'type' for exchange 'news' in vhost '/': received 'direct' but current is 'fanout'",
    ),
    "another alternate": Wrong(
        exchange(arguments={"alternate-exchange": "lost"}),
        406,
        "inequivalent arg 'alternate-exchange' for exchange 'news' in vhost '/': received the value 'lost' of type "
        "'longstr' but current is none",
    ),
    # arguments that cannot be followed
    "a text for a number": Wrong(
        queue("new", {"x-max-length": "ten"}),
        406,
        "invalid arg 'x-max-length' for queue 'new' in vhost '/': expected a number, received 'ten'",
    ),
    "nothing for a number": Wrong(
        queue("new", {"x-expires": None}),
        406,
        "invalid arg 'x-expires' for queue 'new' in vhost '/': expected a number, received void",
    ),
    "a table for a text": Wrong(
        queue("new", {"x-dead-letter-exchange": {"name": "lost"}}),
        406,
        "invalid arg 'x-dead-letter-exchange' for queue 'new' in vhost '/': expected a string, received table",
    ),
    "a number out of range": Wrong(
        queue("new", {"x-message-ttl": -1}),
        406,
        "invalid arg 'x-message-ttl' for queue 'new' in vhost '/': expected 0 to 315360000000, received -1",
    ),
    "an alternate that is no name": Wrong(
        exchange("new", arguments={"alternate-exchange": 1}),
        406,
        "invalid type 'signedint' for arg 'alternate-exchange' in exchange 'new' in vhost '/'",
    ),
    "a priority that is no number": Wrong(
        consume(arguments={"x-priority": "high"}),
        406,
        "invalid arg 'x-priority' for queue 'jobs' in vhost '/': expected a number, received 'high'",
    ),
    # what is not there
    "an unknown queue": Wrong(queue("nowhere", passive=True), 404, "no queue 'nowhere' in vhost '/'"),
    "consuming an unknown queue": Wrong(consume("nowhere"), 404, "no queue 'nowhere' in vhost '/'"),
    "an unknown exchange": Wrong(exchange("nowhere", passive=True), 404, "no exchange 'nowhere' in vhost '/'"),
    "binding an unknown queue": Wrong(
        commands.Queue.Bind(queue="nowhere", exchange="news"), 404, "no queue 'nowhere' in vhost '/'"
    ),
    "binding to an unknown exchange": Wrong(
        commands.Queue.Bind(queue="jobs", exchange="nowhere"), 404, "no exchange 'nowhere' in vhost '/'"
    ),
    "publishing to an unknown exchange": Wrong(
        commands.Basic.Publish(exchange="nowhere"), 404, "no exchange 'nowhere' in vhost '/'"
    ),
    # what is nobody's, or somebody else's
    "a reserved queue name": Wrong(queue("amq.mine"), 403, "queue name 'amq.mine' contains reserved prefix 'amq.*'"),
    "a reserved exchange name": Wrong(
        exchange("amq.mine"), 403, "exchange name 'amq.mine' contains reserved prefix 'amq.*'"
    ),
    "deleting the default exchange": Wrong(
        commands.Exchange.Delete(exchange=""), 403, "operation not permitted on the default exchange"
    ),
    "deleting a predeclared exchange": Wrong(
        commands.Exchange.Delete(exchange="amq.direct"),
        403,
        "deletion of system exchange 'amq.direct' in vhost '/' not allowed",
    ),
    "publishing to an internal exchange": Wrong(
        commands.Basic.Publish(exchange="inner"), 403, "cannot publish to internal exchange 'inner' in vhost '/'"
    ),
    "somebody else's queue": Wrong(queue("theirs", passive=True), 405, LOCKED.partition(" - ")[2]),
    "an exclusive consumer's queue": Wrong(consume("taken"), 403, "queue 'taken' in vhost '/' in exclusive use"),
    "exclusivity where others are": Wrong(
        consume("used", exclusive=True), 403, "queue 'used' in vhost '/' in exclusive use"
    ),
    "exclusivity where one at a time is served": Wrong(
        consume("single", exclusive=True), 403, "queue 'single' in vhost '/' in exclusive use"
    ),
    # conditions and tags
    "deleting what is used": Wrong(
        commands.Queue.Delete(queue="used", if_unused=True), 406, "queue 'used' in vhost '/' in use"
    ),
    "deleting what is full": Wrong(
        commands.Queue.Delete(queue="full", if_empty=True), 406, "queue 'full' in vhost '/' not empty"
    ),
    "deleting an exchange that is used": Wrong(
        commands.Exchange.Delete(exchange="news", if_unused=True), 406, "exchange 'news' in vhost '/' in use"
    ),
    "an unknown delivery tag": Wrong(commands.Basic.Ack(delivery_tag=7), 406, "unknown delivery tag 7"),
}

ENDS_THE_CONNECTION = {
    "a consumer tag again": Wrong(
        consume("used", consumer_tag="me"), 530, "NOT_ALLOWED - attempt to reuse consumer tag 'me'"
    ),
    "a prefetch in bytes": Wrong(commands.Basic.Qos(prefetch_size=10), 540, "NOT_IMPLEMENTED - prefetch_size!=0 (10)"),
    "an unknown exchange type": Wrong(
        exchange("new", "sorted"), 503, "COMMAND_INVALID - unknown exchange type 'sorted'"
    ),
    "a method of the broker": Wrong(commands.Basic.GetEmpty(), 503, "COMMAND_INVALID - unimplemented method"),
}

NAMES = {403: "ACCESS_REFUSED", 404: "NOT_FOUND", 405: "RESOURCE_LOCKED", 406: "PRECONDITION_FAILED"}


@pytest.fixture
def client(world: World) -> Client:
    """Who may ask for anything; there are queues and exchanges to get wrong."""
    world.client().open().declare("theirs", exclusive=True)
    owner = world.client().open()
    owner.declare("taken")
    owner.consume("taken", exclusive=True)
    client = world.client().open()
    for name, arguments in (
        ("jobs", None),
        ("used", None),
        ("full", None),
        ("short", {"x-max-length": 5}),
        ("single", {"x-single-active-consumer": True}),
    ):
        client.declare(name, arguments=arguments)
    client.consume("used", tag="me")
    client.publish("", "full", b"dig")
    client.ask(exchange())
    client.ask(exchange("inner", internal=True))
    client.bind("news", "jobs")
    return client


@pytest.mark.parametrize("name", ENDS_THE_CHANNEL)
def test_a_wish_that_is_not_granted_ends_the_channel_and_says_why(client: Client, name: str) -> None:
    asked, code, text = ENDS_THE_CHANNEL[name]

    close = client.ask(asked)

    assert isinstance(close, commands.Channel.Close)
    assert (close.reply_code, close.reply_text) == (code, f"{NAMES[code]} - {text}")
    assert (close.class_id, close.method_id) == divmod(asked.index, 1 << 16)


@pytest.mark.parametrize("name", ENDS_THE_CONNECTION)
def test_what_breaks_the_rules_ends_the_connection_and_says_why(client: Client, name: str) -> None:
    asked, code, text = ENDS_THE_CONNECTION[name]

    close = client.ask(asked)

    assert isinstance(close, commands.Connection.Close)
    assert (close.reply_code, close.reply_text) == (code, text)
    assert (close.class_id, close.method_id) == divmod(asked.index, 1 << 16)


@pytest.mark.parametrize(
    ("properties", "text"),
    [
        ({"expiration": "soon"}, "invalid expiration 'soon': no_integer"),
        ({"expiration": "315360000001"}, "invalid expiration '315360000001': {value_too_large,315360000001}"),
        ({"user_id": "joe"}, "user_id property set to 'joe' but authenticated user was 'guest'"),
        ({"headers": {"CC": "jobs"}}, 'invalid message: {unacceptable_type_in_header,"CC",longstr}'),
        ({"reply_to": "amq.rabbitmq.reply-to"}, "fast reply consumer does not exist"),
    ],
)
def test_a_message_that_is_refused_for_its_properties_is_a_refused_publish(
    client: Client, properties: dict[str, Any], text: str
) -> None:
    """The close names the method that began the message, as RabbitMQ does."""
    client.publish("", "jobs", b"dig", properties=commands.Basic.Properties(**properties))

    (close,) = client.replies()

    assert (close.reply_code, close.reply_text) == (406, f"PRECONDITION_FAILED - {text}")
    assert (close.class_id, close.method_id) == divmod(commands.Basic.Publish.index, 1 << 16)


def test_a_text_too_long_for_its_field_says_that_it_goes_on(client: Client) -> None:
    close = client.ask(queue("é" * 120, passive=True))

    assert close.reply_text.startswith("NOT_FOUND - no queue 'éé")
    assert close.reply_text.endswith("é...")
    assert 253 <= len(close.reply_text.encode()) <= 255
