"""What is kept of everything cold that a pass meets: the coldest that its budget has room for, and never many."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.limits import COLD_OFFERS_MAX
from shards.compaction.coldest import Coldest
from shards.compaction.compactable import Cold, Step


def nothing() -> Iterator[Step]:
    yield from ()


def kept(offers: list[tuple[int, int]], bytes_max: int) -> list[tuple[int, int]]:
    """Of offers (used at, bytes), in the order in which they are to go."""
    coldest = Coldest(bytes_max)
    for used_at, size_bytes in offers:
        coldest.offer("", Cold(used_at, size_bytes, nothing))
    coldest.order()
    return [(cold.used_at, cold.size_bytes) for *_, cold in coldest.take()]


@given(
    offers=st.lists(st.tuples(st.integers(0, 20), st.integers(1, 50)), max_size=60),
    bytes_max=st.integers(0, 300),
)
def test_it_keeps_what_a_sorted_list_of_everything_would_give_the_budget_to(
    offers: list[tuple[int, int]], bytes_max: int
) -> None:
    fitting = sorted((offer for offer in offers if offer[1] <= bytes_max), key=lambda offer: offer[0])
    expected, used = [], 0
    for offer in fitting:
        if used >= bytes_max:
            break
        expected.append(offer)
        used += offer[1]

    assert kept(offers, bytes_max) == expected


def test_equally_cold_ones_go_as_they_were_offered() -> None:
    assert kept([(7, size) for size in (3, 1, 2)], 100) == [(7, 3), (7, 1), (7, 2)]


def test_what_is_larger_than_the_budget_takes_nobody_s_place() -> None:
    assert kept([(1, 101), (2, 60), (3, 40)], 100) == [(2, 60), (3, 40)]


@pytest.mark.parametrize("is_warming", [True, False])
def test_it_is_bounded_however_small_they_are(is_warming: bool) -> None:
    times = range(3 * COLD_OFFERS_MAX)

    found = kept([(time, 1) for time in (times if is_warming else reversed(times))], 1 << 40)

    assert found == [(time, 1) for time in range(COLD_OFFERS_MAX)]


def test_nothing_is_held_that_was_taken_and_forgotten() -> None:
    coldest = Coldest(100)
    for time in range(3):
        coldest.offer("", Cold(time, 10, nothing))
    for left, _offer in zip((2, 1, 0), coldest.take(), strict=True):
        coldest.forget()

        assert len(coldest) == left
