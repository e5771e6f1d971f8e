"""The turn's agenda: what wakes up is delivered, written and confirmed; rounds cover what came before them; and a file
system that refuses writes loses nothing."""

import errno
import mmap
from array import array
from pathlib import Path

import pytest
from pamqp import commands

from ipc.limits import LARGE_BODY_BYTES, UNREADABLE_RETRY_MS, WRITE_BACK_MS
from ipc.settings import StoreSettings
from shards.model.publication import Publication
from shards.model.queues.queue import Queue
from shards.model.schedule import Schedule
from shards.model.turn import APPOINTMENT_MS, Turn
from shards.store.half_done import HalfDone
from shards.store.message_store import MessageStore
from tests.model.making import Eater, append, declare, take_all
from tests.protocols.conversation import Client, World, content
from tests.simulation.simulated_files import SimulatedFiles
from tests.simulation.small_limits import STORE, TAIL_BYTES_KEPT_MAX, small_limits
from tests.store.messages import take


class Publisher:
    """Waits for everything it published to be written, and then for a round."""

    def __init__(self, *, awaits_disk: bool) -> None:
        self.awaits_disk = awaits_disk
        self.is_written = False
        self.round = 0
        self.heard: list[int] = []

    def written(self, turn: Turn) -> None:
        self.is_written = True
        if self.awaits_disk:
            self.round = turn.await_round(self)

    def released(self, durable_through: int) -> bool:
        self.heard.append(durable_through)
        return durable_through < self.round


# rounds ---------------------------------------------------------------------------------------------------------------


def test_a_round_covers_what_was_written_before_it_began() -> None:
    turn = Turn()
    early, late = Publisher(awaits_disk=True), Publisher(awaits_disk=True)
    early.written(turn)
    number = turn.begin_round()
    late.written(turn)

    turn.complete_round(number)
    assert early.round == number
    assert late.round == number + 1

    turn.complete_round(turn.begin_round())
    assert early.heard == [number]
    assert late.heard == [number, number + 1]


def test_a_round_is_wanted_once_somebody_waits_and_until_it_begins() -> None:
    turn = Turn()
    wanted = [turn.round_wanted]
    Publisher(awaits_disk=True).written(turn)
    wanted.append(turn.round_wanted)
    turn.begin_round()
    wanted.append(turn.round_wanted)

    assert wanted == [False, True, False]


def test_whoever_left_is_not_told() -> None:
    turn = Turn()
    publisher = Publisher(awaits_disk=True)
    publisher.written(turn)

    turn.forget(publisher)
    turn.complete_round(turn.begin_round())

    assert publisher.heard == []


def test_publishers_hear_of_writing_once_a_turn() -> None:
    turn = Turn()
    publisher = Publisher(awaits_disk=False)
    turn.confirming.append(publisher)

    turn.finish(0)

    assert publisher.is_written
    assert not turn.confirming


# storage that refuses -------------------------------------------------------------------------------------------------


@pytest.fixture
def files() -> SimulatedFiles:
    return SimulatedFiles()


@pytest.fixture
def world(tmp_path: Path, files: SimulatedFiles) -> World:
    return World(tmp_path, files=files)


@pytest.fixture
def queue(world: World) -> Queue:
    return declare(world.vhost, "jobs")


def test_a_refused_write_is_told_and_nothing_unwritten_is_confirmed(
    world: World, files: SimulatedFiles, queue: Queue
) -> None:
    publisher = Publisher(awaits_disk=False)
    world.turn.confirming.append(publisher)
    append(queue, b"dig")
    files.refuse_everything()

    with pytest.raises(OSError, match="No space left"):
        world.turn.finish(world.now)

    assert not publisher.is_written
    assert queue.ready_count == 1


def test_writing_again_loses_nothing_and_confirms(world: World, files: SimulatedFiles, queue: Queue) -> None:
    publisher = Publisher(awaits_disk=False)
    world.turn.confirming.append(publisher)
    append(queue, b"one", b"two")
    files.refuse_everything()
    world.finish_turn()
    states = [(world.turn.is_storage_blocked, publisher.is_written)]
    world.retry_storage()
    states.append((world.turn.is_storage_blocked, publisher.is_written))
    files.accept_everything()
    world.retry_storage()
    states.append((world.turn.is_storage_blocked, publisher.is_written))

    assert states == [(True, False), (True, False), (False, True)]
    assert take_all(queue) == [b"one", b"two"]


