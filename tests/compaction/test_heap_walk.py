"""The walk that proves the cascade complete finds what was forgotten, and nothing else."""

from collections import deque
from collections.abc import Iterable
from typing import Any

import pytest

from shards.compaction.compactable import Compactable
from tests.compaction.heap_walk import unreached


class Owner(Compactable):
    """Everything it holds is declared, except what a test puts into `forgotten`."""

    __slots__ = ("_below", "flat", "forgotten", "nested")
    COLLECTIONS = ("_below", "flat")
    NESTED = ("nested",)

    def __init__(self, *below: "Owner", forgotten: Any = None) -> None:
        self._below = dict(enumerate(below))
        self.flat = deque(range(100))
        self.nested = {number: {name: set(range(20)) for name in range(10)} for number in range(10)}
        self.forgotten = forgotten

    def children(self) -> Iterable[Compactable]:
        return self._below.values()


class Plain:
    def __init__(self, held: Any) -> None:
        self.held = held


def test_a_complete_tree_has_nothing_unreached() -> None:
    assert unreached(Owner(*(Owner() for _ in range(20)))) == []


@pytest.mark.parametrize(
    "wrap",
    [
        lambda held: held,
        lambda held: (1, [held]),
        lambda held: Plain(Plain(held)),
        lambda held: lambda: held,
        lambda held: {"one": held},
    ],
)
@pytest.mark.parametrize("held", [set(range(50)), dict.fromkeys(range(50)), deque(range(50))])
def test_a_forgotten_collection_is_found_wherever_it_is(held: Any, wrap: Any) -> None:
    (found,) = unreached(Owner(Owner(forgotten=wrap(held)), Owner()))

    assert found.collection is held
    assert found.path.startswith("Owner < ")


def test_an_owner_that_its_parent_does_not_list_is_found() -> None:
    orphan = Owner()

    found = unreached(Owner(forgotten=Plain(orphan)))

    assert any(one.collection is orphan.flat for one in found)


def test_what_is_small_or_bounded_is_excused() -> None:
    root = Owner(forgotten=Plain(set(range(50))))

    assert unreached(root, entries_min=51) == unreached(root, is_expected=lambda path, _: "Plain" in path) == []
