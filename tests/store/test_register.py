"""What a start believes without looking is right, whatever happened before, and what turns out wrong is told."""

from pathlib import Path
from random import Random
from typing import Any
from zlib import crc32

import pytest
from pamqp import commands

from ipc.errors import ExitCode, StartRefused
from shards.store import blocks, register
from shards.store.register import SegmentFacts
from tests.protocols.conversation import World
from tests.simulation.simulated_files import SimulatedFiles, Stopped
from tests.simulation.small_limits import STORE, small_limits
from tests.store.test_blocks import documented_layout, tables

MESSAGES = 60


@pytest.fixture(autouse=True)
def _small() -> object:
    """Segments of 8 KiB, journal files that are full soon."""
    with small_limits():
        yield


class Home:
    """A shard with the queue `jobs`, which ends and begins again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.files = SimulatedFiles()
        self.begin()

    def begin(self) -> None:
        self.world = World(self._path, files=self.files, store=STORE)
        self.client = self.world.client().open()

    def end_in_order(self) -> None:
        self.world.close()
        self.files = self.files.restart()

    def end_suddenly(self, *, of: str = "process") -> None:
        for definitions in self.world.vhosts._definitions.values():
            definitions.close()
        self.files = self.files.restart() if of == "process" else self.files.power_failure()

    def fill(self, queue: str = "jobs", count: int = MESSAGES, **facts: Any) -> list[bytes]:
        self.client.declare(queue, durable=True, **facts)
        return self.publish(queue, count)

    def publish(self, queue: str = "jobs", count: int = MESSAGES, priority: int | None = None) -> list[bytes]:
        bodies = [b"%d of %d " % (number, count) + b"x" * 500 for number in range(count)]
        properties = commands.Basic.Properties(delivery_mode=2, priority=priority)
        for number, body in enumerate(bodies):
            self.client.publish("", queue, body, properties=properties)
            if number % 10 == 9:
                self.world.advance(600)
                self.world.checkpoint()
        return bodies

    def write_back(self) -> None:
        """All is in its place, and checkpoints have ended."""
        for _ in range(4):
            self.world.advance(1000)
        self.world.checkpoint()

    def depth(self, queue: str = "jobs") -> int:
        return int(self.client.declare(queue, durable=True, passive=True).message_count)

    def ready_bytes(self, queue: str = "jobs") -> int:
        store = self.world.vhost.queue(queue).store
        return store.ready_bytes if store is not None else 0

    def segments(self, queue: int = 1) -> list[str]:
        return [name for name in self.files.names() if f"/queues/{queue}/" in name and name.endswith(".messages")]

    @property
    def register(self) -> str:
        (path,) = [name for name in self.files.names() if name.endswith("/segments")]
        return path

    def told(self) -> list[str]:
        return [str(notice.fields["what"]) for notice in self.world.turn.notices if notice.is_error]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def entry_layout() -> str:
    (table,) = tables(register.__doc__)
    return documented_layout(table)


def test_the_documented_entry_is_the_coded_one() -> None:
    # Layouts know no signs: two of its numbers have one.
    assert entry_layout() == register._ENTRY.format.replace("q", "Q")
    facts = SegmentFacts(1, 2, 3, 4, 5, 6, -7, -1, 9, 0, 10)
    assert SegmentFacts._make(register._ENTRY.unpack(facts.pack())) == facts


# after an end in order ------------------------------------------------------------------------------------------------


def test_after_an_end_in_order_no_segment_is_read_before_its_messages_are(home: Home) -> None:
    bodies = home.fill()
    home.end_in_order()
    home.begin()

    assert (home.depth(), home.ready_bytes()) == (MESSAGES, sum(map(len, bodies)))
    assert home.files.maps_made == 0
    assert len(home.segments()) > 2
    assert home.client.drain("jobs") == bodies
    assert home.world.report.is_clean and not home.told()


def test_what_was_taken_from_the_front_is_known_without_a_look(home: Home) -> None:
    bodies = home.fill()
    for _ in range(20):
        home.client.get("jobs")
    home.end_in_order()
    home.begin()

    assert (home.depth(), home.ready_bytes()) == (40, sum(map(len, bodies[20:])))
    assert home.files.maps_made == 0
    assert home.client.drain("jobs") == bodies[20:]


def test_what_was_taken_from_everywhere_is_counted_right(home: Home) -> None:
    bodies = home.fill()
    taken = [home.client.get("jobs", acks=True) for _ in range(MESSAGES)]
    for message in taken[::3]:
        assert message is not None
        home.client.ack(message.method.delivery_tag)
    left = [body for number, body in enumerate(bodies) if number % 3]
    home.client.disconnect()
    home.end_in_order()
    home.begin()

    assert (home.depth(), home.ready_bytes()) == (len(left), sum(map(len, left)))
    assert home.client.drain("jobs") == left
    assert home.ready_bytes() == 0


def test_another_end_and_start_without_a_look_in_between_change_nothing(home: Home) -> None:
    bodies = home.fill()
    for _ in range(3):
        home.end_in_order()
        home.begin()
    more = home.publish(count=3)
    home.end_in_order()
    home.begin()

    assert home.depth() == MESSAGES + 3
    assert home.files.maps_made == 0
    assert home.client.drain("jobs") == bodies + more


def test_levels_of_priorities_and_counts_of_returns_are_there_again(home: Home) -> None:
    home.fill("ranked", arguments={"x-max-priority": 5})
    home.publish("ranked", 4, priority=3)
    home.fill("counted", 3, arguments={"x-queue-type": "quorum"})
    for _ in range(2):
        message = home.client.get("counted", acks=True)
        assert message is not None
        home.client.nack(message.method.delivery_tag)
    home.end_in_order()
    home.begin()

    assert (home.depth("ranked"), home.depth("counted")) == (MESSAGES + 4, 3)
    assert [body.split(b" ")[2] for body in home.client.drain("ranked")[:5]] == [b"4"] * 4 + [b"60"]
    message = home.client.get("counted")
    assert message is not None
    assert b"x-delivery-countl" + (2).to_bytes(8, "big") in message.header


def test_a_message_that_expires_by_itself_does_so_after_a_start(home: Home) -> None:
    home.fill(count=1)
    home.client.drain("jobs")
    home.client.publish("", "jobs", b"late", properties=commands.Basic.Properties(delivery_mode=2, expiration="5000"))
    home.write_back()
    home.end_in_order()
    home.begin()
    assert home.depth() == 1

    home.world.advance(10_000)

    assert home.depth() == 0


def test_a_purge_of_what_nobody_has_read_empties_the_queue(home: Home) -> None:
    home.fill()
    home.end_in_order()
    home.begin()

    purged = home.client.ask(commands.Queue.Purge(queue="jobs"))
    home.world.finish_turn()

    assert purged.message_count == MESSAGES
    assert home.segments() == []
    home.end_in_order()
    home.begin()
    assert home.depth() == 0


def test_a_vhost_that_was_changed_after_its_end_in_order_is_looked_at_again(home: Home) -> None:
    """The register is complete until the vhost is opened, and no longer."""
    bodies = home.fill()
    home.end_in_order()
    home.begin()
    for _ in range(25):
        home.client.get("jobs")
    more = home.publish(count=5)
    home.end_suddenly()
    home.begin()

    assert home.depth() == 40
    assert home.client.drain("jobs") == bodies[25:] + more


@pytest.mark.parametrize("call", range(14))
def test_an_end_while_the_vhost_opens_leaves_nothing_that_is_wrong(home: Home, call: int) -> None:
    bodies = home.fill()
    home.end_in_order()
    home.files.stop(call)
    try:
        home.begin()
        home.client.get("jobs")
        bodies = bodies[1:]
        home.world.advance(1000)
    except Stopped:
        pass
    home.files.accept_everything()
    home.files = home.files.restart()
    home.begin()

    found = home.client.drain("jobs")
    assert found[-len(bodies) :] == bodies[-len(found) :]
    assert len(found) in (MESSAGES - 1, MESSAGES)


def test_a_file_in_the_place_of_the_next_segment_is_kept_and_in_nobodys_way(home: Home) -> None:
    """Nobody looked into the directory, so nobody saw it."""
    bodies = home.fill()
    home.end_in_order()
    last = home.segments()[-1]
    following = f"{last[:-19]}{int(last[-19:-9]) + 1:010d}.messages"
    home.files.write(following, 0, [b"mine"], sync=False)
    home.begin()

    more = home.publish(count=5)
    home.write_back()

    assert home.client.drain("jobs") == bodies + more
    assert [home.files.content(name) for name in home.files.names() if name.endswith(".damaged")] == [b"mine"]


# after a sudden end ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("of", ["process", "machine"])
def test_after_a_sudden_end_only_segments_that_no_checkpoint_has_seen_are_read(home: Home, of: str) -> None:
    bodies = home.fill(count=200)
    home.write_back()
    sealed = len(home.segments()) - 1
    home.end_suddenly(of=of)
    home.begin()

    assert (home.depth(), home.ready_bytes()) == (200, sum(map(len, bodies)))
    assert sealed > 8
    known = [segment for segment in _segments(home) if not segment.is_verified]
    assert len(known) > sealed // 2, "the others were sealed since the last checkpoint, or are the last"
    assert home.client.drain("jobs") == bodies


def test_what_was_settled_since_a_checkpoint_is_not_believed_to_be_there(home: Home) -> None:
    bodies = home.fill(count=200)
    home.write_back()
    for _ in range(30):
        home.client.get("jobs")
    home.write_back()
    home.end_suddenly()
    home.begin()

    assert (home.depth(), home.ready_bytes()) == (170, sum(map(len, bodies[30:])))
    assert home.client.drain("jobs") == bodies[30:]


def test_a_queue_that_has_the_number_of_one_that_went_has_its_own_messages(home: Home) -> None:
    home.fill(count=100)
    home.write_back()
    home.client.ask(commands.Queue.Delete(queue="jobs"))
    home.end_suddenly()
    home.begin()
    bodies = home.fill(count=99)
    home.write_back()
    home.end_suddenly()
    home.begin()

    assert home.depth() == 99
    assert home.client.drain("jobs") == bodies


def test_a_register_stays_short_however_many_segments_come_and_go(home: Home) -> None:
    home.fill(count=10)
    for _ in range(30):
        home.publish(count=40)
        home.write_back()
        for _ in range(40):
            home.client.get("jobs")
        home.write_back()

    assert home.files.size(home.register) < 2_000
    home.end_suddenly()
    home.begin()
    assert len(home.client.drain("jobs")) == home.world.report.messages == 10


@pytest.mark.parametrize("seed", range(60))
def test_any_damage_to_a_register_costs_time_only(home: Home, seed: int) -> None:
    random = Random(seed)
    bodies = home.fill()
    for _ in range(10):
        home.client.get("jobs")
    (home.end_in_order if seed % 2 else home.end_suddenly)()
    size = home.files.size(home.register) if seed % 2 else 0
    if size:
        home.files.overwrite(home.register, random.randrange(size), random.randbytes(random.randrange(1, 9)))
        if random.random() < 0.5:
            home.files.allocate(home.register, random.randrange(size))
    home.begin()

    assert home.depth() == MESSAGES - 10
    assert home.client.drain("jobs") == bodies[10:]
    assert home.world.report.is_clean and not home.told()


def test_a_register_of_a_newer_version_is_refused_and_left_as_it_is(home: Home) -> None:
    home.fill()
    home.end_in_order()
    header = bytearray(home.files.content(home.register)[: blocks._FILE_CHECKED.size])
    header[8] = 9
    home.files.overwrite(home.register, 0, bytes(header) + blocks._CHECKSUM.pack(crc32(bytes(header))))
    before = [home.files.content(name) for name in home.files.names()]

    with pytest.raises(StartRefused) as refused:
        home.begin()

    assert refused.value.exit_code == ExitCode.FORMAT_UNKNOWN
    assert [home.files.content(name) for name in home.files.names()] == before


# what turns out to be damaged -----------------------------------------------------------------------------------------


def test_damage_is_told_when_it_is_read_and_the_rest_is_served(home: Home) -> None:
    bodies = home.fill()
    home.end_in_order()
    damaged = home.segments()[1]
    home.files.overwrite(damaged, 2_000, b"rotten")
    home.begin()
    assert (home.depth(), home.told()) == (MESSAGES, [])

    found = home.client.drain("jobs")

    (sentence,) = home.told()
    lost = MESSAGES - len(found)
    assert lost > 0
    assert f"{damaged} has" in sentence
    assert f"{lost} of" in sentence
    assert found == [body for body in bodies if body in found]
    assert (home.depth(), home.ready_bytes()) == (0, 0)
    assert [name for name in home.files.names() if name.endswith(".damaged")] != [], "kept for a person to look at"
    assert home.segments() == []


def test_a_segment_that_has_gone_is_told_and_the_rest_is_served(home: Home) -> None:
    bodies = home.fill()
    home.end_in_order()
    home.files.unlink(home.segments()[1])
    home.begin()

    found = home.client.drain("jobs")

    (sentence,) = home.told()
    assert "is gone" in sentence
    assert found == [body for body in bodies if body in found]
    assert 0 < len(found) < MESSAGES
    assert home.depth() == 0


def test_a_consumer_is_served_from_behind_a_segment_with_nothing_left(home: Home) -> None:
    home.fill()
    home.end_in_order()
    for path in home.segments()[:-1]:
        home.files.overwrite(path, 0, bytes(home.files.size(path)))
    home.begin()
    depth = home.depth()

    home.client.consume("jobs")
    bodies = home.client.bodies()

    assert bodies and len(bodies) < depth
    assert len(home.told()) == len(home.segments()) or len(home.told()) > 1
    assert home.depth() == 0


def test_a_level_with_nothing_left_does_not_hide_the_lower_ones(home: Home) -> None:
    home.client.declare("ranked", durable=True, arguments={"x-max-priority": 5})
    low = home.publish("ranked", 3, priority=1)
    home.publish("ranked", 4, priority=5)
    home.end_in_order()
    high = home.segments()[-1]
    home.files.overwrite(high, 24, bytes(home.files.size(high) - 24))
    home.begin()
    assert home.depth("ranked") == 7

    assert home.client.drain("ranked") == low
    assert "4 of 4 messages are lost" in home.told()[0]


def test_messages_whose_acknowledgements_are_lost_come_again(home: Home) -> None:
    bodies = home.fill()
    for _ in range(5):
        home.client.get("jobs")
    home.end_in_order()
    (acks,) = [name for name in home.files.names() if name.endswith(".acks")]
    home.files.overwrite(acks, 30, b"rotten")
    home.begin()
    assert home.depth() == MESSAGES - 5

    assert home.client.drain("jobs") == bodies
    assert "5 messages" in home.told()[0]
    assert (home.depth(), home.ready_bytes()) == (0, 0)


def _segments(home: Home) -> list[Any]:
    store: Any = home.world.vhost.queue("jobs").store
    return list(store.segments.by_number.values())