def test_one_queue_that_cannot_be_written_keeps_no_other_from_being_written_later(
    tmp_path: Path, files: SimulatedFiles
) -> None:
    world = World(tmp_path, files=files, store=StoreSettings(durability="os"))
    queues = [declare(world.vhost, f"jobs-{number}") for number in range(5)]
    for queue in queues:
        append(queue, b"dig")
    files.refuse(in_calls=3)
    world.finish_turn()

    world.retry_storage()

    assert not world.turn.unflushed
    assert all(queue.store is not None and not queue.store.dirty for queue in queues)


def test_deliveries_go_on_while_nothing_can_be_written(world: World, files: SimulatedFiles, queue: Queue) -> None:
    files.refuse_everything()
    append(queue, b"one")
    world.finish_turn()
    eater = Eater(queue)
    queue.add_consumer(eater)
    world.finish_turn()

    assert eater.bodies == [b"one"]


def test_a_queue_used_over_and_over_while_storage_refuses_is_remembered_once(
    world: World, files: SimulatedFiles, queue: Queue
) -> None:
    files.refuse_everything()
    append(queue, b"dig")
    eater = Eater(queue, appetite=1)
    queue.add_consumer(eater)
    for _ in range(100):
        world.finish_turn()
        eater.give_back()

    assert len(world.turn.unflushed) == 1


def test_a_queue_deleted_while_storage_refuses_is_no_longer_written(
    world: World, files: SimulatedFiles, queue: Queue
) -> None:
    append(queue, b"dig")
    files.refuse_everything()
    world.finish_turn()

    world.vhost.delete_queue(queue)
    files.accept_everything()
    world.retry_storage()

    assert not world.turn.is_storage_blocked
    assert not world.turn.unflushed


def publisher_and_consumer(world: World) -> tuple[Client, Client]:
    publisher, consumer = world.client().open(), world.client().open()
    publisher.declare("work", durable=True)
    publisher.ask(commands.Confirm.Select())
    return publisher, consumer


def test_publishers_wait_and_go_on_later_in_order(world: World, files: SimulatedFiles) -> None:
    publisher, consumer = publisher_and_consumer(world)
    publisher.publish("", "work", b"0", persistent=True)
    assert [reply.delivery_tag for reply in publisher.replies()] == [1]

    files.refuse_everything()
    publisher.publish("", "work", b"1", persistent=True)
    publisher.publish("", "work", b"2", persistent=True)
    assert list(world.turn.blocked) == [publisher.connection]
    assert publisher.replies() == []

    files.accept_everything()
    world.retry_storage()

    assert publisher.connection.wants_input
    assert max(reply.delivery_tag for reply in publisher.replies()) == 3
    assert consumer.drain("work") == [b"0", b"1", b"2"]


def test_nobody_but_publishers_waits(world: World, files: SimulatedFiles) -> None:
    publisher, consumer = publisher_and_consumer(world)
    publisher.publish("", "work", b"0")
    publisher.replies()
    files.refuse_everything()
    publisher.publish("", "work", b"1")

    consumer.consume("work", acks=True)
    assert consumer.bodies() == [b"0", b"1"]
    consumer.ack(1)
    consumer.nack(2)

    assert consumer.bodies() == [b"1"]
    assert consumer.connection.wants_input


def test_a_publisher_may_leave_while_it_waits(world: World, files: SimulatedFiles) -> None:
    publisher, consumer = publisher_and_consumer(world)
    files.refuse_everything()
    for _ in range(2):
        publisher.publish("", "work", b"dig", persistent=True)
    assert not publisher.connection.wants_input

    publisher.disconnect()
    assert not world.turn.blocked
    files.accept_everything()
    world.retry_storage()

    assert consumer.drain("work") == [b"dig"]


