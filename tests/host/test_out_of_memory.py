"""Memory runs out at any step of a pass over a loaded shard: every collection stays whole and the pass goes on."""

import gc
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from ipc.messages.commands import Level
from ipc.settings import CompactionSettings
from shards.compaction.cascade import cascade
from shards.compaction.compactable import Failed, Freed, Offload, ShrinkPolicy, Step
from shards.compaction.shrink import RULES, Rule
from tests.compaction.heap_walk import declared, owners
from tests.host.test_heap_walk import LoadedShard, loaded_world

CLOSE = CompactionSettings(ratio=1.0, floor_bytes=0)
"""Settings that find a copy worth it wherever it is smaller at all."""


@pytest.fixture
def loaded(tmp_path: Path) -> Iterator[LoadedShard]:
    with loaded_world(tmp_path) as world:
        yield world


def outgrown(world: LoadedShard) -> None:
    """Every dictionary and set has held much more than it does."""
    for owner in owners(world.shard):
        for collection in declared(owner):
            if type(collection) is dict:
                fill: list[Any] = [object() for _ in range(300)]
                collection.update(dict.fromkeys(fill))
                for key in fill:
                    del collection[key]


def failing_at(step: int) -> tuple[ShrinkPolicy, Callable[[], int]]:
    """A policy whose `step`-th copy runs out of memory; and how many copies were asked for."""
    counter = count(1)
    asked = 0

    def rationed(rule: Rule) -> Rule:
        def copy(old: Any) -> Any:
            nonlocal asked
            asked = next(counter)
            if asked == step:
                raise MemoryError
            return rule.copy(old)

        return structs.replace(rule, copy=copy)

    policy = structs.replace(
        ShrinkPolicy.at(CLOSE, now=1), rules={kind: rationed(rule) for kind, rule in RULES.items()}
    )
    return policy, lambda: asked


def content_of(world: LoadedShard) -> list[Any]:
    """What all collections hold, in the cascade's order; caches left out, which a pass may empty."""
    caches = {id(getattr(owner, name)) for owner in owners(world.shard) for name in owner._declared_caches}
    return [
        sorted(map(id, collection)) if isinstance(collection, set) else list(collection)
        for owner in owners(world.shard)
        for collection in declared(owner)
        if collection is not None and id(collection) not in caches
    ]


def run(world: LoadedShard, policy: ShrinkPolicy, level: Level) -> list[Failed]:
    failures = []
    for _label, step in cascade(world.shard, level, policy):
        if isinstance(step, Failed):
            failures.append(step)
        elif isinstance(step, Offload):
            step.work()
    return failures


def test_a_copy_that_fails_at_any_step_costs_that_copy_alone(loaded: LoadedShard) -> None:
    """For every N: the N-th copy finds no memory, is counted, nothing is lost, and all the others are made."""
    run(loaded, failing_at(0)[0], Level.TRIM)
    expected = content_of(loaded)
    for step in count(1):
        outgrown(loaded)
        policy, asked = failing_at(step)

        failures = run(loaded, policy, Level.TRIM)

        assert content_of(loaded) == expected, step
        if asked() < step:
            break  # there are no more copies in a pass
        assert [failure.reason for failure in failures] == ["MemoryError"], step
    assert step > 50, "too little was copied to prove anything"


def test_after_every_copy_has_failed_once_the_broker_serves_as_before(loaded: LoadedShard) -> None:
    outgrown(loaded)
    nothing = {kind: structs.replace(rule, copy=_no_memory) for kind, rule in RULES.items()}

    failures = run(loaded, structs.replace(ShrinkPolicy.at(CLOSE, now=1), rules=nothing), Level.CRITICAL)

    assert len(failures) > 50
    client = loaded.clients[0]
    client.replies()
    client.publish("x.topic", "a.0.b", b"after the pass")
    assert client.bodies() == [b"after the pass"]


def _no_memory(_old: object) -> object:
    raise MemoryError


STRIDE = 23
"""Of the allocations of a pass, every so many-th fails in its turn: some six thousand would take two minutes."""


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="asks the interpreter's own allocator")
@pytest.mark.parametrize("level", Level)
def test_an_allocation_that_fails_anywhere_in_a_pass_costs_one_step_or_one_owner(
    loaded: LoadedShard, level: Level
) -> None:
    """Not only of copies: of the walk, of its steps, of what owners do by themselves, of what is said of it all."""
    run(loaded, failing_at(0)[0], level)
    expected = content_of(loaded)
    policy = ShrinkPolicy.at(CLOSE, now=loaded.now)
    wanted = left = injected = 0
    for allocation in count(level.value, STRIDE):  # not the same ones at every level
        outgrown(loaded)
        wanted += shrinkable(loaded, level)

        failures = failures_without(allocation, cascade(loaded.shard, level, policy))

        assert content_of(loaded) == expected, allocation
        left += shrinkable(loaded, level)
        if not failures:
            break  # a pass has fewer allocations
        assert len(failures) == 1, allocation
        injected += 1
    assert injected > 100, "too little was allocated to prove anything"
    assert left < wanted / 20, "passes did not go on"


def shrinkable(world: LoadedShard, level: Level) -> int:
    """How many collections a pass would find worth it."""
    policy = structs.replace(ShrinkPolicy.at(CLOSE, now=world.now), is_dry=True)
    return sum(isinstance(step, Freed) and step.size_bytes > 0 for _, step in cascade(world.shard, level, policy))


def failures_without(allocation: int, steps: Iterator[tuple[str, Step]]) -> list[Failed]:
    """Of a pass in which this allocation fails, counted from the pass's first; allocates nothing itself until then."""
    testcapi = pytest.importorskip("_testcapi")
    failures = []
    gc.disable()  # what it allocates by itself fails without a word
    testcapi.set_nomemory(allocation, allocation + 1)
    try:
        for _label, step in steps:
            if isinstance(step, Failed):
                failures.append(step)
            elif isinstance(step, Offload):
                try:
                    step.work()
                except (MemoryError, OSError) as fault:
                    failures.append(Failed("offload", str(fault)))
    finally:
        testcapi.remove_mem_hooks()
        gc.enable()
    return failures
