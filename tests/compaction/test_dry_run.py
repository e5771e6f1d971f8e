"""A dry run says what a pass would free, to the byte, and changes nothing."""

from array import array
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from ipc.messages.commands import Level
from shards.compaction.cascade import cascade
from shards.compaction.compactable import Cold, Compactable, Failed, Freed, Offload, ShrinkPolicy, Step
from tests.compaction.policies import POLICY, out_of_memory, policy_with_copy

DRY = structs.replace(POLICY, is_dry=True)
PEAK = 3000


class Owner(Compactable):
    """One of each declaration, and any children."""

    COLLECTIONS = ("held",)
    NESTED = ("index",)
    CACHES = ("remembered",)

    def __init__(self, held: Any, *below: Compactable) -> None:
        self.held = held
        self.index: dict[str, dict[str, Any]] = {"some": {"deep": drained(dict)}, "more": drained(dict)}
        self.remembered: dict[int, None] = dict.fromkeys(range(500))
        self.below = below

    def children(self) -> Iterable[Compactable]:
        return self.below


class Blocking(Compactable):
    """Has work for a thread, and says what it gave back after it."""

    def shrink(self, level: Level, policy: ShrinkPolicy) -> Iterator[Step]:
        yield Offload(lambda: pytest.fail("a dry run must not block"))
        yield Freed("pages", 100)


class Paged(Compactable):
    """Has pages to give back, with work for a thread before."""

    def shrink(self, level: Level, policy: ShrinkPolicy) -> Iterator[Step]:
        yield Cold(1, 100, lambda: Blocking().shrink(level, policy))


def drained(kind: type, left: int = 3, *, text: bool = False) -> Any:
    """A collection of this type that has held `PEAK` entries and kept the size of that day."""
    keys: list[Any] = [f"key-{number}" if text else number for number in range(PEAK)]
    if kind is deque:
        return deque(keys[:left])
    if kind is array:
        collection: Any = array("Q", keys)
        while len(collection) > left:
            collection.pop()
        return collection
    if kind is set:
        collection = set(keys)
        for key in keys[left:]:
            collection.discard(key)
        return collection
    collection = defaultdict(list) if kind is defaultdict else kind()
    collection.update(dict.fromkeys(keys))
    while len(collection) > left:
        collection.popitem()
    return collection


def freed(root: Compactable, level: Level, policy: ShrinkPolicy) -> Counter[str]:
    """Bytes by kind, of steps that are no blocking work."""
    by_kind: Counter[str] = Counter()
    for _label, step in cascade(root, level, policy):
        if isinstance(step, Freed):
            by_kind[step.kind] += step.size_bytes
    return +by_kind


@pytest.mark.parametrize("level", Level)
@pytest.mark.parametrize("kind", [dict, OrderedDict, defaultdict, set, array, deque])
@pytest.mark.parametrize("text", [False, True])
def test_a_pass_frees_what_a_dry_run_foretold(level: Level, kind: type, text: bool) -> None:
    root = Owner(drained(kind, text=text and kind is not array), Owner(drained(set, left=700)))

    foretold = freed(root, level, DRY)

    assert foretold
    assert freed(root, level, POLICY) == foretold


def test_a_dry_run_changes_nothing_however_often_it_is_asked() -> None:
    root = Owner(drained(dict))
    before = [id(root.held), id(root.index), id(root.index["some"]), id(root.remembered)]

    first, second = (freed(root, Level.CRITICAL, DRY) for _ in range(2))

    assert first == second
    assert before == [id(root.held), id(root.index), id(root.index["some"]), id(root.remembered)]
    assert len(root.remembered) == 500


@pytest.mark.parametrize("owner", [Blocking(), Paged()])
def test_a_dry_run_hands_no_blocking_work_up(owner: Compactable) -> None:
    steps = [step for _label, step in cascade(owner, Level.RELEASE, DRY)]

    assert Freed("pages", 100) in steps
    assert not any(isinstance(step, Offload) for step in steps)


def test_a_dry_run_without_memory_for_a_copy_says_so_and_goes_on() -> None:
    policy = structs.replace(policy_with_copy(dict, out_of_memory), is_dry=True)

    steps = [step for _label, step in cascade(Owner(drained(dict), Owner(drained(set))), Level.TRIM, policy)]

    assert any(isinstance(step, Failed) and step.kind == "dict" for step in steps)
    assert any(isinstance(step, Freed) and step.kind == "set" for step in steps)


SHAPES: dict[str, Callable[[int], Any]] = {
    "dict": lambda left: drained(dict, left),
    "text": lambda left: drained(dict, left, text=True),
    "set": lambda left: drained(set, left),
    "ordered": lambda left: drained(OrderedDict, left),
    "array": lambda left: drained(array, left),
}


@given(
    shapes=st.lists(st.tuples(st.sampled_from(sorted(SHAPES)), st.integers(0, PEAK)), max_size=6),
    ratio=st.floats(1.0, 4.0),
    level=st.sampled_from(Level),
)
@settings(max_examples=60, deadline=None)
def test_it_foretells_whatever_is_left_and_whatever_is_worth_it(
    shapes: list[tuple[str, int]], ratio: float, level: Level
) -> None:
    policy = structs.replace(POLICY, ratio=ratio, floor_bytes=0)
    root = Owner(None, *(Owner(SHAPES[name](left)) for name, left in shapes))

    foretold = freed(root, level, structs.replace(policy, is_dry=True))

    assert freed(root, level, policy) == foretold