def test_a_message_half_taken_in_when_storage_refuses_is_completed(tmp_path: Path, files: SimulatedFiles) -> None:
    world = World(tmp_path, files=files, store=StoreSettings(durability="os"))
    publisher, consumer = publisher_and_consumer(world)
    whole = content("", "work", b"x" * 1000)
    publisher.send(whole[:-500])
    files.refuse_everything()
    consumer.publish("", "work", b"dig")
    assert world.turn.is_storage_blocked

    publisher.send(whole[-500:])
    files.accept_everything()
    world.retry_storage()

    assert sorted(consumer.drain("work")) == [b"dig", b"x" * 1000]


def test_a_refusing_disk_loses_no_large_body(world: World, files: SimulatedFiles) -> None:
    publisher, consumer = publisher_and_consumer(world)
    body = b"x" * 600_000
    files.refuse_everything()
    publisher.publish("", "work", body, persistent=True)
    assert publisher.replies() == []

    files.accept_everything()
    world.retry_storage()

    assert [reply.delivery_tag for reply in publisher.replies()] == [1]
    assert consumer.drain("work") == [body]


class UnreadableFiles(SimulatedFiles):
    """Neither maps nor reads anything whose path names one queue's directory."""

    def __init__(self) -> None:
        super().__init__()
        self.unreadable = ""

    def map(self, path: str, size_bytes: int) -> mmap.mmap:
        if self.unreadable and self.unreadable in path:
            raise OSError(errno.EIO, "Input/output error", path)
        return super().map(path, size_bytes)

    def read(self, path: str, offset: int, size_bytes: int) -> bytes:
        if self.unreadable and self.unreadable in path:
            raise OSError(errno.EIO, "Input/output error", path)
        return super().read(path, offset, size_bytes)


def test_a_queue_that_cannot_be_read_keeps_no_other_waiting(tmp_path: Path) -> None:
    files = UnreadableFiles()
    world = World(tmp_path, files=files)
    broken, sound = eaters = [Eater(declare(world.vhost, name)) for name in ("broken", "sound")]
    for eater in eaters:
        append(eater.queue, b"dig")
        assert eater.queue.store is not None
        eater.queue.store.flush()
        eater.queue.add_consumer(eater)
    files.unreadable = f"/queues/{broken.queue.number}/"

    world.turn.finish(world.now)

    assert sound.bodies == [b"dig"]
    assert list(world.turn.unreadable) == [broken.queue]


def test_a_queue_that_could_not_be_read_is_looked_at_again(tmp_path: Path) -> None:
    files = UnreadableFiles()
    world = World(tmp_path, files=files)
    client = world.client().open()
    client.declare("jobs", durable=True)
    client.publish("", "jobs", b"dig", persistent=True)
    queue = world.vhost.queue("jobs")
    assert queue.store is not None
    queue.store.flush()
    files.unreadable = f"/queues/{queue.number}/"
    client.consume("jobs")
    heard_first = client.bodies()

    files.unreadable = ""
    world.advance(UNREADABLE_RETRY_MS)

    assert heard_first == []
    assert client.bodies() == [b"dig"]


