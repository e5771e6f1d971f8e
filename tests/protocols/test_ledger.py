"""The ledger of unacknowledged deliveries agrees with a dictionary, whatever is settled in whatever order."""

from array import array

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from shards.protocols.amqp.ledger import Ledger


def flat(runs: list[tuple[int, "array[int]"]]) -> list[tuple[int, int]]:
    return sorted((source, position) for source, positions in runs for position in positions)


class LedgerMachine(RuleBasedStateMachine):
    """`model` maps each outstanding tag to who took the message and where it stands."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.model: dict[int, tuple[int, int]] = {}
        self.tag_next = 1

    @rule(source=st.integers(1, 3), count=st.sampled_from([1, 1, 2, 5, 700]))
    def deliver(self, source: int, count: int) -> None:
        positions = range(self.tag_next * 10, (self.tag_next + count) * 10, 10)
        self.ledger.extend(source, array("Q", positions), 0)
        self.model.update((position // 10, (source, position)) for position in positions)
        self.tag_next += count

    @rule(count=st.integers(1, 5))
    def deliver_without_acknowledgement(self, count: int) -> None:
        self.ledger.skip(count)
        self.tag_next += count

    @rule(data=st.data())
    def settle_one(self, data: st.DataObject) -> None:
        tag = data.draw(st.integers(0, self.tag_next + 1))
        taken = self.ledger.take(tag, multiple=False)
        expected = self.model.pop(tag, None)
        assert (taken is None) is (expected is None)
        if taken is not None:
            assert flat(taken) == [expected]

    @rule(data=st.data(), multiple=st.booleans())
    def look(self, data: st.DataObject, multiple: bool) -> None:
        tag = data.draw(st.integers(0, self.tag_next + 1))
        tags = self.ledger.tags(tag, multiple=multiple)
        if tag not in self.model and not (multiple and tag == 0):
            assert tags is None
            return
        assert list(tags or ()) == [
            each for each in self.model if each == tag or (multiple and (tag == 0 or each < tag))
        ]

    @rule(data=st.data())
    def settle_one_that_is_there(self, data: st.DataObject) -> None:
        if self.model:
            tag = data.draw(st.sampled_from(sorted(self.model)))
            taken = self.ledger.take(tag, multiple=False)
            assert taken is not None
            assert flat(taken) == [self.model.pop(tag)]

    @rule(data=st.data())
    def settle_up_to(self, data: st.DataObject) -> None:
        tag = data.draw(st.integers(1, self.tag_next + 1))
        taken = self.ledger.take(tag, multiple=True)
        if tag not in self.model:
            assert taken is None
            return
        expected = [self.model.pop(older) for older in sorted(self.model) if older <= tag]
        assert taken is not None
        assert flat(taken) == sorted(expected)

    @rule()
    def settle_all_by_tag_zero(self) -> None:
        taken = self.ledger.take(0, multiple=True)
        assert taken is not None
        assert flat(taken) == sorted(self.model.values())
        self.model.clear()

    @rule()
    def take_everything_back(self) -> None:
        assert flat(self.ledger.take_all()) == sorted(self.model.values())
        self.model.clear()

    @invariant()
    def it_counts_right(self) -> None:
        assert len(self.ledger) == len(self.model)
        assert self.ledger.tag_next == self.tag_next

    @invariant()
    def it_remembers_little_more_than_what_is_outstanding(self) -> None:
        entries = len(self.ledger._tags)
        assert entries == len(self.ledger._positions) == len(self.ledger._sources)
        assert entries <= 4 * len(self.model) + 4 * 1024


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_runs_of_a_source_are_in_order_of_delivery() -> None:
    ledger = Ledger()
    for position in range(100):
        ledger.extend(1 + position % 3, array("Q", (position,)), 0)

    for source, positions in ledger.take_all():
        assert list(positions) == list(range(source - 1, 100, 3))


def test_one_delivery_nobody_settles_does_not_make_the_ledger_remember_all_that_follow() -> None:
    ledger = Ledger()
    for position in range(50_000):
        ledger.extend(1, array("Q", (position,)), 0)
        if position:
            assert ledger.take(position + 1, multiple=False) is not None

    assert len(ledger) == 1
    assert len(ledger._tags) <= 4 * 1024
    assert ledger.take(1, multiple=False) == [(1, array("Q", (0,)))]


def test_settling_in_order_does_not_move_the_rest_each_time() -> None:
    ledger = Ledger()
    ledger.extend(1, array("Q", range(10_000)), 0)
    for tag in range(1, 5_000):
        ledger.take(tag, multiple=False)

    assert len(ledger) == 5_001
    assert ledger.take(10_000, multiple=True) == [(1, array("Q", range(4_999, 10_000)))]


def test_the_oldest_delivery_of_each_source_tells_since_when_it_waits() -> None:
    ledger = Ledger()
    for second in range(1, 11):
        ledger.extend(1 + second % 2, array("Q", (second,)), second * 1000)
    ledger.take(1, multiple=False)
    ledger.take(2, multiple=False)

    assert (ledger.waiting_since(2), ledger.waiting_since(1), ledger.waiting_since(3)) == (4000, 5000, 0)


def test_when_deliveries_were_made_is_forgotten_once_they_are_settled() -> None:
    ledger = Ledger()
    for second in range(10_000):
        ledger.extend(1, array("Q", (second,)), second * 1000)
        if second:
            ledger.take(second, multiple=False)

    assert ledger.waiting_since(1) == 9_999 * 1000 + 1000
    assert len(ledger._marked_at) <= 3


def test_deliveries_that_found_no_memory_are_not_remembered_in_part() -> None:
    testing = pytest.importorskip("_testcapi", reason="this Python cannot make allocations fail")
    positions = array("Q", range(5_000))
    for allocation in range(40):
        ledger = Ledger()
        ledger.extend(1, array("Q", (7, 8)), now=0)
        extended = True
        testing.set_nomemory(allocation, allocation + 1)
        try:
            ledger.extend(2, positions, now=5_000)
        except MemoryError:
            extended = False
        finally:
            testing.remove_mem_hooks()

        expected = [(1, array("Q", (7, 8)))]
        if extended:
            expected.append((2, positions))
        assert len(ledger) == sum(len(some) for _, some in expected)
        assert ledger.waiting_since(1) > 0
        assert ledger.take_all() == expected
