"""A disk that is full to the last byte, under load: nothing confirmed is lost, service goes on when there is room."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from typing import Final

import pytest

from ipc.settings import AlarmSettings
from tests.clients.one_speed import at_one_speed
from tests.clients.small_disk import fill, loop_disk
from tests.clients.waiting import eventually
from tests.torture.deaths import all_shards
from tests.torture.life import VHOSTS, Life, Load

pytestmark = [pytest.mark.process, at_one_speed]

SEED: Final = 4
ROOM_MEGABYTES: Final = 96
ROOM_WITH_OTHERS_MEGABYTES: Final = 320
ROOM_UNTIL_ALARM_MEGABYTES: Final = 32
_LOAD_SECONDS: Final = 0.3
_REFUSED: Final = "storage refuses writes, publishers wait"


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with loop_disk(tmp_path_factory.mktemp("small") / "disk", megabytes=ROOM_MEGABYTES) as place:
        yield place


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory, disk: Path) -> Iterator[Life]:
    """No alarm comes before the disk itself refuses."""
    with life_on(disk, tmp_path_factory.mktemp("life"), SEED, **{"alarms.disk_free_bytes_min": 0}) as life:
        yield life


@contextmanager
def life_on(disk: Path, home: Path, seed: int, **settings: object) -> Iterator[Life]:
    """Its log lies elsewhere, so that it can still say what is wrong."""
    life = Life(home, seed, settings={"store.retry_seconds": 0.1, "store.durability": "fsync", **settings})
    life.broker.data = disk / "data"
    try:
        life.begin()
        yield life
        life.end()
    finally:
        life.broker.end_by_force()


def test_a_full_disk_loses_nothing_and_service_goes_on_when_there_is_room(life: Life, disk: Path) -> None:
    random, start = Random(SEED), len(life.broker.log)
    with ExitStack() as lines:
        loads = [Load(life, vhost, lines, random) for vhost in VHOSTS]
        play(loads, random)

        filler = fill(disk)
        play(loads, random, until=lambda: _REFUSED in life.broker.log[start:])
        play(loads, random)
        filler.unlink()
        play(loads, random, until=lambda: "storage takes writes again" in life.broker.log[start:])
        confirmed = life.tally("confirmed")
        play(loads, random, until=lambda: life.tally("confirmed") > confirmed)

        assert not any(load.has_lost_anybody for load in loads)
        for load in loads:
            load.part()
    life.audit_all(random)


def test_shards_that_die_on_a_full_disk_have_everything_when_there_is_room(life: Life, disk: Path) -> None:
    random, start = Random(SEED + 1), len(life.broker.log)
    with ExitStack() as lines:
        loads = [Load(life, vhost, lines, random) for vhost in VHOSTS]
        play(loads, random)
        for vhost in VHOSTS:
            life.ledger(vhost).may_forget = True
        filler = fill(disk)
        play(loads, random)

        all_shards(life.broker, random)

        play(loads, random, until=lambda: all(load.is_cut_off for load in loads))
        for load in loads:
            load.part()
    eventually(lambda: life.broker.log.count("ending=SIGKILL", start) >= len(VHOSTS), "the end of both shards")
    filler.unlink()
    life.audit_all(random)


def test_the_alarm_comes_before_a_full_disk_and_what_others_fill_then_loses_nothing(tmp_path: Path) -> None:
    """With the alarm's own settings: load brings it about, and somebody else takes the room it had left."""
    random = Random(SEED)
    with ExitStack() as lines:
        disk = lines.enter_context(loop_disk(tmp_path / "disk", megabytes=ROOM_WITH_OTHERS_MEGABYTES))
        life = lines.enter_context(life_on(disk, tmp_path, SEED))
        loads = [Load(life, vhost, lines, random, hangs_up=False) for vhost in VHOSTS]
        play(loads, random)  # until what is preallocated is there
        ballast = occupy(disk, leaving_bytes=AlarmSettings().disk_free_bytes_min + (ROOM_UNTIL_ALARM_MEGABYTES << 20))
        assert not is_alarmed(life)

        play(loads, random, until=lambda: is_alarmed(life))
        play(loads, random, until=lambda: all(load.blocked == {True} for load in loads))
        assert _REFUSED not in life.broker.log

        filler = fill(disk)
        play(loads, random)
        play(loads, random, until=lambda: is_alarmed(life))
        confirmed = life.tally("confirmed")

        filler.unlink()
        ballast.unlink()
        play(loads, random, until=lambda: not is_alarmed(life))
        play(loads, random, until=lambda: all(load.blocked == {False} for load in loads))
        play(loads, random, until=lambda: life.tally("confirmed") > confirmed)

        assert not any(load.has_lost_anybody for load in loads)
        for load in loads:
            load.part()
        life.audit_all(random)


def is_alarmed(life: Life) -> bool:
    log = life.broker.log
    return log.rfind("alarm raised, publishers wait") > log.rfind("alarm cleared")


def occupy(disk: Path, *, leaving_bytes: int) -> Path:
    """Somebody else's file, beside which so much is free."""
    room = os.statvfs(disk)
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize - leaving_bytes)
    return ballast


def play(loads: list[Load], random: Random, *, until: Callable[[], bool] | None = None) -> None:
    """For a while, or until something is so."""
    began = time.monotonic()
    while not until() if until is not None else time.monotonic() < began + _LOAD_SECONDS:
        assert time.monotonic() < began + 30
        for _ in range(20):
            for load in loads:
                load.play(random)