def test_what_was_handed_out_is_sent_when_the_rest_cannot_be_read(tmp_path: Path) -> None:
    files = UnreadableFiles()
    with small_limits():
        world = World(tmp_path, files=files, store=STORE)
        client = world.client().open()
        client.declare("jobs", durable=True)
        client.consume("jobs")
        queue = world.vhost.queue("jobs")
        queue.pause()
        for body in (b"read", b"unread"):
            client.publish("", "jobs", body.ljust(STORE.segment_bytes_max // 2), persistent=True)
            assert queue.store is not None
            queue.store.flush()
        files.unreadable = "0000000002.messages"

        queue.resume()
        world.turn.finish(world.now)

    assert list(world.turn.unreadable) == [queue]
    assert client.connection in world.turn.unsent
    assert [body.strip() for body in client.bodies()] == [b"read"]


def held_in_a_segment(world: World, queue: str, **arguments: int | str) -> Client:
    """A client that has got two messages which are nowhere but in a file."""
    client = world.client().open()
    named = {name.replace("_", "-"): value for name, value in arguments.items()}
    client.declare("graves", durable=True)
    client.declare(queue, durable=True, arguments=named)
    for body in (b"1", b"2"):
        client.publish("", queue, body, persistent=True)
    store = world.vhost.queue(queue).store
    assert store is not None
    store.flush()
    for _ in range(2):
        assert client.get(queue, acks=True) is not None
    return client


def counts(world: World, name: str) -> tuple[int, int]:
    queue = world.vhost.queue(name)
    return queue.ready_count, queue.unacknowledged_count


def test_what_is_rejected_and_cannot_be_read_comes_back(tmp_path: Path) -> None:
    files = UnreadableFiles()
    world = World(tmp_path, files=files)
    client = held_in_a_segment(world, "jobs", x_dead_letter_exchange="", x_dead_letter_routing_key="graves")
    files.unreadable = f"/queues/{world.vhost.queue('jobs').number}/"
    client.nack(2, multiple=True, requeue=False)

    assert {queue.name for queue in world.turn.unreadable} == {"jobs"}
    assert counts(world, "jobs") == (2, 0)
    files.unreadable = ""
    assert client.drain("jobs") == [b"1", b"2"]


def test_what_has_no_room_among_the_dead_letters_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path)
    client = held_in_a_segment(world, "jobs", x_dead_letter_exchange="", x_dead_letter_routing_key="graves")
    refused = iter((MemoryError(), None))
    enter = Publication.enter

    def enter_sometimes(copy: Publication, queues: list[Queue], now: int) -> None:
        if fault := next(refused):
            raise fault
        enter(copy, queues, now)

    monkeypatch.setattr(Publication, "enter", enter_sometimes)
    client.nack(2, multiple=True, requeue=False)
    world.sync()

    assert counts(world, "jobs") == (1, 0)
    assert client.drain("jobs") == [b"1"]
    assert client.drain("graves") == [b"2"]


def test_what_expires_and_has_no_room_among_the_dead_letters_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path)
    client = world.client().open()
    client.declare("graves")
    client.declare(
        "jobs",
        arguments={"x-message-ttl": 1000, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "graves"},
    )
    for body in (b"1", b"2"):
        client.publish("", "jobs", body)

    def enter_never(copy: Publication, queues: list[Queue], now: int) -> None:
        raise OSError(errno.ENOSPC, "too much is waiting to be written")

    with monkeypatch.context() as patched:
        patched.setattr(Publication, "enter", enter_never)
        world.advance(1000 + APPOINTMENT_MS)
        assert counts(world, "jobs") == (2, 0)
    world.advance(UNREADABLE_RETRY_MS + APPOINTMENT_MS)

    assert counts(world, "jobs") == (0, 0)
    assert client.drain("graves") == [b"1", b"2"]


def test_what_is_to_be_sent_again_and_cannot_be_read_goes_back_into_its_queue(tmp_path: Path) -> None:
    files = UnreadableFiles()
    world = World(tmp_path, files=files)
    client = held_in_a_segment(world, "jobs")
    client.nack(2, multiple=True, requeue=True)
    client.consume("jobs", acks=True)
    assert client.bodies() == [b"1", b"2"]
    files.unreadable = f"/queues/{world.vhost.queue('jobs').number}/"

    client.say(commands.Basic.Recover(requeue=False))

    assert counts(world, "jobs") == (2, 0)
    files.unreadable = ""
    world.advance(UNREADABLE_RETRY_MS + APPOINTMENT_MS)
    assert client.bodies() == [b"1", b"2"]


def declares_later(world: World) -> Client:
    """A client with an exchange that delays."""
    client = world.client().open()
    client.ask(
        commands.Exchange.Declare(
            exchange="later", exchange_type="x-delayed-message", arguments={"x-delayed-type": "fanout"}
        )
    )
    return client


def test_what_has_waited_and_cannot_be_passed_on_waits_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path)
    client = declares_later(world)
    client.declare("jobs")
    client.bind("later", "jobs", "")
    client.publish("later", "", b"1", properties=commands.Basic.Properties(headers={"x-delay": 1000}))

    def offer_never(message: Publication, queues: list[Queue], now: int) -> None:
        raise OSError(errno.ENOSPC, "too much is waiting to be written")

    with monkeypatch.context() as patched:
        patched.setattr(Publication, "offer", offer_never)
        world.advance(1000 + APPOINTMENT_MS)
    world.advance(UNREADABLE_RETRY_MS + APPOINTMENT_MS)

    assert client.drain("jobs") == [b"1"]


