"""The alternate exchange: what an exchange's own bindings do not match goes on to it, and on, but not in circles."""

from typing import Any

import pytest
from pamqp import commands

from ipc.errors import PreconditionFailed
from ipc.messages.commands import Permissions
from shards.model.exchanges.arguments import ALTERNATE_EXCHANGE
from shards.model.exchanges.exchange import Exchange
from shards.model.vhost import VHost
from tests.model.making import declare, declare_exchange
from tests.protocols.conversation import Client, World


@pytest.fixture
def vhost(world: World) -> VHost:
    return world.vhost


@pytest.fixture
def client(world: World) -> Client:
    return world.client().open()


def leading(vhost: VHost, name: str, alternate: str | None = None, kind: str = "direct", **facts: Any) -> Exchange:
    """An exchange that sends what it does not match to `alternate`."""
    arguments = {"alternate-exchange": alternate} if alternate else {}
    return declare_exchange(vhost, name, kind, arguments=arguments, **facts)


def catching(vhost: VHost, name: str) -> Exchange:
    """A fanout exchange with a queue of its name."""
    exchange = declare_exchange(vhost, name)
    vhost.bind(exchange, declare(vhost, name), "", {})
    return exchange


def targets(vhost: VHost, exchange: str, key: str = "", copies: tuple[str, ...] = ()) -> set[str]:
    return {queue.name for queue in vhost.route(vhost.exchange(exchange), key, dict, copies)[0]}


# where messages go ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("argument", ALTERNATE_EXCHANGE)
def test_only_what_matches_nothing_goes_to_the_alternate(vhost: VHost, argument: str) -> None:
    catching(vhost, "lost")
    news = declare_exchange(vhost, "news", "direct", arguments={argument: "lost"})
    vhost.bind(news, declare(vhost, "jobs"), "dig", {})

    assert targets(vhost, "news", "dig") == {"jobs"}
    assert targets(vhost, "news", "sing") == {"lost"}


@pytest.mark.parametrize("kind", ["direct", "fanout", "topic", "headers", "x-consistent-hash"])
def test_every_type_of_exchange_has_alternates(vhost: VHost, kind: str) -> None:
    catching(vhost, "lost")
    leading(vhost, "news", "lost", kind)

    assert targets(vhost, "news", "sing") == {"lost"}


def test_alternates_have_alternates(vhost: VHost) -> None:
    catching(vhost, "last")
    leading(vhost, "second", "last", "topic")
    leading(vhost, "first", "second", "headers")
    leading(vhost, "news", "first")

    assert targets(vhost, "news", "sing") == {"last"}


@pytest.mark.parametrize("length", [1, 2, 3])
def test_alternates_in_a_circle_drop_the_message(vhost: VHost, length: int) -> None:
    for number in range(length):
        leading(vhost, str(number), str((number + 1) % length))

    assert vhost.route(vhost.exchange("0"), "sing", dict) == ([], True)


def test_an_exchange_that_was_passed_already_is_no_alternate(vhost: VHost) -> None:
    """`news` leads to `second`, whose alternate is `news`: it gets the message once all the same."""
    news = leading(vhost, "news")
    vhost.bind(news, leading(vhost, "second", "news"), "dig", {})
    vhost.bind(news, declare(vhost, "jobs"), "dig", {})

    assert targets(vhost, "news", "dig") == {"jobs"}


def test_without_an_exchange_of_that_name_the_message_is_dropped(vhost: VHost) -> None:
    leading(vhost, "news", "nowhere")

    assert vhost.route(vhost.exchange("news"), "sing", dict) == ([], True)


def test_the_alternate_may_be_the_default_exchange(vhost: VHost) -> None:
    declare(vhost, "jobs")
    declare_exchange(vhost, "news", "direct", arguments={"alternate-exchange": ""})

    assert targets(vhost, "news", "jobs") == {"jobs"}


def test_an_internal_exchange_may_be_an_alternate(vhost: VHost) -> None:
    hidden = declare_exchange(vhost, "hidden", is_internal=True)
    vhost.bind(hidden, declare(vhost, "jobs"), "", {})
    leading(vhost, "news", "hidden")

    assert targets(vhost, "news") == {"jobs"}


def test_a_binding_to_an_exchange_that_leads_nowhere_is_a_match(vhost: VHost) -> None:
    """Each exchange asks its own bindings only; the one at the end has an alternate of its own, or none."""
    catching(vhost, "lost")
    news = leading(vhost, "news", "lost")
    end = leading(vhost, "end")
    vhost.bind(news, end, "dig", {})
    assert targets(vhost, "news", "dig") == set()

    vhost.delete_exchange("end")
    vhost.bind(news, leading(vhost, "end", "lost"), "dig", {})
    assert targets(vhost, "news", "dig") == {"lost"}


