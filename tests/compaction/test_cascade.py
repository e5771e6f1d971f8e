"""The walk reaches every owner, survives whatever happens between two steps, and counts for whom it freed."""

import sys
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from ipc.messages.commands import Level
from shards.compaction.cascade import cascade
from shards.compaction.compactable import (
    LOOKED,
    SEGMENT_PAGES,
    Cold,
    Compactable,
    Failed,
    Freed,
    Offload,
    ShrinkPolicy,
    Step,
)
from tests.compaction.policies import POLICY, out_of_memory_when_holding, policy_with_copy


def drained(left: int = 2) -> dict[int, None]:
    collection: dict[int, None] = dict.fromkeys(range(2000))
    while len(collection) > left:
        collection.popitem()
    return collection


class Owner(Compactable):
    """A slotted owner with one collection and any children."""

    __slots__ = ("__weakref__", "below", "held", "label")
    COLLECTIONS = ("held",)

    def __init__(self, *below: Compactable, label: str = "", held: Any = None) -> None:
        self.below: dict[int, Compactable] = dict(enumerate(below))
        self.label = label
        self.held: Any = drained() if held is None else held

    @property
    def compaction_label(self) -> str:
        return self.label

    def children(self) -> Iterable[Compactable]:
        return self.below.values()


class Nesting(Compactable):
    __slots__ = ("index",)
    NESTED = ("index",)

    def __init__(self, index: Any) -> None:
        self.index = index


class Paged(Owner):
    """Offers files of 100 bytes, used at the given times; says which went."""

    __slots__ = ("times", "went")

    def __init__(self, *times: int, label: str = "") -> None:
        super().__init__(label=label, held={})
        self.times = times
        self.went: list[int] = []

    def shrink(self, level: Level, policy: ShrinkPolicy) -> Iterator[Step]:
        yield from super().shrink(level, policy)
        for time in self.times:
            yield Cold(time, 100, partial(self._release, time))

    def _release(self, time: int) -> Iterator[Step]:
        self.went.append(time)
        yield Freed(SEGMENT_PAGES, 100)


def run(root: Compactable, policy: ShrinkPolicy = POLICY, level: Level = Level.TRIM) -> list[tuple[str, Step]]:
    return list(cascade(root, level, policy))


def freed(steps: list[tuple[str, Step]]) -> list[tuple[str, str]]:
    return [(label, step.kind) for label, step in steps if isinstance(step, Freed) and step.size_bytes > 0]


# reaching -------------------------------------------------------------------------------------------------------------


def test_every_owner_below_the_root_is_shrunk_and_yields_at_least_once() -> None:
    leaves = [Owner() for _ in range(5)]
    root = Owner(Owner(*leaves[:3]), Owner(*leaves[3:]))

    steps = run(root)

    assert len(freed(steps)) == 8
    assert all(sys.getsizeof(leaf.held) < 1000 for leaf in leaves)
    assert len(run(root)) == 8  # nothing is left to do, and still each of the eight has its turn


def test_parents_come_before_their_children_and_siblings_in_order() -> None:
    seen: list[str] = []

    class Named(Owner):
        def shrink(self, level: Level, policy: ShrinkPolicy) -> Iterator[Step]:
            seen.append(self.label)
            yield from super().shrink(level, policy)

    run(Named(Named(Named(label="c"), label="b"), Named(label="d"), label="a"))

    assert seen == ["a", "b", "c", "d"]


def test_bytes_count_for_the_topmost_label() -> None:
    root = Owner(Owner(Owner(label="a queue"), label="/"), Owner(Owner(), label="orders"), Owner())

    assert freed(run(root)) == [
        ("", "dict"),
        ("/", "dict"),
        ("/", "dict"),
        ("orders", "dict"),
        ("orders", "dict"),
        ("", "dict"),
    ]


def test_declarations_add_up_along_the_classes() -> None:
    class Base(Compactable):
        COLLECTIONS: ClassVar[tuple[str, ...]] = ("first",)
        NESTED = ("nested",)

        def __init__(self) -> None:
            self.first: Any = drained()
            self.second: Any = drained()
            self.nested: Any = {"a": drained()}

    class Derived(Base):
        COLLECTIONS = ("second", "first")

    assert len(freed(run(Derived()))) == 3


def test_a_deep_tree_of_owners_needs_no_recursion() -> None:
    root = Owner()
    for _ in range(2 * sys.getrecursionlimit()):
        root = Owner(root, held=())

    assert len(freed(run(root))) == 1


# between two steps ----------------------------------------------------------------------------------------------------


