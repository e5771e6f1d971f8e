"""Exchanges, queues and bindings by AMQP's methods: replies, conditions, names, permissions and locks."""

from typing import Any

import pytest
from msgspec.structs import replace
from pamqp import commands

from ipc.messages.commands import Permissions
from ipc.messages.rules import Rules
from tests.protocols.conversation import EVERYTHING, Client, World


@pytest.fixture
def client(world: World) -> Client:
    return world.client().open()


def exchange(name: str, kind: str = "fanout", **facts: Any) -> commands.Exchange.Declare:
    return commands.Exchange.Declare(exchange=name, exchange_type=kind, **facts)


# queues ---------------------------------------------------------------------------------------------------------------


def test_a_declared_queue_is_told_with_its_counts(client: Client) -> None:
    client.declare("jobs")
    client.prefetch(1)
    client.consume("jobs", acks=True)
    for _ in range(3):
        client.publish("", "jobs", b"dig")
    client.replies()

    reply = client.declare("jobs", passive=True)

    assert (reply.queue, reply.message_count, reply.consumer_count) == ("jobs", 2, 1)


def test_a_queue_without_a_name_gets_one_and_is_meant_by_an_empty_name(client: Client) -> None:
    name = client.declare("").queue
    assert name.startswith("amq.gen-")

    client.bind("amq.fanout", "")
    client.publish("amq.fanout", "", b"dig")

    assert client.drain("") == [b"dig"]
    assert client.drain(name) == []


@pytest.mark.parametrize(
    ("default", "facts", "arguments"),
    [
        ("quorum", {"durable": True}, {"x-queue-type": "quorum"}),
        ("quorum", {"durable": True, "arguments": {"x-max-length": 5}}, {"x-max-length": 5, "x-queue-type": "quorum"}),
        ("quorum", {"durable": True, "arguments": {"x-queue-type": "classic"}}, {"x-queue-type": "classic"}),
        ("quorum", {"durable": False}, {}),
        ("quorum", {"durable": True, "auto_delete": True}, {}),
        ("quorum", {"durable": True, "exclusive": True}, {}),
        ("classic", {"durable": False, "exclusive": True}, {"x-queue-type": "classic"}),
        ("", {"durable": True}, {}),
    ],
)
def test_a_queue_without_a_type_is_of_the_default_type_if_it_can_be(
    world: World, client: Client, default: str, facts: dict[str, Any], arguments: dict[str, Any]
) -> None:
    lay_down(world, default)

    for _ in range(2):
        client.declare("jobs", **facts)

    queue = world.vhost.queue("jobs", client.connection)
    assert (queue.arguments or {}) == arguments
    assert queue.terms.is_quorum is (arguments.get("x-queue-type") == "quorum")


def test_a_queue_that_is_there_stays_what_it_is_whatever_the_default_becomes(world: World, client: Client) -> None:
    client.declare("plain", durable=True)
    lay_down(world, "quorum")
    client.declare("jobs", durable=True)
    client.declare("plain", durable=True)
    lay_down(world, "classic")
    client.declare("jobs", durable=True)
    client.declare("plain", durable=True)

    assert (
        client.ask(commands.Queue.Declare(queue="plain", durable=True, arguments={"x-queue-type": "quorum"})).reply_code
        == 406
    )
    client = world.client().open()
    lay_down(world, "")
    told = client.ask(commands.Queue.Declare(queue="jobs", durable=True)).reply_text
    assert "inequivalent arg 'x-queue-type' for queue 'jobs'" in told


def lay_down(world: World, default: str) -> None:
    assert not any(world.vhost.change_rules(Rules(default_queue_type=default), world.now))


def test_an_empty_name_means_nothing_before_a_declaration(client: Client) -> None:
    reply = client.ask(commands.Basic.Get(queue=""))

    assert reply.reply_text == "NOT_FOUND - no previously declared queue"


def test_an_empty_key_beside_an_empty_queue_name_is_the_queues_name(client: Client) -> None:
    client.declare("jobs")
    client.bind("amq.direct", "")

    client.publish("amq.direct", "jobs", b"dig")

    assert client.drain("jobs") == [b"dig"]


@pytest.mark.parametrize("name", ["jöbs", "has space", "a/b\\c:*?", "x" * 255, "\x00", "'; DROP TABLE queues"])
def test_any_text_names_a_queue(world: World, client: Client, name: str) -> None:
    assert client.declare(name, durable=True).queue == name
    client.publish("", name, b"dig")

    assert client.drain(name) == [b"dig"]


def test_a_passive_declaration_makes_nothing(client: Client) -> None:
    client.say(commands.Queue.Declare(queue="jobs", passive=True))

    assert client.refusal() == ("channel", 404)