def test_carbon_copies_go_to_the_alternate_only_if_no_key_matches(vhost: VHost) -> None:
    catching(vhost, "lost")
    news = leading(vhost, "news", "lost")
    vhost.bind(news, declare(vhost, "jobs"), "dig", {})

    assert targets(vhost, "news", "sing", ("dig", "dance")) == {"jobs"}
    assert targets(vhost, "news", "sing", ("dance",)) == {"lost"}


def test_a_headers_exchange_among_the_alternates_makes_a_route_unfit_to_remember(vhost: VHost) -> None:
    leading(vhost, "news", "amq.headers")
    queue = declare(vhost, "jobs")
    vhost.bind(vhost.exchange("amq.headers"), queue, "", {"kind": "digging"})

    assert vhost.route(vhost.exchange("news"), "", lambda: {"kind": "digging"}) == ([queue], False)
    assert vhost.route(vhost.exchange("news"), "", dict) == ([], False)


def test_alternates_come_back_after_a_restart(world: World) -> None:
    catching(world.vhost, "lost")
    leading(world.vhost, "news", "lost")
    world.finish_turn()

    after = world.restart()
    world.vhosts, world.turn, world.files = after.vhosts, after.turn, after.files

    assert targets(after.vhost, "news", "sing") == {"lost"}


# for clients ----------------------------------------------------------------------------------------------------------


def declaring(name: str, alternate: Any, kind: str = "direct") -> commands.Exchange.Declare:
    return commands.Exchange.Declare(exchange=name, exchange_type=kind, arguments={"alternate-exchange": alternate})


def test_a_route_that_was_used_before_finds_an_alternate_that_came_later(client: Client) -> None:
    client.ask(declaring("news", "lost"))
    for _ in range(3):
        client.publish("news", "sing", b"too early")

    client.ask(commands.Exchange.Declare(exchange="lost", exchange_type="fanout"))
    client.declare("jobs")
    client.bind("lost", "jobs")
    client.publish("news", "sing", b"in time")

    assert client.drain("jobs") == [b"in time"]


def test_a_mandatory_message_is_returned_only_if_the_alternates_lead_nowhere_either(client: Client) -> None:
    client.ask(declaring("news", "amq.fanout"))
    client.publish("news", "sing", b"returned", mandatory=True)
    assert [message.method.reply_code for message in client.replies()] == [312]

    client.declare("jobs")
    client.bind("amq.fanout", "jobs")
    client.publish("news", "sing", b"found", mandatory=True)

    assert client.replies() == []
    assert client.drain("jobs") == [b"found"]


@pytest.mark.parametrize("rights", [{"write": "^news$"}, {"read": "^lost$"}])
def test_whoever_declares_an_alternate_must_be_allowed_to_read_here_and_write_there(
    world: World, rights: dict[str, str]
) -> None:
    everything: dict[str, Any] = {"configure": ".*", "write": ".*", "read": ".*"}
    ann = world.client(user="ann", permissions=Permissions(**{**everything, **rights})).open()

    ann.say(declaring("news", "lost"))

    assert ann.refusal() == ("channel", 403)
    assert world.vhost.find_exchange("news") is None


def test_the_rights_to_read_here_and_write_there_are_enough(world: World) -> None:
    ann = world.client(user="ann", permissions=Permissions(configure="^news$", write="^lost$", read="^news$")).open()

    assert isinstance(ann.ask(declaring("news", "lost")), commands.Exchange.DeclareOk)


def test_who_declares_what_exists_needs_no_right_to_its_alternate(world: World, client: Client) -> None:
    client.ask(declaring("news", "lost"))
    ann = world.client(user="ann", permissions=Permissions(configure="^news$", write="", read="")).open()

    assert isinstance(ann.ask(declaring("news", "lost")), commands.Exchange.DeclareOk)


@pytest.mark.parametrize("argument", ALTERNATE_EXCHANGE)
@pytest.mark.parametrize(
    ("value", "kind"), [(5, "signedint"), (True, "bool"), (None, "void"), ([], "array"), ({}, "table"), (1.5, "double")]
)
def test_an_alternate_that_is_no_name_is_refused(vhost: VHost, argument: str, value: Any, kind: str) -> None:
    with pytest.raises(PreconditionFailed) as refused:
        declare_exchange(vhost, "news", arguments={argument: value})

    assert refused.value.text == f"invalid type '{kind}' for arg '{argument}' in exchange 'news' in vhost '/'"
    assert vhost.find_exchange("news") is None


def test_a_client_with_an_alternate_that_is_no_name_loses_its_channel(client: Client) -> None:
    client.say(declaring("news", 5))

    assert client.refusal() == ("channel", 406)


def test_another_alternate_is_another_declaration_and_other_arguments_are_not(vhost: VHost) -> None:
    leading(vhost, "news", "lost")
    news = declare_exchange(vhost, "news", "direct", arguments={"alternate-exchange": "lost", "x-more": 1})
    assert news.arguments == {"alternate-exchange": "lost"}

    with pytest.raises(PreconditionFailed, match="inequivalent arg 'alternate-exchange' for exchange 'news'"):
        leading(vhost, "news", "found")
