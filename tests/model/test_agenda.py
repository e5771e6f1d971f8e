"""Appointments come up when they are due, once, and never early."""

from shards.model.agenda import BUCKET_MS, Agenda


class Item:
    def __init__(self) -> None:
        self.appointment = 0

    def look_again(self, now: int) -> None:
        raise AssertionError("the agenda itself looks at nothing")


def test_nothing_is_due_before_its_time() -> None:
    agenda: Agenda[Item] = Agenda()
    item = Item()
    agenda.set(item, 10_050)

    assert agenda.take_due(10_049) == []
    assert agenda.take_due(10_050 + BUCKET_MS) == [item]


def test_how_late_an_appointment_may_be_kept_is_for_its_owner_to_say() -> None:
    agenda: Agenda[Item] = Agenda(10)
    item = Item()
    agenda.set(item, 10_051)

    assert agenda.next_due == 10_060
    assert agenda.take_due(10_059) == []
    assert agenda.take_due(10_060) == [item]


def test_what_was_due_is_due_once() -> None:
    agenda: Agenda[Item] = Agenda()
    item = Item()
    agenda.set(item, 10_000)

    assert agenda.take_due(20_000) == [item]
    assert agenda.take_due(30_000) == []
    assert agenda.next_due == 0


def test_a_later_appointment_replaces_the_earlier_one() -> None:
    agenda: Agenda[Item] = Agenda()
    item = Item()
    agenda.set(item, 10_000)
    agenda.set(item, 20_000)

    assert agenda.take_due(15_000) == []
    assert agenda.take_due(20_000) == [item]


def test_an_appointment_that_was_cancelled_does_not_come_up() -> None:
    agenda: Agenda[Item] = Agenda()
    item = Item()
    agenda.set(item, 10_000)
    agenda.clear(item)

    assert agenda.next_due == 0
    assert agenda.take_due(99_000) == []


def test_the_next_one_is_the_earliest_whatever_the_order_they_were_made_in() -> None:
    agenda: Agenda[Item] = Agenda()
    items = [Item() for _ in range(5)]
    for item, due in zip(items, (50_000, 10_000, 30_000, 20_000, 40_000), strict=True):
        agenda.set(item, due)

    assert agenda.next_due == 10_000
    assert agenda.take_due(30_000) == [items[1], items[3], items[2]]
    assert agenda.next_due == 40_000
