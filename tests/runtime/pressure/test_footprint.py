"""How short memory is, by numbers."""

import pytest

from ipc.messages.commands import Level
from runtime.pressure.footprint import broker_bytes, shortage


@pytest.mark.parametrize(
    ("available", "level"),
    [(1000, None), (101, None), (100, Level.TRIM), (50, Level.RELEASE), (20, Level.CRITICAL), (0, Level.CRITICAL)],
)
def test_the_share_that_is_left_decides(available: int, level: Level | None) -> None:
    assert shortage(available, 1000) is level


def test_our_own_footprint_is_at_least_an_interpreter() -> None:
    assert broker_bytes() > 5 * 1024 * 1024
