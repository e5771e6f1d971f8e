"""A vhost's directory after anything at all has happened to it: it opens with what is left, or says what is wrong."""

import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pamqp import commands

from ipc.errors import ExitCode, StartRefused
from ipc.settings import StoreSettings
from tests.hostile.damage import damaged
from tests.protocols.conversation import World

PERSISTENT: Final = commands.Basic.Properties(delivery_mode=2, headers={"x": 1})
SMALL_FILES: Final = StoreSettings(segment_bytes_max=64 * 1024)
REFUSALS: Final = (OSError, StartRefused, sqlite3.Error)
"""What a shard's `OpenVHost` is answered with `VHostFailed` for."""


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Queues of several kinds with messages, some settled, some returned; bindings and exchanges."""
    home = tmp_path_factory.mktemp("sound")
    world = World(home, store=SMALL_FILES)
    client = world.client().open()
    client.declare("plain", durable=True)
    client.declare("ranked", durable=True, arguments={"x-max-priority": 3})
    client.declare("limited", durable=True, arguments={"x-queue-type": "quorum", "x-message-ttl": 10**9})
    client.ask(commands.Exchange.Declare(exchange="news", exchange_type="topic", durable=True))
    client.bind("news", "plain", "a.#")
    for number in range(60):
        for queue in ("plain", "ranked", "limited"):
            client.publish("", queue, b"%d" % number + bytes(number * 40), properties=PERSISTENT)
    for _ in range(5):
        client.ask(commands.Basic.Get(queue="limited"))
        client.ask(commands.Basic.Get(queue="plain", no_ack=True))
    world.close()
    return home


def change_content(path: Path, random: Random) -> None:
    path.write_bytes(damaged(path.read_bytes(), random))


def empty(path: Path, random: Random) -> None:
    path.write_bytes(b"")


def remove(path: Path, random: Random) -> None:
    path.unlink()


def make_directory(path: Path, random: Random) -> None:
    path.unlink()
    path.mkdir()


def double(path: Path, random: Random) -> None:
    """As another file of the same kind: `0000000007.messages` beside `0000000001.messages`."""
    shutil.copy(path, path.with_name(f"{random.randrange(20, 32):010}{path.suffix}"))


def leave_litter(path: Path, random: Random) -> None:
    (path.parent / random.choice(("x", "core", "99999999999999999999.messages", ".acks", "-1.messages"))).write_bytes(
        b"x"
    )


DEEDS: Final[tuple[Callable[[Path, Random], None], ...]] = (
    *[change_content] * 8,
    empty,
    remove,
    make_directory,
    double,
    leave_litter,
)


@settings(max_examples=20, deadline=None, database=None)
@given(st.integers(0, 2**32))
@example(0)
def test_a_damaged_directory_opens_or_says_why_not(sound: Path, seed: int) -> None:
    random = Random(seed)
    with damaged_copy(sound, random) as home:
        try:
            world = World(home, store=SMALL_FILES)
        except REFUSALS:
            return
        assert world.report.messages == sum(queue.ready_count for queue in world.vhost.queues())
        read_everything(world)
        world.close()


class damaged_copy:  # noqa: N801 - reads as what it is in a `with`
    def __init__(self, sound: Path, random: Random) -> None:
        self._sound, self._random = sound, random

    def __enter__(self) -> Path:
        self._place = tempfile.TemporaryDirectory()
        home = Path(self._place.name) / "home"
        shutil.copytree(self._sound, home)
        for _ in range(self._random.choice((1, 1, 2, 4))):
            files = sorted(path for path in home.rglob("*") if path.is_file())
            self._random.choice(DEEDS)(self._random.choice(files), self._random)
        return home

    def __exit__(self, *_: object) -> None:
        self._place.cleanup()


def read_everything(world: World) -> None:
    client = world.client().open()
    for name in [queue.name for queue in world.vhost.queues()]:
        queue = world.vhost.queue(name)
        expected = queue.ready_count
        world.report.damages.clear()
        # What nobody has read since an end in order may turn out to be damaged, and that is told.
        assert len(client.drain(name)) == expected or world.report.damages
        assert queue.ready_count == 0 and (queue.store is None or queue.store.ready_bytes == 0)
        client.publish("", name, b"one more", properties=PERSISTENT)
        assert client.drain(name) == [b"one more"]


def test_the_directory_itself_is_sound(sound: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(sound, home)
    world = World(home, store=SMALL_FILES)
    assert world.report.is_clean
    assert {queue.name: queue.ready_count for queue in world.vhost.queues()} == {
        "plain": 55,
        "ranked": 60,
        "limited": 60,
    }
    read_everything(world)
    world.close()


@pytest.mark.parametrize("deed", [empty, remove])
def test_messages_without_definitions_are_not_thrown_away(
    sound: Path, tmp_path: Path, deed: Callable[[Path, Random], None]
) -> None:
    """Nobody knows any more whose they are, but they were confirmed."""
    home = tmp_path / "home"
    shutil.copytree(sound, home)
    place = next(home.rglob("definitions.sqlite"))
    deed(place, Random(0))
    before = sorted(str(path) for path in place.parent.rglob("*.messages"))

    with pytest.raises(StartRefused) as refused:
        World(home)

    assert refused.value.exit_code is ExitCode.STORE_DAMAGED
    assert sorted(str(path) for path in place.parent.rglob("*.messages")) == before
