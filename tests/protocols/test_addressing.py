"""Publishers may name more routing keys than one, and themselves; and nobody is shown what is not for them."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pamqp import commands

from ipc.settings import ConnectionSettings
from ipc.wire.amqp import amending, frames, methods, properties
from tests.protocols.conversation import Client, World, content


@pytest.fixture
def client(world: World) -> Client:
    client = world.client().open()
    for queue in ("jobs", "copy", "blind"):
        client.declare(queue)
    return client


def with_headers(**headers: Any) -> commands.Basic.Properties:
    return commands.Basic.Properties(headers=headers)


def headers_of(client: Client, queue: str) -> dict[str, Any]:
    message = client.get(queue)
    assert message is not None
    return properties.headers(message.header, properties.inspect(message.header))


# CC and BCC -----------------------------------------------------------------------------------------------------------


def test_copies_go_to_every_routing_key_named_in_the_headers(client: Client) -> None:
    for _ in range(2):
        client.publish("", "jobs", b"dig", properties=with_headers(CC=["copy"], BCC=["blind"]))

    assert [client.drain(queue) for queue in ("jobs", "copy", "blind")] == [[b"dig"] * 2] * 3


def test_nobody_sees_the_blind_copies_and_everybody_the_others(client: Client) -> None:
    client.publish("", "jobs", b"dig", properties=with_headers(before=1, BCC=["blind"], CC=["copy"], after=2))

    for queue in ("jobs", "copy", "blind"):
        assert headers_of(client, queue) == {"before": 1, "CC": ["copy"], "after": 2}


def test_everything_but_the_blind_copies_keeps_its_bytes(client: Client) -> None:
    plain = commands.Basic.Properties(content_type="text/plain", headers={"a": 2**40, "b": [1.5, None]}, message_id="7")
    blind = commands.Basic.Properties(
        content_type="text/plain", headers={"a": 2**40, "BCC": ["blind"], "b": [1.5, None]}, message_id="7"
    )
    client.publish("", "jobs", b"dig", properties=blind)

    message = client.get("jobs")

    assert message is not None
    assert message.header[12:] == plain.marshal()


def test_a_queue_named_more_than_once_gets_one_message(client: Client) -> None:
    client.publish("", "jobs", b"dig", properties=with_headers(CC=["jobs", "copy", "copy"], BCC=["copy"]))

    assert client.drain("jobs") == client.drain("copy") == [b"dig"]


def test_copies_go_through_the_exchange_that_was_published_to(client: Client) -> None:
    client.bind("amq.topic", "copy", "copies.#")
    client.publish("amq.topic", "nowhere", b"dig", properties=with_headers(CC=["copies.a", "jobs"]))

    assert client.drain("copy") == [b"dig"]
    assert client.drain("jobs") == []


def test_a_message_of_which_only_a_copy_arrives_is_not_returned(client: Client) -> None:
    client.publish("", "nowhere", b"dig", mandatory=True, properties=with_headers(BCC=["blind"]))
    client.publish("", "nowhere", b"dig", mandatory=True, properties=with_headers(BCC=["neither"]))

    (returned,) = client.replies()
    assert returned.method.reply_code == 312
    assert client.drain("blind") == [b"dig"]


def test_copies_are_of_one_message_and_not_of_the_route_it_takes(client: Client) -> None:
    """Plain messages of the same route come before and after it, in one read."""
    plain = content("", "jobs", b"plain") * 3
    client.publish("", "jobs", b"first")
    client.send(plain + content("", "jobs", b"both", properties=with_headers(CC=["copy"])) + plain)

    assert client.drain("jobs") == [b"first", *[b"plain"] * 3, b"both", *[b"plain"] * 3]
    assert client.drain("copy") == [b"both"]


def test_what_is_no_string_among_the_keys_is_passed_over(client: Client) -> None:
    client.publish("", "jobs", b"dig", properties=with_headers(CC=[7, "copy", None, {"copy": 1}]))

    assert client.drain("copy") == [b"dig"]


@pytest.mark.parametrize("name", ["CC", "BCC"])
@pytest.mark.parametrize(
    ("value", "kind"), [("copy", "longstr"), (True, "bool"), ({"a": 1}, "table"), (1.5, "float"), (None, "void")]
)
def test_keys_that_are_no_array_are_refused(client: Client, name: str, value: Any, kind: str) -> None:
    client.publish("", "jobs", b"dig", properties=with_headers(**{name: value}))

    (close,) = client.replies()
    assert close.reply_code == 406
    assert close.reply_text == (
        f'PRECONDITION_FAILED - invalid message: {{unacceptable_type_in_header,"{name}",{kind}}}'
    )
    assert client.open(2).declare("jobs", passive=True, channel=2).message_count == 0


@pytest.mark.parametrize("key", ["x" * 10_000, "", "\0"])
def test_any_text_may_be_a_key_of_a_copy(client: Client, key: str) -> None:
    client.publish("", "jobs", b"dig", properties=with_headers(CC=[key], BCC=[key]))

    assert client.drain("jobs") == [b"dig"]


def test_a_message_with_copies_is_confirmed_once(client: Client) -> None:
    client.ask(commands.Confirm.Select())

    client.publish("", "jobs", b"dig", properties=with_headers(CC=["copy"]))

    (ack,) = client.replies()
    assert (ack.delivery_tag, ack.multiple) == (1, False)


# user-id --------------------------------------------------------------------------------------------------------------


def test_a_publisher_may_name_itself(client: Client) -> None:
    for _ in range(3):
        client.publish("", "jobs", b"dig", properties=commands.Basic.Properties(user_id="guest"))

    assert client.drain("jobs") == [b"dig"] * 3


@pytest.mark.parametrize("is_known_route", [True, False])
def test_a_publisher_may_not_name_somebody_else(client: Client, is_known_route: bool) -> None:
    if is_known_route:
        client.publish("", "jobs", b"dig", properties=commands.Basic.Properties(user_id="guest"))
    client.publish("", "jobs", b"dig", properties=commands.Basic.Properties(user_id="root"))

    (close,) = client.replies()
    assert close.reply_text == (
        "PRECONDITION_FAILED - user_id property set to 'root' but authenticated user was 'guest'"
    )
    assert close.reply_code == 406


def test_an_empty_name_is_not_the_publishers(client: Client) -> None:
    header = b"\x00\x3c" + bytes(10) + (1 << 4).to_bytes(2, "big") + b"\x00"
    client.send(methods.frame(1, commands.Basic.Publish(routing_key="jobs")) + frames.pack(frames.HEADER, 1, header))

    assert client.refusal() == ("channel", 406)


def test_an_impersonator_may_name_anybody(world: World, client: Client) -> None:
    proxy = world.client(tags=("impersonator",)).open()
    for _ in range(2):
        proxy.publish("", "jobs", b"dig", properties=commands.Basic.Properties(user_id="root"))

    assert proxy.replies() == []
    assert client.drain("jobs") == [b"dig"] * 2


# expiration -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_known_route", [True, False])
def test_an_expiration_that_is_no_number_is_refused(client: Client, is_known_route: bool) -> None:
    if is_known_route:
        client.publish("", "jobs", b"dig", properties=commands.Basic.Properties(expiration="60000"))
    client.publish("", "jobs", b"dig", properties=commands.Basic.Properties(expiration="soon"))

    (close,) = client.replies()
    assert close.reply_text == "PRECONDITION_FAILED - invalid expiration 'soon': no_integer"
    assert close.reply_code == 406


def test_messages_with_a_sound_expiration_or_their_publishers_name_take_the_fast_way_in(
    world: World, client: Client
) -> None:
    wire = content("", "jobs", b"dig", properties=commands.Basic.Properties(expiration="60000", user_id="guest")) * 3
    client.send(wire)

    with memoryview(wire) as view:
        assert client.connection._intake.run(view, 0, world.now) == len(wire)


# the time -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def stamping(tmp_path: Path) -> Client:
    client = World(tmp_path, settings=ConnectionSettings(set_timestamps=True)).client().open()
    client.declare("q")
    return client


def timestamp(client: Client) -> int | None:
    message = client.get("q")
    assert message is not None
    moment = amending.take_apart(message.header).get(amending.TIMESTAMP)
    return None if moment is None else int.from_bytes(moment, "big")


def test_messages_get_the_time_of_their_arrival_where_the_operator_wants_it(stamping: Client) -> None:
    for _ in range(3):
        stamping.publish("", "q", b"dig", properties=commands.Basic.Properties(headers={"a": 1}, app_id="shovel"))

    assert timestamp(stamping) == stamping.world.now // 1000
    assert headers_of(stamping, "q") == {"a": 1}
    message = stamping.get("q")
    assert message is not None
    assert message.body == b"dig"
    assert message.header.endswith(b"\x06shovel")


def test_a_publishers_own_time_is_kept(stamping: Client) -> None:
    own = commands.Basic.Properties(timestamp=datetime.fromtimestamp(1234567, tz=UTC))
    stamping.publish("", "q", b"dig", properties=own)

    assert timestamp(stamping) == 1234567


def test_nobody_else_is_given_a_time(client: Client) -> None:
    client.declare("q")
    client.publish("", "q", b"dig")

    assert timestamp(client) is None