def test_a_different_declaration_is_refused(client: Client) -> None:
    client.declare("jobs")
    client.say(commands.Queue.Declare(queue="jobs", auto_delete=True))

    assert client.refusal() == ("channel", 406)


def test_reserved_names_are_refused(client: Client) -> None:
    client.say(commands.Queue.Declare(queue="amq.mine"))
    assert client.refusal() == ("channel", 403)

    client.open(2).say(exchange("amq.mine"), 2)
    assert client.refusal() == ("channel", 403)


def test_nothing_is_said_where_nothing_is_wanted(client: Client) -> None:
    for method in (
        commands.Queue.Declare(queue="jobs", nowait=True, durable=True),
        exchange("news", nowait=True, durable=True),
        commands.Queue.Bind(queue="jobs", exchange="news", nowait=True),
        exchange("more", nowait=True),
        commands.Exchange.Bind(destination="more", source="news", nowait=True),
        commands.Exchange.Unbind(destination="more", source="news", nowait=True),
        commands.Basic.Consume(queue="jobs", consumer_tag="me", nowait=True),
        commands.Basic.Cancel(consumer_tag="me", nowait=True),
        commands.Queue.Purge(queue="jobs", nowait=True),
        commands.Exchange.Delete(exchange="news", nowait=True),
        commands.Queue.Delete(queue="jobs", nowait=True),
        commands.Confirm.Select(nowait=True),
    ):
        client.say(method)

    assert client.replies() == []


def test_purging_tells_how_many_messages_went(client: Client) -> None:
    client.declare("jobs")
    for _ in range(3):
        client.publish("", "jobs", b"dig")

    assert client.ask(commands.Queue.Purge(queue="jobs")).message_count == 3
    assert client.drain("jobs") == []


def test_deleting_tells_how_many_messages_went(client: Client) -> None:
    client.declare("jobs")
    client.publish("", "jobs", b"dig")

    assert client.ask(commands.Queue.Delete(queue="jobs")).message_count == 1
    assert client.ask(commands.Queue.Delete(queue="jobs")).message_count == 0


@pytest.mark.parametrize("condition", ["if_unused", "if_empty"])
def test_a_queue_is_not_deleted_against_the_condition(client: Client, condition: str) -> None:
    client.declare("used")
    client.consume("used")
    client.declare("full")
    client.publish("", "full", b"dig")
    name = {"if_unused": "used", "if_empty": "full"}[condition]

    client.say(commands.Queue.Delete(queue=name, **{condition: True}))

    assert client.refusal() == ("channel", 406)


def test_an_exclusive_queue_is_locked_for_other_connections(world: World, client: Client) -> None:
    client.declare("mine", exclusive=True)
    client.bind("amq.fanout", "mine")
    other = world.client()
    for number, method in enumerate(
        (
            commands.Queue.Declare(queue="mine", exclusive=True),
            commands.Queue.Declare(queue="mine", passive=True),
            commands.Queue.Bind(queue="mine", exchange="amq.direct"),
            commands.Queue.Unbind(queue="mine", exchange="amq.fanout"),
            commands.Queue.Purge(queue="mine"),
            commands.Queue.Delete(queue="mine"),
            commands.Basic.Consume(queue="mine"),
            commands.Basic.Get(queue="mine"),
        ),
        start=1,
    ):
        other.open(number).say(method, number)
        assert other.refusal() == ("channel", 405), method.name

    client.publish("amq.fanout", "", b"dig")
    assert client.drain("mine") == [b"dig"]


def test_an_exclusive_queue_goes_with_its_connection(world: World, client: Client) -> None:
    client.declare("mine", exclusive=True)

    client.disconnect()

    assert world.vhost.find_queue("mine") is None


def test_a_connection_remembers_no_exclusive_queue_that_is_gone(client: Client) -> None:
    for _ in range(100):
        name = client.declare("", exclusive=True, auto_delete=True).queue
        tag = client.consume(name)
        client.ask(commands.Basic.Cancel(consumer_tag=tag))

    assert client.connection.exclusive_queues == {}


def test_an_auto_delete_queue_goes_when_its_last_consumer_is_cancelled(world: World, client: Client) -> None:
    client.declare("jobs", auto_delete=True)
    tag = client.consume("jobs")

    client.ask(commands.Basic.Cancel(consumer_tag=tag))

    assert world.vhost.find_queue("jobs") is None


# exchanges and bindings -----------------------------------------------------------------------------------------------


def test_an_unknown_exchange_type_is_an_invalid_command(client: Client) -> None:
    client.say(exchange("news", "telepathy"))

    assert client.refusal() == ("connection", 503)


