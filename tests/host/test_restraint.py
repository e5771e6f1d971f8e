"""What publishers may bring in while consumers are behind."""

from shards.host.restraint import Restraint


def test_who_has_earned_nothing_waits() -> None:
    restraint = Restraint()
    restraint.earn(0, now=0.0)

    assert not restraint.may_take


def test_nine_messages_come_in_for_ten_that_go_out() -> None:
    restraint = Restraint()
    taken = handed_out = 0

    for _ in range(1000):
        restraint.earn(100, now=0.0)
        handed_out += 100
        while restraint.may_take:
            restraint.use(10, seconds=0.001)
            taken += 10

    assert 0.89 * handed_out <= taken <= 0.91 * handed_out


def test_a_tenth_of_the_time_is_theirs_even_if_nothing_goes_out() -> None:
    restraint = Restraint()
    taking = now = 0.0

    for _ in range(10_000):
        now += 0.0005
        restraint.earn(0, now)
        while restraint.may_take:
            restraint.use(50, seconds=0.0001)
            taking += 0.0001
            now += 0.0001

    assert 0.08 * now <= taking <= 0.12 * now


def test_time_and_messages_do_not_add_up() -> None:
    """Else a tenth of the time, which is a lot of messages, would come on top of what was earned."""
    restraint = Restraint()
    taken = handed_out = 0

    for turn in range(1000):
        restraint.earn(1000, now=turn * 0.001)
        handed_out += 1000
        while restraint.may_take:
            restraint.use(100, seconds=0.0001)
            taken += 100

    assert taken <= handed_out


def test_what_was_not_used_is_not_saved_for_long() -> None:
    restraint = Restraint()
    for turn in range(1000):
        restraint.earn(10_000, now=turn * 1.0)

    taken = 0
    while restraint.may_take:
        restraint.use(100, seconds=0.0001)
        taken += 100

    assert taken < 20_000


def test_debts_of_a_slow_time_are_soon_forgotten() -> None:
    restraint = Restraint()
    restraint.earn(1, now=0.0)
    restraint.use(10_000_000, seconds=60.0)

    restraint.earn(20_000, now=0.001)

    assert restraint.may_take