def test_children_that_come_and_go_in_the_middle_of_a_pass_do_no_harm() -> None:
    root = Owner(*(Owner(Owner()) for _ in range(10)))

    for number, _ in enumerate(cascade(root, Level.TRIM, POLICY)):
        root.below.pop(number, None)
        root.below[1000 + number] = Owner()

    assert len(root.below) > 10


def test_a_visited_owner_that_vanishes_is_let_go_by_the_pass() -> None:
    leaving = Owner()
    root = Owner(leaving, Owner(), Owner(), held=())
    gone = weakref.ref(leaving)
    steps = cascade(root, Level.TRIM, POLICY)
    while sys.getsizeof(leaving.held) > 1000:
        next(steps)

    del leaving, root.below[0]
    next(steps)  # the owner's last step
    next(steps)  # the first of its neighbour

    assert gone() is None
    assert len(freed(list(steps))) == 1


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_whatever_the_broker_does_between_two_steps_nothing_is_lost(data: st.DataObject) -> None:
    """The owner's own changes between steps, and those alone, decide what it holds in the end."""
    expected: dict[int, set[int]] = {number: set(range(5)) for number in range(200)}
    owner = Nesting({number: set(range(5)) for number in expected})
    for entries in owner.index.values():
        entries.update(range(1000))
        for entry in range(5, 1000):
            entries.discard(entry)

    for _ in cascade(owner, Level.RELEASE, POLICY):
        key = data.draw(st.integers(0, 250))
        match data.draw(st.sampled_from(["nothing", "remove", "put", "add", "replace"])):
            case "remove":
                owner.index.pop(key, None)
                expected.pop(key, None)
            case "put":
                owner.index[key] = {7}
                expected[key] = {7}
            case "add" if key in owner.index:
                owner.index[key].add(1000 + key)
                expected[key].add(1000 + key)
            case "replace":
                owner.index = dict(owner.index)
        assert owner.index == expected

    assert owner.index == expected


def test_a_pass_that_is_given_up_leaves_everything_usable() -> None:
    root = Owner(Owner(), Owner())
    steps = cascade(root, Level.TRIM, POLICY)
    next(steps)

    steps.close()

    assert len(freed(run(root))) == 2


# nested collections ---------------------------------------------------------------------------------------------------


def test_collections_in_a_dictionary_shrink_to_any_depth() -> None:
    deeper = set(range(3000))
    for number in range(1, 3000):
        deeper.discard(number)
    inner = {"deep": {"deeper": deeper, "none": None, "text": "x"}, "flat": drained()}
    owner = Nesting({"a": inner, "b": deque(), "c": object()})

    steps = run(owner)

    assert freed(steps) == [("", "dict"), ("", "set")]
    assert owner.index["a"]["deep"] == {"deeper": {0}, "none": None, "text": "x"}
    assert sys.getsizeof(owner.index["a"]["deep"]["deeper"]) < 1000
    assert sys.getsizeof(owner.index["a"]["flat"]) < 1000


def test_the_outer_dictionary_of_nested_ones_shrinks_too() -> None:
    index: dict[int, set[int]] = {number: {number} for number in range(3000)}
    while len(index) > 2:
        index.popitem()
    owner = Nesting(index)

    assert freed(run(owner)) == [("", "dict")]
    assert owner.index == {0: {0}, 1: {1}}


def test_a_large_dictionary_is_walked_in_many_steps() -> None:
    owner = Nesting({number: set() for number in range(10_000)})

    assert len(run(owner)) > 100


@pytest.mark.parametrize("index", [None, [], {}, set()])
def test_an_attribute_without_nested_collections_is_passed_by(index: object) -> None:
    assert freed(run(Nesting(index))) == []


# failing --------------------------------------------------------------------------------------------------------------


def test_a_collection_without_memory_for_its_copy_is_reported_and_the_pass_goes_on() -> None:
    marked = drained()
    marked[-1] = None
    poor = Owner(Owner(), held=marked)
    root = Owner(poor, Owner(), label="/")

    steps = run(root, policy_with_copy(dict, out_of_memory_when_holding(-1)))

    assert [step for _, step in steps if isinstance(step, Failed)] == [Failed("dict", "MemoryError")]
    assert poor.held is marked
    assert len(freed(steps)) == 3


def test_a_nested_collection_without_memory_for_its_copy_stays_and_its_neighbours_shrink() -> None:
    marked = drained()
    marked[-1] = None
    owner = Nesting({"a": drained(), "b": marked, "c": drained()})

    steps = run(owner, policy_with_copy(dict, out_of_memory_when_holding(-1)))

    assert len(freed(steps)) == 2
    assert owner.index["b"] is marked


