"""A few rounds of what `make torture` does for hours."""

from pathlib import Path

import pytest

from tests.clients.one_speed import at_one_speed
from tests.torture.deaths import DEATHS
from tests.torture.life import Life, death_of

pytestmark = [pytest.mark.process, at_one_speed]

ROUNDS = 5
SEED = 341


def test_nothing_confirmed_is_lost_however_the_broker_dies(tmp_path: Path) -> None:
    life = Life(tmp_path, SEED)
    try:
        life.begin()
        for number in range(ROUNDS):
            print(life.round(number))
        life.end()
    finally:
        life.broker.end_by_force()


def test_these_rounds_kill_a_shard_the_supervisor_the_management_process_and_everything_at_once() -> None:
    dealt = {death_of(SEED, number) for number in range(ROUNDS)}
    assert dealt >= {"one shard", "supervisor", "management", "everything"}


def test_as_many_rounds_in_a_row_as_there_are_deaths_have_all_of_them() -> None:
    for seed in range(10):
        rounds = [death_of(seed, number) for number in range(2 * len(DEATHS))]
        for first in range(len(DEATHS)):
            assert set(rounds[first : first + len(DEATHS)]) == set(DEATHS)
