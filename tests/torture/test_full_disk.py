"""A disk that is full to the last byte, under load: nothing confirmed is lost, service goes on when there is room."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Final

import pytest

from tests.clients.one_speed import at_one_speed
from tests.clients.small_disk import fill, loop_disk
from tests.clients.waiting import eventually
from tests.torture.deaths import all_shards
from tests.torture.life import VHOSTS, Life, Load

pytestmark = [pytest.mark.process, at_one_speed]

SEED: Final = 4
ROOM_MEGABYTES: Final = 96
_LOAD_SECONDS: Final = 0.3


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with loop_disk(tmp_path_factory.mktemp("small") / "disk", megabytes=ROOM_MEGABYTES) as place:
        yield place


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory, disk: Path) -> Iterator[Life]:
    """Its log lies elsewhere, so that it can still say what is wrong. No alarm comes before the disk itself refuses."""
    settings = {"store.retry_seconds": 0.1, "store.durability": "fsync", "alarms.disk_free_bytes_min": 0}
    life = Life(tmp_path_factory.mktemp("life"), SEED, settings=settings)
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
        play(loads, random, until=lambda: "storage refuses writes, publishers wait" in life.broker.log[start:])
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


def play(loads: list[Load], random: Random, *, until: Callable[[], bool] | None = None) -> None:
    """For a while, or until something is so."""
    began = time.monotonic()
    while not until() if until is not None else time.monotonic() < began + _LOAD_SECONDS:
        assert time.monotonic() < began + 30
        for _ in range(20):
            for load in loads:
                load.play(random)