@pytest.mark.parametrize("fault", [MemoryError(), OSError(28, "No space left on device")])
def test_an_owner_whose_own_step_fails_is_reported_and_the_pass_goes_on(fault: Exception) -> None:
    class Failing(Owner):
        def shrink(self, level: Level, policy: ShrinkPolicy) -> Iterator[Step]:
            yield from super().shrink(level, policy)
            raise fault

    steps = run(Owner(Failing(Owner()), Owner()))

    assert [step.kind for _, step in steps if isinstance(step, Failed)] == ["Failing"]
    assert len(freed(steps)) == 4


def test_an_owner_without_memory_to_list_its_children_is_reported_and_the_pass_goes_on() -> None:
    class Barren(Owner):
        def children(self) -> Iterable[Compactable]:
            raise MemoryError

    steps = run(Owner(Barren(Owner()), Owner()))

    assert [step.kind for _, step in steps if isinstance(step, Failed)] == ["Barren"]
    assert len(freed(steps)) == 3


def test_a_defect_is_not_mistaken_for_lack_of_memory() -> None:
    class Broken(Owner):
        def shrink(self, level: Level, policy: ShrinkPolicy) -> Iterator[Step]:
            raise KeyError("defect")

    with pytest.raises(KeyError):
        run(Broken())


# pages ----------------------------------------------------------------------------------------------------------------


def pages(steps: list[tuple[str, Step]]) -> list[tuple[str, int]]:
    return [(label, step.size_bytes) for label, step in steps if isinstance(step, Freed) and step.kind == SEGMENT_PAGES]


def test_the_coldest_pages_of_all_owners_share_one_budget() -> None:
    owners = [Paged(1, 4, 7), Paged(2, 5, 8), Paged(3, 6, 9)]

    steps = run(Owner(*owners), structs.replace(POLICY, release_bytes_max=450), Level.RELEASE)

    assert [owner.went for owner in owners] == [[1, 4], [2], [3]]
    assert sum(size for _label, size in pages(steps)) == 400


def test_pages_go_when_everybody_was_asked_and_count_for_whom_they_were_offered() -> None:
    root = Owner(Owner(Paged(2), label="orders"), Owner(Paged(1), label="logs"), Owner())

    steps = [(label, step) for label, step in run(root) if step != LOOKED]

    assert pages(steps[-2:]) == [("logs", 100), ("orders", 100)]
    assert pages(steps[:-2]) == []


def test_pages_of_no_use_to_the_budget_are_passed_by_for_colder_ones_that_fit() -> None:
    class Changed(Paged):
        def _release(self, time: int) -> Iterator[Step]:
            yield from ()

    owner, changed = Paged(2, 3), Changed(1)

    run(Owner(changed, owner), structs.replace(POLICY, release_bytes_max=150))

    assert owner.went == [2]


@pytest.mark.parametrize("fault", [MemoryError(), OSError(5, "Input/output error")])
def test_pages_that_cannot_be_given_back_fail_alone(fault: Exception) -> None:
    class Failing(Paged):
        def _release(self, time: int) -> Iterator[Step]:
            yield LOOKED
            raise fault

    owner = Paged(2)

    steps = run(Owner(Failing(1), owner))

    assert [step.kind for _, step in steps if isinstance(step, Failed)] == [SEGMENT_PAGES]
    assert owner.went == [2]


def test_work_for_a_thread_is_handed_up_before_the_owner_goes_on() -> None:
    done: list[str] = []

    class Syncing(Compactable):
        def shrink(self, level: Level, policy: ShrinkPolicy) -> Iterator[Step]:
            yield Offload(lambda: done.append("synced"))
            assert done == ["synced"]
            yield Freed(SEGMENT_PAGES, 1)

    for _, step in cascade(Syncing(), Level.RELEASE, POLICY):
        if isinstance(step, Offload):
            step.work()

    assert done == ["synced"]


class Remembering(Compactable):
    CACHES = ("answers",)

    def __init__(self) -> None:
        self.answers = {number: number for number in range(100)}


@pytest.mark.parametrize(("level", "left"), [(Level.TRIM, 100), (Level.RELEASE, 100), (Level.CRITICAL, 0)])
def test_caches_are_emptied_when_memory_is_critical_and_not_before(level: Level, left: int) -> None:
    owner = Remembering()

    steps = [step for _, step in cascade(owner, level, POLICY)]

    assert len(owner.answers) == left
    assert any(isinstance(step, Freed) and step.kind == "cache" for step in steps) is (left == 0)
