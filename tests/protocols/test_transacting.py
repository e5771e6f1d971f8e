"""A transaction happens as a whole when it is committed, and not at all when it is not."""

from pathlib import Path

import pytest
from pamqp import commands

from ipc.limits import LARGE_BODY_BYTES, UNCOMMITTED_BYTES_MAX
from ipc.settings import StoreSettings
from ipc.wire.amqp import methods
from tests.protocols.conversation import Client, Content, World, content
from tests.simulation.simulated_files import SimulatedFiles, Stopped

MIB = 1024 * 1024


@pytest.fixture
def client(world: World) -> Client:
    """Its channel 1 is transactional; the queue `jobs` is durable."""
    client = world.client().open()
    client.declare("jobs", durable=True)
    client.declare("passing")
    assert isinstance(client.ask(commands.Tx.Select()), commands.Tx.SelectOk)
    return client


@pytest.fixture
def other(world: World, client: Client) -> Client:
    return world.client().open()


def commit(client: Client) -> None:
    assert isinstance(client.ask(commands.Tx.Commit()), commands.Tx.CommitOk)


def roll_back(client: Client) -> None:
    assert isinstance(client.ask(commands.Tx.Rollback()), commands.Tx.RollbackOk)


def given(client: Client, other: Client, count: int) -> list[int]:
    """The tags of deliveries outstanding on the transactional channel, from queue `jobs`."""
    for number in range(count):
        other.publish("", "jobs", b"%d" % number)
    client.consume("jobs", tag="me", acks=True)
    tags = [message.method.delivery_tag for message in client.deliveries()]
    client.ask(commands.Basic.Cancel(consumer_tag="me"))
    return tags


def unacknowledged(world: World) -> int:
    return world.vhost.queue("jobs").unacknowledged_count


# publishing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size_bytes", [0, 5, LARGE_BODY_BYTES])
def test_messages_arrive_when_they_are_committed(client: Client, other: Client, size_bytes: int) -> None:
    for number in range(3):
        client.publish("", "jobs", bytes((number,)) * size_bytes)
    assert other.drain("jobs") == []

    commit(client)

    assert other.drain("jobs") == [bytes((number,)) * size_bytes for number in range(3)]


def test_messages_that_are_rolled_back_never_arrive(client: Client, other: Client) -> None:
    client.publish("", "jobs", b"not this")
    roll_back(client)
    client.publish("", "jobs", b"but this")
    commit(client)
    commit(client)

    assert other.drain("jobs") == [b"but this"]


def test_a_transaction_that_is_not_committed_ends_with_its_channel(client: Client, other: Client) -> None:
    client.publish("", "jobs", b"dig")
    client.ask(commands.Channel.Close(200, "", 0, 0))
    client.open()

    client.publish("", "jobs", b"without a transaction")

    assert other.drain("jobs") == [b"without a transaction"]
    assert client.connection.uncommitted_bytes == 0


def test_no_way_in_leads_past_a_transaction(client: Client, other: Client) -> None:
    """The fast one knows the route from before, and from the channel beside it."""
    client.open(2)
    client.publish("", "jobs", b"a", channel=2)
    client.ask(commands.Tx.Select(), 2)
    wire = content("", "jobs", b"b", channel=2)

    client.send(wire * 3)
    assert other.drain("jobs") == [b"a"]
    client.ask(commands.Tx.Commit(), 2)
    client.send(wire * 3)

    assert other.drain("jobs") == [b"b"] * 3


def test_other_channels_of_the_connection_have_nothing_to_do_with_it(client: Client, other: Client) -> None:
    client.open(2)
    client.publish("", "jobs", b"later")
    client.publish("", "jobs", b"now", channel=2)
    assert other.drain("jobs") == [b"now"]

    commit(client)

    assert other.drain("jobs") == [b"later"]


def test_where_a_message_goes_is_decided_when_it_is_committed(client: Client, other: Client) -> None:
    client.publish("amq.direct", "key", b"dig")
    other.bind("amq.direct", "passing", "key")

    commit(client)

    assert other.drain("passing") == [b"dig"]


def test_an_exchange_that_does_not_exist_is_told_at_once(client: Client, other: Client) -> None:
    client.publish("", "jobs", b"dig")
    client.publish("nowhere", "", b"dig")

    assert client.refusal() == ("channel", 404)
    assert other.drain("jobs") == []


