"""The supervisor's own collections: all of them are reached, and those that outgrew their content come back."""

import sys
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from ipc.messages.commands import IDLE, Compact, Level
from ipc.messages.fingerprint import fingerprint
from ipc.messages.reports import SUPERVISOR
from ipc.settings import CompactionSettings, ShrinkSettings
from runtime.auth.login import is_loopback
from runtime.own_pass import OwnPass, Remembering, bounded, remembering_functions
from runtime.owner import Owner, Rebuilding, rebuild
from runtime.router.offers import offer
from runtime.supervisor.supervisor import Supervisor
from tests.compaction.heap_walk import unreached
from tests.runtime.loaded_supervisor import kinds_of_owners, loaded_supervisor, owners_of

BOUNDED = (
    "Settings",  # what its file says
    "Copy",  # of the directory: made anew with every change
    "Connection < _lru_cache_wrapper",  # SQLite's statements, of which it keeps a fixed number
    "environ",
    "Restarts",  # deaths within a minute, as many as may be at most
    "Nursery",
    "Reactor",  # replaced with every turn
    "Inquiries < Counter",  # a number for each shard
    "Passes < Counter",  # by triggers, levels and kinds, which are the broker's own words
)


@pytest.fixture
def supervisor(tmp_path: Path) -> Supervisor:
    return loaded_supervisor(tmp_path)


def declared(owner: Owner) -> Iterable[Any]:
    return (getattr(owner, name) for name in (*owner.COLLECTIONS, *owner.CACHES))


def test_a_pass_reaches_every_growing_collection_of_a_loaded_supervisor(supervisor: Supervisor) -> None:
    found = unreached(
        supervisor,
        entries_min=2,
        is_expected=lambda path, _: any(part in path for part in BOUNDED),
        owners_of=owners_of,
        declared_by=declared,
    )

    assert not found


def test_every_kind_of_owner_is_reached(supervisor: Supervisor) -> None:
    assert {type(owner) for owner in owners_of(supervisor)} == set(kinds_of_owners())


# rebuilding -----------------------------------------------------------------------------------------------------------


class Held(Owner):
    COLLECTIONS = ("held",)

    def __init__(self, held: Any, *below: Owner) -> None:
        self.held = held
        self._below = below

    def owned(self) -> Iterable[Owner]:
        return self._below


def drained(kind: Callable[[Any], Any]) -> Any:
    collection = kind(dict.fromkeys(range(5000)))
    for number in range(10, 5000):
        collection.discard(number) if isinstance(collection, set) else collection.pop(number)
    return collection


@pytest.mark.parametrize("kind", [dict, OrderedDict, set])
def test_what_outgrew_its_content_is_rebuilt_in_one_assignment(kind: Callable[[Any], Any]) -> None:
    old = drained(kind)
    owner = Held(old)

    (step,) = rebuild(owner)

    assert owner.held is not old
    assert owner.held == old
    assert step.size_bytes == sys.getsizeof(old) - sys.getsizeof(owner.held) > 0


@pytest.mark.parametrize("held", [dict.fromkeys(range(3000)), deque(range(50), 100), set(range(3000))])
def test_what_is_as_large_as_its_content_stays_the_same_object(held: Any) -> None:
    owner = Held(held)

    (step,) = rebuild(owner)

    assert owner.held is held
    assert step.size_bytes == 0


class Unwilling:
    """A key that has no memory left for its hash once it is `short`."""

    def __init__(self) -> None:
        self.is_short = False

    def __hash__(self) -> int:
        if self.is_short:
            raise MemoryError
        return 1


def test_a_collection_without_memory_for_its_copy_stays_and_the_pass_goes_on() -> None:
    key = Unwilling()
    poor = OrderedDict({key: None})
    key.is_short = True
    root = Held(poor, Held(drained(dict)))

    steps = list(rebuild(root))

    assert root.held is poor
    assert [step.failed for step in steps] == [True, False]
    assert steps[1].size_bytes > 0


