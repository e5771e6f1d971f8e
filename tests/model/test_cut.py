"""A vhost at one moment, copied while it goes on: the copy is what a sudden end at that moment would have left."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Final

import pytest
from msgspec import structs
from pamqp import commands

from ipc.settings import Durability, StoreSettings
from shards.model.cut import Cut
from shards.store.definitions import Change, Definitions
from tests.protocols.conversation import Client, World
from tests.simulation.simulated_files import SimulatedFiles
from tests.simulation.small_limits import JOURNAL_FILES_MAX, JOURNAL_SPARE_FILES_MAX, LARGE_BYTES, STORE, small_limits

QUEUES: Final = ("plain", "ranked", "dying", "graves", "late")
DURABILITIES: Final[tuple[Durability, ...]] = ("fsync", "os")


@pytest.fixture(autouse=True)
def limits() -> Iterator[None]:
    with small_limits():
        yield


@pytest.fixture
def files() -> SimulatedFiles:
    return SimulatedFiles()


def nothing(_definitions: Definitions) -> Sequence[Change]:
    return ()


def go_on() -> None:
    """Nobody stops it."""


def cut(
    world: World,
    target: Path,
    *,
    committing: Callable[[Definitions], Sequence[Change]] = nothing,
    meanwhile: Callable[[], None] = go_on,
) -> Cut:
    """`meanwhile` happens again and again while it is prepared."""
    (target / "default").mkdir(parents=True)
    made = world.vhosts.begin_cut("/", target / "default")
    assert made is not None
    for _ in made.prepare():
        meanwhile()
    assert world.vhosts.make_cut(made, committing)
    return made


def frozen(files: SimulatedFiles) -> SimulatedFiles:
    """All of them as they are now, whatever happens to them."""
    twin = SimulatedFiles()
    for name in files.names():
        twin.make_directory(os.path.dirname(name), sync=False)
        twin.write(name, 0, [files.content(name)], sync=False)
    return twin


class Life:
    """Messages come into queues of each kind and leave them again, as chance has it."""

    def __init__(self, home: Path, files: SimulatedFiles, durability: Durability, seed: int) -> None:
        self.random = Random(seed)
        self.world = World(home, files=files, store=structs.replace(STORE, durability=durability))
        self.client = self.world.client().open()
        self.client.declare("plain", durable=True)
        self.client.declare("ranked", durable=True, arguments={"x-max-priority": 3})
        self.client.declare(
            "dying",
            durable=True,
            arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "graves"},
        )
        self.client.declare("graves", durable=True)
        self.client.declare("late", durable=True)
        self.client.ask(
            commands.Exchange.Declare(
                exchange="delay",
                exchange_type="x-delayed-message",
                durable=True,
                arguments={"x-delayed-type": "fanout"},
            )
        )
        self.client.bind("delay", "late")
        self.client.ask(commands.Confirm.Select())
        self.number = 0
        self.confirmed = 0

    def go_on(self, steps: int) -> None:
        for _ in range(steps):
            self.random.choice((self.publish, self.publish, self.publish, self.take, self.take, self.pass_time))()
        self.confirmed = max([self.confirmed, *(ack.delivery_tag for ack in self.client.replies())])

    def publish(self) -> None:
        for _ in range(self.random.choice((1, 5, 20))):
            self.number += 1
            queue = self.random.choice(("plain", "plain", "ranked", "dying", "delay"))
            properties = commands.Basic.Properties(
                delivery_mode=self.random.choice((2, 2, 2, 1)),
                priority=self.random.randrange(4),
                headers={"x-delay": self.random.choice((1, 500, 5000))} if queue == "delay" else None,
            )
            body = b"%d." % self.number + bytes(self.random.choice((0, 10, 300, LARGE_BYTES)))
            exchange, key = ("delay", "") if queue == "delay" else ("", queue)
            self.client.publish(exchange, key, body, properties=properties)

    def take(self) -> None:
        getter = self.world.client().open()
        for _ in range(self.random.choice((1, 10, 60))):
            message = getter.get(self.random.choice(QUEUES), acks=True)
            if message is not None:
                tag = message.method.delivery_tag
                self.random.choice((getter.ack, getter.ack, getter.nack, lambda tag: getter.nack(tag, requeue=False)))(
                    tag
                )
        if self.random.random() < 0.1:
            getter.ask(commands.Queue.Purge(queue="plain"))
        getter.disconnect()
        self.world.clients.remove(getter)

    def pass_time(self) -> None:
        self.world.advance(self.random.choice((1, 600, 3000)))

    def end(self) -> None:
        self.world.close()


def contents(home: Path, files: SimulatedFiles, durability: Durability) -> dict[str, list[bytes]]:
    """All that is in a vhost that was opened again, what waits at an exchange included."""
    world = World(home, files=files, store=structs.replace(STORE, durability=durability))
    assert world.report.damages == []
    world.advance(100_000)
    found = {queue: world.client().open().drain(queue) for queue in QUEUES}
    world.close()
    return found


@pytest.mark.parametrize("durability", DURABILITIES)
@pytest.mark.parametrize("seed", range(12))
def test_a_copy_is_what_a_sudden_end_at_that_moment_would_have_left(
    tmp_path: Path, durability: Durability, seed: int
) -> None:
    files = SimulatedFiles(seed)
    life = Life(tmp_path, files, durability, seed)
    life.go_on(life.random.randrange(10, 80))
    made = cut(life.world, tmp_path / "backup", meanwhile=lambda: life.go_on(life.random.randrange(4)))
    then = frozen(files)

    life.go_on(life.random.randrange(100))
    made.copy(go_on)
    made.end()
    life.go_on(20)
    life.end()

    expected = contents(tmp_path, then, durability)
    assert contents(tmp_path / "backup", files, durability) == expected
    assert sum(map(len, expected.values())) > 0


@pytest.mark.parametrize("durability", DURABILITIES)
def test_a_copy_has_everything_that_was_confirmed_before_it_was_begun(tmp_path: Path, durability: Durability) -> None:
    """Also over a power failure behind it."""
    for seed in range(10):
        files = SimulatedFiles(seed)
        home = tmp_path / str(seed)
        home.mkdir()
        world = World(home, files=files, store=structs.replace(STORE, durability=durability))
        client = publisher(world)
        client.ask(commands.Confirm.Select())
        bodies = [b"%d" % number + bytes(100) for number in range(200)]
        for body in bodies:
            client.publish("", "jobs", body, persistent=True)
        assert max(ack.delivery_tag for ack in client.replies()) == 200

        made = cut(world, home / "backup")
        client.ask(commands.Queue.Purge(queue="jobs"))
        world.advance(1000)
        made.copy(go_on)
        made.end()

        restored = World(home / "backup", files=files.power_failure(), store=STORE)
        assert restored.client().open().drain("jobs") == bodies


def publisher(world: World) -> Client:
    client = world.client().open()
    client.declare("jobs", durable=True)
    return client


def publish(world: World, client: Client, numbers: range, *, size_bytes: int, takes: bool = False) -> None:
    """Checkpoints end at once; `takes`: each is taken again and written behind the journal."""
    for number in numbers:
        client.publish("", "jobs", b"%d" % number + bytes(size_bytes), persistent=True)
        if takes:
            client.get("jobs")
            world.advance(600)
        world.checkpoint()


def journals(files: SimulatedFiles, home: Path) -> dict[str, bytes]:
    return {name: files.content(name) for name in files.names() if name.startswith(f"{home}/default/journal/")}


def test_a_journals_files_are_used_again_only_after_they_were_copied(tmp_path: Path, files: SimulatedFiles) -> None:
    world = World(tmp_path, files=files, store=STORE)
    client = publisher(world)
    publish(world, client, range(60), size_bytes=500, takes=True)
    made = cut(world, tmp_path / "backup")
    before = journals(files, tmp_path)

    publish(world, client, range(300), size_bytes=500, takes=True)
    while_kept = journals(files, tmp_path)
    made.copy(go_on)
    made.end()

    copies = journals(files, tmp_path / "backup")
    assert copies
    for name, content in copies.items():
        assert before[name.replace(f"{tmp_path}/backup", str(tmp_path))].startswith(content)
    assert len(while_kept) <= JOURNAL_FILES_MAX + JOURNAL_SPARE_FILES_MAX + 1


def test_declarations_on_their_way_to_disk_are_part_of_the_moment(tmp_path: Path, files: SimulatedFiles) -> None:
    """The client has not heard of them, but messages may stand in such queues."""
    world = World(tmp_path, files=files)
    client = world.client().open()
    client.declare("gone", durable=True)
    client.bind("amq.direct", "gone", "key")
    client.declare("kept", durable=True)
    world.syncs_by_itself = False
    client.say(commands.Queue.Delete(queue="gone"))
    ((definitions, committing),) = world.vhosts.take_changes()
    other = world.client().open()
    other.say(commands.Queue.Declare(queue="new", durable=True))
    world.client().open().say(commands.Queue.Bind(exchange="amq.direct", queue="new", routing_key="key"))

    for name, is_committed in (("before", False), ("after", True)):
        if is_committed:
            definitions.commit(committing)
        made = cut(world, tmp_path / name, committing={definitions: committing}.__getitem__)
        made.copy(go_on)
        made.end()

        copied = World(tmp_path / name, files=files)
        assert sorted(queue.name for queue in copied.vhost.queues()) == ["kept", "new"]
        bindings = [binding for exchange in ("amq.direct",) for binding in copied.vhost.exchange(exchange).bindings()]
        assert [binding.destination.name for binding in bindings] == ["new"]


def test_what_is_declared_and_deleted_later_is_as_it_was(tmp_path: Path, files: SimulatedFiles) -> None:
    world = World(tmp_path, files=files)
    client = publisher(world)
    client.publish("", "jobs", b"dig", persistent=True)
    made = cut(world, tmp_path / "backup")
    client.ask(commands.Queue.Delete(queue="jobs"))
    client.declare("later", durable=True)
    client.publish("", "later", b"x", persistent=True)

    made.copy(go_on)
    made.end()

    copied = World(tmp_path / "backup", files=files)
    assert [queue.name for queue in copied.vhost.queues()] == ["jobs"]
    assert b"dig" in copied.client().open().drain("jobs")


def test_queues_that_come_and_go_while_a_cut_is_prepared_are_as_they_are_in_its_moment(
    tmp_path: Path, files: SimulatedFiles
) -> None:
    world = World(tmp_path, files=files, store=STORE)
    client = world.client().open()
    for number in range(40):
        client.declare(f"old-{number}", durable=True)
        client.publish("", f"old-{number}", b"old" + bytes(3000), persistent=True)
        world.checkpoint()
    world.advance(1000)
    numbers = iter(range(40))

    def come_and_go() -> None:
        number = next(numbers, None)
        if number is not None:
            client.ask(commands.Queue.Delete(queue=f"old-{number}"))
            client.declare(f"new-{number}", durable=True)
            client.publish("", f"new-{number}", b"new" + bytes(3000), persistent=True)
            world.advance(600)
            world.checkpoint()

    made = cut(world, tmp_path / "backup", meanwhile=come_and_go)
    now = sorted(queue.name for queue in world.vhost.queues())
    made.copy(go_on)
    made.end()

    copied = World(tmp_path / "backup", files=files)
    assert sorted(queue.name for queue in copied.vhost.queues()) == now
    for name in now:
        assert [body[:3] for body in copied.client().open().drain(name)] == [name.partition("-")[0].encode()]


def test_what_is_not_to_last_is_not_copied(tmp_path: Path, files: SimulatedFiles) -> None:
    world = World(tmp_path, files=files)
    client = world.client().open()
    client.declare("passing")
    client.publish("", "passing", b"x" * 10_000, persistent=True)

    made = cut(world, tmp_path / "backup")
    made.copy(go_on)
    made.end()

    assert not [name for name in files.names() if name.startswith(f"{tmp_path}/backup")]


def test_a_vhost_that_is_not_here_cannot_be_cut(tmp_path: Path) -> None:
    assert World(tmp_path).vhosts.begin_cut("elsewhere", tmp_path) is None


def test_a_vhost_closed_before_its_moment_has_none(tmp_path: Path) -> None:
    world = World(tmp_path)
    made = world.vhosts.begin_cut("/", tmp_path / "backup")
    assert made is not None

    world.close()

    assert not world.vhosts.make_cut(made, nothing)
    made.end()


def test_a_vhost_closed_while_it_is_copied_is_copied_to_the_end(tmp_path: Path, files: SimulatedFiles) -> None:
    world = World(tmp_path, files=files)
    client = publisher(world)
    client.publish("", "jobs", b"dig", persistent=True)
    made = cut(world, tmp_path / "backup")

    world.close()
    made.copy(go_on)
    made.end()

    assert World(tmp_path / "backup", files=files).client().open().drain("jobs") == [b"dig"]


@pytest.mark.parametrize("error", [28, 5])
def test_whatever_fails_while_it_is_copied_the_vhost_does_not_notice(tmp_path: Path, error: int) -> None:
    for call in range(100):
        files = SimulatedFiles()
        home = tmp_path / str(call)
        home.mkdir()
        life = Life(home, files, "fsync", seed=3)
        life.go_on(15)
        made = cut(life.world, home / "backup")
        before = {name: files.content(name) for name in files.names()}
        files.refuse(call, error)
        try:
            made.copy(go_on)
        except OSError:
            made.end()
        else:
            made.end()
            files.accept_everything()
            life.end()
            break
        for name, content in before.items():
            assert files.content(name) == content
        life.go_on(5)
        assert not life.world.turn.shortages
        life.end()
    assert call > 5


def test_a_broker_on_a_disk_leaves_nothing_of_a_copy_behind(tmp_path: Path) -> None:
    """Nor does one that was killed in the middle of it, when it opens the vhost again."""
    world = World(tmp_path, store=StoreSettings(segment_bytes_max=64 * 1024))
    client = publisher(world)
    publish(world, client, range(100), size_bytes=2000)
    world.advance(1000)
    aside = tmp_path / "default" / "aside"
    made = cut(world, tmp_path / "backup")
    client.ask(commands.Queue.Purge(queue="jobs"))
    world.advance(1000)
    assert any(aside.iterdir())
    made.copy(go_on)
    made.end()
    assert not aside.exists()

    publish(world, client, range(100), size_bytes=2000)
    world.advance(1000)
    cut(world, tmp_path / "another backup")
    client.ask(commands.Queue.Purge(queue="jobs"))
    assert any(aside.iterdir())
    after = world.crash()

    assert not aside.exists()
    assert len(World(tmp_path / "backup").client().open().drain("jobs")) == 100
    assert after.vhost.queue("jobs").ready_count == 0