@pytest.mark.parametrize("passive", [True, False])
def test_the_default_exchange_cannot_be_declared(client: Client, passive: bool) -> None:
    method = exchange("")
    method.passive = passive
    reply = client.ask(method)

    assert reply.reply_text == "ACCESS_REFUSED - operation not permitted on the default exchange"


@pytest.mark.parametrize("name", ["", "amq.direct"])
def test_predeclared_exchanges_cannot_be_deleted(client: Client, name: str) -> None:
    client.say(commands.Exchange.Delete(exchange=name))

    assert client.refusal() == ("channel", 403)


def test_an_exchange_in_use_is_not_deleted_if_unused_is_asked(client: Client) -> None:
    client.ask(exchange("news"))
    client.declare("jobs")
    client.bind("news", "jobs")
    client.say(commands.Exchange.Delete(exchange="news", if_unused=True))

    assert client.refusal() == ("channel", 406)


def test_exchanges_lead_to_exchanges_until_unbound(client: Client) -> None:
    client.ask(exchange("news", "topic"))
    client.declare("jobs")
    client.bind("news", "jobs", "a.*")
    client.ask(commands.Exchange.Bind(destination="news", source="amq.direct", routing_key="a.b"))
    client.publish("amq.direct", "a.b", b"dig")
    assert client.drain("jobs") == [b"dig"]

    client.ask(commands.Exchange.Unbind(destination="news", source="amq.direct", routing_key="a.b"))
    client.publish("amq.direct", "a.b", b"lost")
    assert client.drain("jobs") == []


def test_unbinding_ends_a_route_that_was_already_used(client: Client) -> None:
    client.declare("jobs")
    client.bind("amq.direct", "jobs", "key", {"x": 1})
    for _ in range(3):
        client.publish("amq.direct", "key", b"dig")

    client.ask(commands.Queue.Unbind(queue="jobs", exchange="amq.direct", routing_key="key", arguments={"x": 1}))
    client.publish("amq.direct", "key", b"lost")

    assert client.drain("jobs") == [b"dig"] * 3


@pytest.mark.parametrize(
    "method",
    [
        commands.Queue.Bind(queue="jobs", exchange="nowhere"),
        commands.Queue.Bind(queue="nowhere", exchange="amq.direct"),
        commands.Exchange.Bind(destination="amq.direct", source="nowhere"),
        commands.Exchange.Bind(destination="nowhere", source="amq.direct"),
        commands.Queue.Purge(queue="nowhere"),
        commands.Basic.Consume(queue="nowhere"),
        commands.Basic.Get(queue="nowhere"),
        commands.Exchange.Declare(exchange="nowhere", passive=True),
    ],
    ids=lambda method: f"{method.name}",
)
def test_what_does_not_exist_is_not_found(client: Client, method: Any) -> None:
    client.declare("jobs")
    client.say(method)

    assert client.refusal() == ("channel", 404)


@pytest.mark.parametrize(
    "method",
    [
        commands.Queue.Unbind(queue="nowhere", exchange="amq.direct"),
        commands.Queue.Unbind(queue="jobs", exchange="nowhere"),
        commands.Exchange.Unbind(destination="nowhere", source="amq.direct"),
        commands.Exchange.Delete(exchange="nowhere"),
        commands.Queue.Delete(queue="nowhere"),
        commands.Basic.Cancel(consumer_tag="nobody"),
    ],
    ids=lambda method: f"{method.name}",
)
def test_undoing_what_was_never_done_is_fine(client: Client, method: Any) -> None:
    client.declare("jobs")

    assert client.ask(method).name.endswith("Ok")


def test_nothing_is_bound_to_the_default_exchange(client: Client) -> None:
    client.declare("jobs")
    client.say(commands.Queue.Bind(queue="jobs", exchange="", routing_key="other"))

    assert client.refusal() == ("channel", 403)


def test_a_headers_binding_with_an_unknown_rule_is_refused(client: Client) -> None:
    client.declare("jobs")
    client.say(commands.Queue.Bind(queue="jobs", exchange="amq.headers", arguments={"x-match": "most"}))

    assert client.refusal() == ("channel", 406)


# permissions ----------------------------------------------------------------------------------------------------------