def test_if_an_exchange_has_gone_meanwhile_nothing_is_committed(world: World, client: Client, other: Client) -> None:
    (tag,) = given(client, other, 1)
    other.ask(commands.Exchange.Declare(exchange="news", exchange_type="fanout"))
    client.publish("", "passing", b"dig")
    client.publish("news", "", b"dig")
    client.ack(tag)
    other.ask(commands.Exchange.Delete(exchange="news"))

    client.say(commands.Tx.Commit())

    assert client.refusal() == ("channel", 404)
    assert other.drain("passing") == []
    assert other.drain("jobs") == [b"0"]


def test_what_cannot_be_delivered_comes_back_when_it_is_committed(client: Client) -> None:
    client.publish("", "nowhere", b"lost", mandatory=True)
    client.publish("", "jobs", b"at once", immediate=True)
    assert client.replies() == []

    client.say(commands.Tx.Commit())

    no_route, no_consumers, commit_ok = client.replies()
    assert (no_route.method.reply_code, no_route.body) == (312, b"lost")
    assert (no_consumers.method.reply_code, no_consumers.body) == (313, b"at once")
    assert isinstance(commit_ok, commands.Tx.CommitOk)


def test_copies_are_committed_too(client: Client, other: Client) -> None:
    for key in ("passing", "nowhere"):
        client.publish("", "jobs", b"dig", properties=commands.Basic.Properties(headers={"CC": [key]}))

    commit(client)

    assert [other.drain(queue) for queue in ("jobs", "passing")] == [[b"dig"] * 2, [b"dig"]]


