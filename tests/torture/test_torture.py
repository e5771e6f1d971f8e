"""A few rounds of what `make torture` does for hours."""

from pathlib import Path

import pytest

from tests.clients.one_speed import at_one_speed
from tests.torture.life import Life

pytestmark = [pytest.mark.process, at_one_speed]

ROUNDS = 5
SEED = 21


def test_nothing_confirmed_is_lost_however_the_broker_dies(tmp_path: Path) -> None:
    life = Life(tmp_path, SEED)
    try:
        life.begin()
        for number in range(ROUNDS):
            print(life.round(number))
        life.end()
    finally:
        life.broker.end_by_force()
