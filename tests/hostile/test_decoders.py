"""Every decoder against arbitrary bytes and against sound ones that were damaged: refused or taken, nothing else."""

import time
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipc.errors import StartRefused
from tests.hostile.damage import damaged
from tests.hostile.targets import TARGETS, try_out

EXAMPLES = {"conversations": 10}  # each makes a vhost with its files
EXAMPLES_OF_OTHERS = 40
SECONDS_MAX = 2.0  # for inputs of a few kilobytes: far from what they take, near to what a quadratic loop would


@pytest.mark.parametrize("name", TARGETS)
def test_sound_input_is_taken(name: str) -> None:
    target = TARGETS[name]
    taken = 0
    for example in target.examples():
        try:
            target.try_out(example)
            taken += 1
        except target.refusals:
            pass  # one of another target's
    assert taken > 0


@pytest.mark.parametrize("name", TARGETS)
def test_arbitrary_bytes_are_refused_or_taken(name: str) -> None:
    @settings(max_examples=EXAMPLES.get(name, EXAMPLES_OF_OTHERS), deadline=None, database=None)
    @given(st.binary(max_size=200))
    def feed(data: bytes) -> None:
        try_out(TARGETS[name], data)

    feed()


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_input_is_refused_or_taken(name: str) -> None:
    target = TARGETS[name]

    @settings(max_examples=EXAMPLES.get(name, EXAMPLES_OF_OTHERS), deadline=None, database=None)
    @given(st.sampled_from(range(len(target.examples()))), st.integers(0, 2**32))
    def feed(which: int, seed: int) -> None:
        data = damaged(target.examples()[which], Random(seed))
        began = time.process_time()
        try_out(target, data)
        assert time.process_time() - began < SECONDS_MAX

    feed()


def test_a_refusal_that_is_none_of_the_target_is_a_finding() -> None:
    broken = TARGETS["frames"]._replace(try_out=lambda data: data[len(data)])
    with pytest.raises(IndexError):
        try_out(broken, b"")


def test_a_start_refused_for_other_reasons_is_a_finding() -> None:
    def refuse(_data: bytes) -> None:
        raise StartRefused(1, "for no reason")  # type: ignore[arg-type]

    with pytest.raises(AssertionError):
        try_out(TARGETS["segments"]._replace(try_out=refuse), b"")