def test_a_full_queue_that_refuses_a_message_makes_the_commit_fail(client: Client, other: Client) -> None:
    other.declare("full", arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    for number in range(2):
        client.publish("", "full", b"%d" % number)
    client.publish("", "passing", b"dig")

    client.say(commands.Tx.Commit())

    (close,) = client.replies()
    assert (close.reply_code, close.reply_text) == (406, "PRECONDITION_FAILED - partial tx completion")
    assert other.drain("full") == [b"0"]
    assert other.drain("passing") == [b"dig"]


# settling -------------------------------------------------------------------------------------------------------------


def test_acknowledgements_count_when_they_are_committed(world: World, client: Client, other: Client) -> None:
    tags = given(client, other, 4)
    client.ack(tags[1])
    client.ack(tags[3], multiple=True)
    assert unacknowledged(world) == 4

    commit(client)

    assert unacknowledged(world) == 0
    client.disconnect()
    assert other.drain("jobs") == []


def test_what_was_acknowledged_without_commit_goes_back_with_the_channel(client: Client, other: Client) -> None:
    tags = given(client, other, 3)
    client.ack(tags[0])
    commit(client)
    client.ack(tags[1])

    client.disconnect()

    assert other.drain("jobs") == [b"1", b"2"]


def test_after_a_rollback_deliveries_are_outstanding_under_their_tags(
    world: World, client: Client, other: Client
) -> None:
    tags = given(client, other, 3)
    client.ack(0, multiple=True)
    roll_back(client)
    assert unacknowledged(world) == 3

    client.ack(tags[1])
    commit(client)

    client.disconnect()
    assert other.drain("jobs") == [b"0", b"2"]


def test_rejections_are_committed_each_its_own_way(client: Client, other: Client) -> None:
    tags = given(client, other, 5)
    client.nack(tags[0], requeue=True)
    client.nack(tags[1], requeue=False)
    client.say(commands.Basic.Reject(tags[2], True))
    client.say(commands.Basic.Reject(tags[3], False))
    assert other.drain("jobs") == []

    commit(client)

    assert other.drain("jobs") == [b"0", b"2"]
    client.disconnect()
    assert other.drain("jobs") == [b"4"]


@pytest.mark.parametrize("multiple", [True, False])
def test_a_delivery_is_settled_once_in_a_transaction(client: Client, other: Client, multiple: bool) -> None:
    tags = given(client, other, 2)
    client.ack(tags[1])
    client.ack(tags[1], multiple=multiple)

    (close,) = client.replies()
    assert (close.reply_code, close.reply_text) == (406, f"PRECONDITION_FAILED - unknown delivery tag {tags[1]}")
    assert other.drain("jobs") == [b"0", b"1"]


def test_the_first_word_about_a_delivery_counts(client: Client, other: Client) -> None:
    tags = given(client, other, 3)
    client.nack(tags[1], requeue=True)
    client.ack(tags[2], multiple=True)

    commit(client)

    assert other.drain("jobs") == [b"1"]


def test_everything_may_be_acknowledged_when_nothing_is_outstanding(client: Client) -> None:
    client.ack(0, multiple=True)
    commit(client)


def test_prefetch_counts_deliveries_until_their_acknowledgement_is_committed(client: Client, other: Client) -> None:
    client.prefetch(1)
    client.consume("jobs", acks=True)
    for number in range(2):
        other.publish("", "jobs", b"%d" % number)
    (first,) = client.deliveries()
    client.ack(first.method.delivery_tag)
    assert client.replies() == []

    client.say(commands.Tx.Commit())

    assert [message.body for message in client.replies() if isinstance(message, Content)] == [b"1"]


@pytest.mark.parametrize("requeue", [True, False])
def test_recover_leaves_alone_what_is_settled_in_the_transaction(client: Client, other: Client, requeue: bool) -> None:
    tags = given(client, other, 3)
    client.ack(tags[1])
    client.ask(commands.Basic.Recover(requeue=requeue))
    assert other.drain("jobs") == [b"0", b"2"]

    commit(client)

    client.disconnect()
    assert other.drain("jobs") == []


def test_a_run_of_acknowledgements_in_one_read_waits_too(world: World, client: Client, other: Client) -> None:
    tags = given(client, other, 20)
    client.send(b"".join(methods.frame(1, commands.Basic.Ack(tag)) for tag in tags))
    assert unacknowledged(world) == 20

    commit(client)

    assert unacknowledged(world) == 0


def test_settling_what_came_from_a_deleted_queue_is_fine(client: Client, other: Client) -> None:
    tags = given(client, other, 2)
    client.ack(tags[0])
    other.ask(commands.Queue.Delete(queue="jobs"))
    client.nack(tags[1])

    commit(client)


# the disk -------------------------------------------------------------------------------------------------------------


def test_a_commit_is_answered_once_its_persistent_messages_are_on_disk(world: World, client: Client) -> None:
    world.syncs_by_itself = False
    client.publish("", "jobs", b"dig", persistent=True)
    client.say(commands.Tx.Commit())
    assert client.replies() == []
    assert not client.connection.wants_input

    world.sync()
    world.finish_turn()

    assert [reply.name for reply in client.replies()] == ["Tx.CommitOk"]
    assert world.crash().client().open().drain("jobs") == [b"dig"]


def test_a_round_that_began_before_a_commit_was_written_does_not_answer_it(world: World, client: Client) -> None:
    world.syncs_by_itself = False
    client.publish("", "jobs", b"dig", persistent=True)
    with memoryview(methods.frame(1, commands.Tx.Commit())) as view:
        client.connection.receive(view, world.now)
    running = world.turn.begin_round()
    world.finish_turn()

    world.turn.complete_round(running)
    assert client.replies() == []

    world.sync()
    assert [reply.name for reply in client.replies()] == ["Tx.CommitOk"]


def test_a_commit_of_acknowledgements_is_answered_once_they_are_on_disk(
    world: World, client: Client, other: Client
) -> None:
    tags = given(client, other, 2)
    world.syncs_by_itself = False
    client.ack(tags[0])
    client.say(commands.Tx.Commit())
    assert client.replies() == []

    world.sync()

    assert [reply.name for reply in client.replies()] == ["Tx.CommitOk"]


def test_a_commit_of_transient_messages_is_answered_at_once(world: World, client: Client) -> None:
    world.syncs_by_itself = False
    client.publish("", "jobs", b"dig")
    client.publish("", "passing", b"dig", persistent=True)

    commit(client)


def test_where_writing_is_enough_a_commit_is_answered_after_it(tmp_path: Path) -> None:
    world = World(tmp_path, store=StoreSettings(durability="os"))
    client = world.client().open()
    client.declare("jobs", durable=True)
    client.ask(commands.Tx.Select())
    world.syncs_by_itself = False
    client.publish("", "jobs", b"dig", persistent=True)

    commit(client)

    assert client.drain("jobs") == [b"dig"]
    world.close()


def test_what_a_client_said_behind_a_commit_waits_in_order(world: World, client: Client) -> None:
    world.syncs_by_itself = False
    client.send(
        content("", "jobs", b"dig", properties=commands.Basic.Properties(delivery_mode=2))
        + methods.frame(1, commands.Tx.Commit())
        + methods.frame(1, commands.Queue.Declare(queue="jobs", passive=True))
    )
    assert client.replies() == []

    world.sync()
    world.finish_turn()

    assert [reply.name for reply in client.replies()] == ["Tx.CommitOk", "Queue.DeclareOk"]


def test_a_client_that_leaves_while_its_commit_is_written_is_not_answered(world: World, client: Client) -> None:
    world.syncs_by_itself = False
    client.publish("", "jobs", b"dig", persistent=True)
    client.say(commands.Tx.Commit())
    client.disconnect()

    world.sync()
    world.finish_turn()

    assert client.replies() == []
    assert world.client().open().drain("jobs") == [b"dig"]


def test_a_commit_waits_for_a_file_system_that_refuses_writes(tmp_path: Path) -> None:
    files = SimulatedFiles()
    world = World(tmp_path, files=files)
    client, other = world.client().open(), world.client().open()
    client.declare("jobs")
    client.ask(commands.Tx.Select())
    client.publish("", "jobs", b"in a transaction")
    files.refuse_everything()
    other.publish("", "jobs", b"dig")
    assert world.turn.is_storage_blocked

    client.say(commands.Tx.Commit())
    assert client.replies() == []
    files.accept_everything()
    world.retry_storage()

    assert [reply.name for reply in client.replies()] == ["Tx.CommitOk"]
    assert other.world.client().open().drain("jobs") == [b"dig", b"in a transaction"]


# its rules ------------------------------------------------------------------------------------------------------------


def test_a_transaction_is_selected_once_or_more_often(client: Client, other: Client) -> None:
    client.publish("", "jobs", b"dig")

    assert isinstance(client.ask(commands.Tx.Select()), commands.Tx.SelectOk)

    commit(client)
    assert other.drain("jobs") == [b"dig"]


def test_an_end_in_its_turn_leaves_all_of_a_transaction_or_nothing(tmp_path: Path) -> None:
    """Also where a large body, which is written at once, comes behind a part of it."""
    found = set()
    for call in range(20):
        files = SimulatedFiles()
        directory = tmp_path / str(call)
        directory.mkdir()
        world = World(directory, files=files)
        client, other = world.client().open(), world.client().open()
        for queue in ("jobs", "books"):
            client.declare(queue, durable=True)
        client.ask(commands.Tx.Select())
        for queue in ("jobs", "books"):
            client.publish("", queue, b"part", persistent=True)
        files.stop(call)
        try:
            for speaker, said in (
                (client, methods.frame(1, commands.Tx.Commit())),
                (other, content("", "jobs", b"." * LARGE_BODY_BYTES)),
            ):
                with memoryview(said) as view:
                    speaker.connection.receive(view, world.now)
            world.finish_turn()
        except Stopped:
            pass
        after = World(directory, files=files.restart()).client().open()
        found.add(tuple(b"part" in after.drain(queue) for queue in ("jobs", "books")))

    assert found == {(False, False), (True, True)}


@pytest.mark.parametrize("method", [commands.Tx.Commit(), commands.Tx.Rollback()], ids=lambda method: str(method.name))
def test_a_channel_without_transactions_has_nothing_to_end(other: Client, method: methods.Method) -> None:
    reply = other.ask(method)

    assert reply.reply_text == "PRECONDITION_FAILED - channel is not transactional"


def test_a_channel_has_confirms_or_transactions(client: Client, other: Client) -> None:
    assert client.ask(commands.Confirm.Select()).reply_text == (
        "PRECONDITION_FAILED - cannot switch from tx to confirm mode"
    )
    other.ask(commands.Confirm.Select())
    assert other.ask(commands.Tx.Select()).reply_text == ("PRECONDITION_FAILED - cannot switch from confirm to tx mode")


def test_a_connection_keeps_so_many_uncommitted_bytes_and_no_more(world: World, other: Client) -> None:
    """In all its channels together; what was in the transaction that brought too much is gone."""
    client = world.client(message_bytes_max=8 * MIB).open().open(2)
    for channel in (1, 2):
        client.ask(commands.Tx.Select(), channel)
    piece = content("", "jobs", bytes(8 * MIB), channel=2)
    client.publish("", "jobs", b"kept")

    for _ in range(UNCOMMITTED_BYTES_MAX // (8 * MIB)):
        assert client.replies() == []
        client.send(piece)

    (close,) = client.replies()
    assert (close.reply_code, close.reply_text) == (
        406,
        f"PRECONDITION_FAILED - uncommitted messages of more than {UNCOMMITTED_BYTES_MAX} bytes on this connection",
    )
    assert client.connection.uncommitted_bytes < MIB
    commit(client)
    assert other.drain("jobs") == [b"kept"]


def test_even_empty_messages_have_a_size(client: Client) -> None:
    client.send(content("", "jobs", b"") * 100)

    assert client.connection.uncommitted_bytes > 100 * 100
    roll_back(client)
    assert client.connection.uncommitted_bytes == 0
