"""The first of many things are the first of all, however few are wanted and in whatever order they come."""

import random

import pytest

from shards.inventory.ordering import Entry, ordering


def entries(count: int, order: str) -> list[Entry]:
    numbers = list(range(count))
    if order == "falling":
        numbers.reverse()
    if order == "mixed":
        random.Random(count).shuffle(numbers)
    return [((1, number // 3), "/", (f"q{number:05}",)) for number in numbers]


@pytest.mark.parametrize("order", ["rising", "falling", "mixed"])
@pytest.mark.parametrize("is_descending", [False, True])
@pytest.mark.parametrize("count", [0, 1, 100, 256, 257, 5000])
@pytest.mark.parametrize("total", [0, 1, 700, 3000])
def test_they_are_what_sorting_everything_would_show(total: int, count: int, is_descending: bool, order: str) -> None:
    given = entries(total, order)
    found = ordering(count, is_descending=is_descending)
    for entry in given:
        found.add(entry)

    assert list(found.first()) == sorted(given, reverse=is_descending)[:count]
