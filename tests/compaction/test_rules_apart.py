"""Ratio, floor and interval can differ by kind of collection and by vhost."""

from collections.abc import Iterable
from typing import Any

import pytest
from msgspec import structs

from ipc.messages.commands import Level
from ipc.rests import Rests
from ipc.settings import CompactionSettings, ShrinkSettings
from shards.compaction.cascade import cascade
from shards.compaction.compactable import Compactable, Freed, ShrinkPolicy

NEVER = ShrinkSettings(ratio=1e9)


def grown(kind: type, left: int = 10) -> Any:
    collection = kind(dict.fromkeys(range(5000)))
    for number in range(left, 5000):
        collection.remove(number) if kind is set else collection.pop(number)
    return collection


class VHost(Compactable):
    COLLECTIONS = ("names", "numbers")

    def __init__(self, name: str) -> None:
        self.compaction_name = name
        self.names = grown(dict)
        self.numbers = grown(set)

    @property
    def compaction_label(self) -> str:
        return self.compaction_name


class Root(Compactable):
    def __init__(self, *below: Compactable) -> None:
        self._below = below

    def children(self) -> Iterable[Compactable]:
        return self._below


def freed(settings: CompactionSettings, resting: Iterable[str] = ()) -> set[tuple[str, str]]:
    """(vhost, kind) of everything that was rebuilt."""
    policy = ShrinkPolicy.at(settings, 0, resting=frozenset(resting))
    steps = cascade(Root(VHost("/"), VHost("orders")), Level.TRIM, policy)
    return {(label, step.kind) for label, step in steps if isinstance(step, Freed) and step.size_bytes}


EVERYTHING = {("/", "dict"), ("/", "set"), ("orders", "dict"), ("orders", "set")}


def test_without_rules_apart_the_same_holds_everywhere() -> None:
    assert freed(CompactionSettings()) == EVERYTHING


def test_a_kind_can_have_a_ratio_of_its_own() -> None:
    assert freed(CompactionSettings(kinds={"dict": NEVER})) == {("/", "set"), ("orders", "set")}


def test_a_kind_can_have_a_floor_of_its_own() -> None:
    settings = CompactionSettings(floor_bytes=1 << 30, kinds={"set": ShrinkSettings(floor_bytes=0)})

    assert freed(settings) == {("/", "set"), ("orders", "set")}


def test_a_vhost_can_have_rules_of_its_own() -> None:
    assert freed(CompactionSettings(vhosts={"orders": NEVER})) == {("/", "dict"), ("/", "set")}


def test_what_a_vhost_says_counts_more_than_what_a_kind_does() -> None:
    settings = CompactionSettings(kinds={"dict": NEVER}, vhosts={"orders": ShrinkSettings(ratio=2.0)})

    assert freed(settings) == EVERYTHING - {("/", "dict")}


@pytest.mark.parametrize(
    ("resting", "left_out"), [("dict", {("/", "dict"), ("orders", "dict")}), ("/", {("/", "dict"), ("/", "set")})]
)
def test_what_rests_is_passed_by(resting: str, left_out: set[tuple[str, str]]) -> None:
    settings = CompactionSettings(kinds={"dict": ShrinkSettings()}, vhosts={"/": ShrinkSettings()})

    assert freed(settings, [resting]) == EVERYTHING - left_out


def test_an_interval_of_its_own_lets_a_kind_or_vhost_rest_between_idle_passes() -> None:
    settings = CompactionSettings(
        kinds={"dict": ShrinkSettings(idle_trim_seconds=10.0)}, vhosts={"/": ShrinkSettings(idle_trim_seconds=25.0)}
    )
    rests = Rests()

    assert [rests.resting(settings, 1000 * seconds) for seconds in (0, 5, 10, 19, 20, 30)] == [
        frozenset(),
        {"dict", "/"},
        {"/"},
        {"dict", "/"},
        {"/"},
        frozenset(),
    ]


def test_an_interval_of_zero_keeps_idle_passes_away() -> None:
    settings = CompactionSettings(vhosts={"/": ShrinkSettings(idle_trim_seconds=0.0)})
    rests = Rests()

    assert all(rests.resting(settings, now) == {"/"} for now in range(0, 10**9, 10**8))
    assert rests.resting(structs.replace(settings, vhosts={}), 10**9) == frozenset()