REFUSED: list[tuple[str, Any]] = [
    ("configure", commands.Queue.Declare(queue="jobs")),
    ("configure", commands.Queue.Declare(queue="")),
    ("configure", commands.Queue.Delete(queue="jobs")),
    ("configure", exchange("news")),
    ("configure", commands.Exchange.Delete(exchange="news")),
    ("write", commands.Queue.Bind(queue="jobs", exchange="amq.direct")),
    ("read", commands.Queue.Bind(queue="jobs", exchange="amq.direct")),
    ("write", commands.Queue.Unbind(queue="jobs", exchange="amq.direct")),
    ("read", commands.Queue.Unbind(queue="jobs", exchange="amq.direct")),
    ("write", commands.Exchange.Bind(destination="amq.topic", source="amq.direct")),
    ("read", commands.Exchange.Bind(destination="amq.topic", source="amq.direct")),
    ("write", commands.Exchange.Unbind(destination="amq.topic", source="amq.direct")),
    ("read", commands.Exchange.Unbind(destination="amq.topic", source="amq.direct")),
    ("read", commands.Queue.Purge(queue="jobs")),
    ("read", commands.Basic.Consume(queue="jobs")),
    ("read", commands.Basic.Get(queue="jobs")),
    ("write", commands.Basic.Publish(exchange="amq.direct")),
    ("write", commands.Basic.Publish(exchange="")),
]


@pytest.mark.parametrize(("right", "method"), REFUSED, ids=lambda one: one if isinstance(one, str) else one.name)
def test_without_the_right_a_method_is_refused_and_with_it_alone_not(world: World, right: str, method: Any) -> None:
    world.client().open().declare("jobs")

    lacking = world.client(user="ann", permissions=replace(EVERYTHING, **{right: ""})).open()
    lacking.say(method)
    assert lacking.refusal() == ("channel", 403)

    allowed = world.client(user="bob", permissions=EVERYTHING).open()
    allowed.say(method)
    assert not any(isinstance(reply, commands.Channel.Close) for reply in allowed.replies())


def test_a_passive_declaration_needs_no_right(world: World) -> None:
    world.client().open().declare("jobs")
    nobody = world.client(user="ann", permissions=Permissions(configure="", write="", read="")).open()

    assert nobody.declare("jobs", passive=True).queue == "jobs"


def test_names_the_broker_chooses_fall_under_the_right_to_configure(world: World) -> None:
    ann = world.client(user="ann", permissions=Permissions(configure="^amq\\.gen-", write="", read="")).open()

    assert ann.declare("").queue.startswith("amq.gen-")


def test_a_lost_right_ends_a_route_that_was_already_used(world: World) -> None:
    ann = world.client(user="ann").open()
    ann.declare("jobs")
    for _ in range(3):
        ann.publish("", "jobs", b"dig")

    world.vhosts.change_access("ann", "/", Permissions(configure="", write="", read=".*"))
    ann.publish("", "jobs", b"dig")

    assert ann.refusal() == ("channel", 403)


def test_a_right_given_later_holds_at_once(world: World) -> None:
    ann = world.client(user="ann", permissions=Permissions(configure="", write="", read="")).open()

    world.vhosts.change_access("ann", "/", Permissions(configure=".*", write="", read=""))

    assert ann.declare("jobs").queue == "jobs"


def test_a_user_without_permissions_any_more_may_do_nothing(world: World) -> None:
    ann = world.client(user="ann").open()

    world.vhosts.change_access("ann", "/", None)
    ann.say(commands.Queue.Declare(queue="jobs"))

    assert ann.refusal() == ("channel", 403)


# queue types ----------------------------------------------------------------------------------------------------------


def test_a_quorum_queue_is_a_durable_queue_with_a_delivery_limit_and_the_log_says_so(world: World) -> None:
    client = world.client().open()
    client.declare("q", durable=True, arguments={"x-queue-type": "quorum"})

    assert world.vhost.queue("q").terms.returns_max == 20
    (notice,) = world.turn.notices
    assert notice.fields == {"queue": "q", "vhost": "/"}


@pytest.mark.parametrize(("asked", "limit"), [(5, 5), (0, 0), (-1, None)])
def test_a_quorum_queue_may_ask_for_another_limit(world: World, asked: int, limit: int | None) -> None:
    client = world.client().open()
    client.declare("q", durable=True, arguments={"x-queue-type": "quorum", "x-delivery-limit": asked})

    assert world.vhost.queue("q").terms.returns_max == limit


@pytest.mark.parametrize(
    ("facts", "what"),
    [
        ({}, "non-durable"),
        ({"durable": True, "auto_delete": True}, "auto-delete"),
        ({"durable": True, "exclusive": True}, "exclusive-owner"),
    ],
)
def test_quorum_queues_that_could_not_be_any_are_refused(world: World, facts: dict[str, bool], what: str) -> None:
    client = world.client().open()

    close = client.declare("q", arguments={"x-queue-type": "quorum"}, **facts)

    assert isinstance(close, commands.Channel.Close)
    assert close.reply_text == f"PRECONDITION_FAILED - invalid property '{what}' for queue 'q' in vhost '/'"
