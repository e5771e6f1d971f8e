"""Slices are told apart by what clients waited for and what was done meanwhile."""

import pytest

from ipc.slices import Slices


class Times:
    """Two clocks that go on when told."""

    def __init__(self) -> None:
        self.now = 0.0
        self.cpu = 0.0


def test_the_longest_of_each_counts_whichever_slice_it_was() -> None:
    times = Times()
    slices = Slices(lambda: times.now, lambda: times.cpu)

    for seconds, cpu_seconds in ((3.0, 1.0), (2.0, 2.0), (0.0, 0.0)):
        with slices:
            times.now += seconds
            times.cpu += cpu_seconds
        times.now += 10

    assert (slices.seconds_longest, slices.cpu_seconds_longest) == (3.0, 2.0)
    assert slices.cpu_seconds == 3.0


def test_a_slice_that_fails_was_one() -> None:
    times = Times()
    slices = Slices(lambda: times.now, lambda: times.cpu)

    def fail() -> None:
        with slices:
            times.now += 1
            raise MemoryError

    with pytest.raises(MemoryError):
        fail()

    assert slices.seconds_longest == 1.0