def test_what_waits_is_noted_once_or_the_shard_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Noted twice it would be settled twice, and that is another message lost."""
    world = World(tmp_path)
    client = declares_later(world)
    properties = commands.Basic.Properties(headers={"x-delay": 1000})
    client.publish("later", "", b"0", properties=properties)
    add = Schedule.add
    faults = iter((None, MemoryError()))

    def add_once(schedule: Schedule, due: int, position: int) -> None:
        if fault := next(faults):
            raise fault
        add(schedule, due, position)

    monkeypatch.setattr(Schedule, "add", add_once)
    both = b"".join(content("later", "", body, properties=properties) for body in (b"1", b"2"))
    with pytest.raises(HalfDone):
        client.send(both)


def test_a_dead_letter_is_written_before_its_original_goes(tmp_path: Path) -> None:
    """Also where it died in the delivery of a turn, whose queues are written before the copy's is awake."""
    files = SimulatedFiles()
    world = World(tmp_path, files=files)
    client = world.client().open()
    client.declare("graves", durable=True)
    client.declare(
        "jobs",
        durable=True,
        arguments={"x-message-ttl": 1000, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "graves"},
    )
    client.publish("", "jobs", b"dead", persistent=True)
    world.close()  # so that only its segment has it
    files = files.restart()
    world = World(tmp_path, files=files)
    files.fill_up()
    world.advance(2000)

    after = World(tmp_path, files=files.restart())

    found = [after.vhost.queue(name).ready_count for name in ("jobs", "graves")]
    assert sum(found) == 1


def test_the_journal_keeps_the_news_of_what_leaves_until_its_queue_has_heard_it(tmp_path: Path) -> None:
    world = World(tmp_path)
    client = world.client().open()
    client.declare("jobs", durable=True)
    client.publish("", "jobs", b"dig", persistent=True)
    world.advance(WRITE_BACK_MS)
    queue = world.vhost.queue("jobs")
    assert isinstance(queue.store, MessageStore)
    held = array("Q", (position for position, _ in take(queue.store)))

    journal = queue.note_leaving(held)
    assert journal is not None
    world.turn.journals[journal] = None
    dues = [journal.due]
    world.advance(WRITE_BACK_MS)
    dues.append(journal.due)
    queue.settle_left(held, was_noted=True)
    world.advance(WRITE_BACK_MS)
    world.advance(WRITE_BACK_MS)

    assert all(dues)
    assert journal.due == 0


@pytest.mark.parametrize("refused", range(4))
def test_an_original_stays_gone_when_the_file_that_says_so_is_used_again(tmp_path: Path, refused: int) -> None:
    """Whichever write of that turn was refused: the copy may be purged before anything else is written."""
    files = SimulatedFiles()
    with small_limits():
        world = World(tmp_path, files=files)
        client = world.client().open()
        client.declare("graves", durable=True)
        arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "graves"}
        client.declare("jobs", durable=True, arguments=arguments)
        client.publish("", "jobs", b"." * TAIL_BYTES_KEPT_MAX, persistent=True)
        assert client.get("jobs", acks=True) is not None

        files.refuse(refused)
        client.nack(1, requeue=False)
        assert world.turn.is_storage_blocked
        client.ask(commands.Queue.Purge(queue="graves"))
        files.fill_up()
        world.retry_storage()
        world.checkpoint()
        files.accept_everything()
        world.retry_storage()
        after = World(tmp_path, files=files.restart())

    assert [after.vhost.queue(name).ready_count for name in ("jobs", "graves")] == [0, 0]


def test_nothing_of_a_deleted_queue_comes_back_in_one_with_its_number(tmp_path: Path) -> None:
    for seed in range(10):
        files = SimulatedFiles(seed)
        directory = tmp_path / str(seed)
        directory.mkdir()
        world = World(directory, files=files)
        client = world.client().open()
        client.declare("old", durable=True)
        client.publish("", "old", b"old" * LARGE_BODY_BYTES, persistent=True)
        world.sync()
        client.ask(commands.Queue.Delete(queue="old"))
        files = files.restart()
        World(directory, files=files).client().open().declare("new", durable=True)

        after = World(directory, files=files.power_failure())

        assert after.vhost.queue("new").ready_count == 0
