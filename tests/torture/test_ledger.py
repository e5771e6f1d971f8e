"""The ledger finds out: each way of breaking a promise is named, and what was never promised is no fault."""

import pytest

from tests.torture.ledger import Ledger, Mark, body_of, mark_of
from tests.torture.queues import BOUNDED, DYING, GRAVES

FIRST, SECOND = Mark(7, 0, 0), Mark(7, 1, 0)


def body(mark: Mark) -> bytes:
    return body_of(mark, 50)


@pytest.fixture
def ledger() -> Ledger:
    """Two confirmed messages in `plain`."""
    ledger = Ledger()
    for mark in (FIRST, SECOND):
        ledger.published(["plain"], mark)
        ledger.confirmed(["plain"], mark)
    return ledger


def faults(ledger: Ledger, *plain: Mark, graves: tuple[Mark, ...] = (), dying: tuple[Mark, ...] = ()) -> list[str]:
    ledger.audit({"plain": [*map(body, plain)], DYING: [*map(body, dying)], GRAVES: [*map(body, graves)]})
    return ledger.faults


def test_all_that_was_confirmed_and_in_order_is_no_fault(ledger: Ledger) -> None:
    assert faults(ledger, FIRST, SECOND) == []


def test_a_lost_message_is_named(ledger: Ledger) -> None:
    assert "is lost" in faults(ledger, FIRST)[0]


def test_a_doubled_message_is_named(ledger: Ledger) -> None:
    assert any("2 times" in fault for fault in faults(ledger, FIRST, FIRST, SECOND))


def test_another_order_is_named(ledger: Ledger) -> None:
    assert "stands behind" in faults(ledger, SECOND, FIRST)[0]


def test_a_message_from_nowhere_is_named(ledger: Ledger) -> None:
    assert "should not be" in faults(ledger, FIRST, SECOND, Mark(8, 0, 0))[0]


def test_what_was_never_confirmed_may_be_there_or_not_but_not_change_its_mind(ledger: Ledger) -> None:
    unheard = Mark(7, 2, 0)
    ledger.published(["plain"], unheard)
    assert faults(ledger, FIRST, SECOND) == []
    assert "should not be" in faults(ledger, FIRST, SECOND, unheard)[0]


def test_to_be_delivered_is_no_promise(ledger: Ledger) -> None:
    unheard = Mark(7, 2, 0)
    ledger.published(["plain"], unheard)
    ledger.delivered("plain", body(unheard), "somebody")
    assert faults(ledger, FIRST, SECOND) == []


def test_what_an_audit_has_found_must_be_there_again(ledger: Ledger) -> None:
    unheard = Mark(7, 2, 0)
    ledger.published(["plain"], unheard)
    assert faults(ledger, FIRST, SECOND, unheard) == []
    assert "is lost" in faults(ledger, FIRST, SECOND)[0]


def test_an_acknowledgement_that_was_answered_holds(ledger: Ledger) -> None:
    ledger.delivered("plain", body(FIRST), "somebody")
    ledger.leaving("plain", FIRST)
    ledger.settled("plain", FIRST)
    assert "should not be" in faults(ledger, FIRST, SECOND)[0]


@pytest.mark.parametrize("found", [(FIRST, SECOND), (SECOND,)])
def test_one_that_was_not_answered_may_be_lost(ledger: Ledger, found: tuple[Mark, ...]) -> None:
    ledger.delivered("plain", body(FIRST), "somebody")
    ledger.leaving("plain", FIRST)
    assert faults(ledger, *found) == []


def test_a_message_in_two_hands_is_named(ledger: Ledger) -> None:
    ledger.delivered("plain", body(FIRST), "somebody")
    ledger.delivered("plain", body(FIRST), "somebody else")
    assert "somebody has it" in ledger.faults[0]


def test_a_message_may_be_given_again_when_its_holder_has_gone(ledger: Ledger) -> None:
    ledger.delivered("plain", body(FIRST), "somebody")
    ledger.let_go("somebody")
    ledger.delivered("plain", body(FIRST), "somebody else")
    assert ledger.faults == []


def test_what_a_full_queue_refused_must_not_be_there(ledger: Ledger) -> None:
    ledger.published([BOUNDED], FIRST)
    ledger.refused([BOUNDED], FIRST)
    ledger.audit({BOUNDED: [body(FIRST)], GRAVES: []})
    assert "should not be" in ledger.faults[0]


@pytest.mark.parametrize(
    ("dying", "graves", "is_fine"),
    [
        ((), (FIRST,), True),
        ((FIRST,), (), True),  # the rejection was not heard
        ((FIRST,), (FIRST,), True),  # it died between the copy and the settlement
        ((), (), False),
        ((), (FIRST, FIRST), False),
    ],
)
def test_what_was_rejected_is_in_one_of_two_places(
    dying: tuple[Mark, ...], graves: tuple[Mark, ...], is_fine: bool
) -> None:
    ledger = Ledger()
    ledger.published([DYING], FIRST)
    ledger.confirmed([DYING], FIRST)
    ledger.delivered(DYING, body(FIRST), "somebody")
    ledger.rejected(DYING, FIRST)
    assert (faults(ledger, dying=dying, graves=graves) == []) is is_fine


@pytest.mark.parametrize("said", [True, False])
def test_an_answered_declaration_or_deletion_holds(ledger: Ledger, said: bool) -> None:
    ledger.queue_unsettled("built")
    ledger.queue_settled("built", exists=said)
    ledger.queue_found("built", exists=not said)
    assert len(ledger.faults) == 1


def test_a_body_with_a_changed_byte_is_nobodys() -> None:
    whole = body(FIRST)
    assert mark_of(whole) == FIRST
    for at in range(len(whole)):
        assert mark_of(whole[:at] + bytes((whole[at] ^ 1,)) + whole[at + 1 :]) != FIRST
    assert mark_of(whole[:-1]) is None