SETTINGS = CompactionSettings()


def own_pass(root: Owner, settings: CompactionSettings = SETTINGS) -> OwnPass:
    return OwnPass(root, lambda: settings, SUPERVISOR, remembering_functions)


async def test_the_supervisors_report_says_what_came_back() -> None:
    root = Held(drained(dict), Held(drained(set)))

    report = await own_pass(root).run(Compact(7, Level.TRIM, "test"))

    assert report.freed_bytes_by_kind["dict"] > 0
    assert report.freed_bytes_by_kind["set"] > 0
    assert (report.pass_number, report.failures, report.steps) == (7, 0, 2)


@pytest.mark.parametrize(
    ("kinds", "freed"),
    [
        ({}, {"dict", "set"}),
        ({"dict": ShrinkSettings(ratio=1e6)}, {"set"}),
        ({"set": ShrinkSettings(floor_bytes=1 << 30)}, {"dict"}),
    ],
)
def test_a_kind_can_have_rules_of_its_own(kinds: dict[Any, ShrinkSettings], freed: set[str]) -> None:
    root = Held(drained(dict), Held(drained(set)))

    steps = rebuild(root, Rebuilding(CompactionSettings(kinds=kinds)))

    assert {step.kind for step in steps if step.size_bytes} == freed


def test_a_kind_that_rests_is_passed_by() -> None:
    root = Held(drained(dict), Held(drained(set)))

    steps = rebuild(root, Rebuilding(resting={"dict"}))

    assert {step.kind for step in steps if step.size_bytes} == {"set"}


@pytest.mark.parametrize("level", Level)
def test_a_dry_run_foretells_a_pass_and_changes_nothing(supervisor: Supervisor, level: Level) -> None:
    how = Rebuilding(CompactionSettings(ratio=1.0, floor_bytes=0), level)
    held = [id(collection) for owner in owners_of(supervisor) for collection in declared(owner)]

    foretold = list(rebuild(supervisor, how._replace(is_dry=True)))

    assert [id(collection) for owner in owners_of(supervisor) for collection in declared(owner)] == held
    assert list(rebuild(supervisor, how)) == foretold


@pytest.mark.parametrize(
    ("compact", "releases"),
    [
        (Compact(1, Level.TRIM, "test"), False),
        (Compact(0, Level.TRIM, IDLE), True),
        (Compact(1, Level.RELEASE, "test"), True),
    ],
)
async def test_what_is_held_beside_collections_goes_with_the_allocators_pages(compact: Compact, releases: bool) -> None:
    class Holding(Held):
        has_released = False

        def release(self) -> None:
            self.has_released = True

    @lru_cache(maxsize=8)
    def answer(question: str) -> str:
        return question

    answer("what clients say")
    root = Holding({})

    await OwnPass(root, lambda: SETTINGS, SUPERVISOR, lambda: bounded([answer])).run(compact)

    assert root.has_released is releases
    assert answer.cache_info().currsize == (0 if releases else 1)


def test_what_negotiation_remembers_of_clients_may_be_forgotten_and_what_the_program_is_may_not() -> None:
    found = remembering_functions()

    assert {is_loopback, offer} <= set(found)
    assert {"ipc.wire.amqp.negotiation", "ipc.wire.amqp.properties"} <= {one.__module__ for one in found}
    assert fingerprint not in found


async def test_no_memory_in_any_part_of_a_pass_is_counted_and_the_pass_goes_on() -> None:
    class Poor(Held):
        def shed(self, how: Rebuilding) -> int:
            raise MemoryError

    def poor() -> list[Remembering]:
        raise MemoryError

    report = await OwnPass(Poor({}), lambda: SETTINGS, SUPERVISOR, poor).run(Compact(1, Level.CRITICAL, "test"))

    assert report.failures == 2
