"""Delays between the lives of a child, and the end of patience."""

from runtime.decisions.restarts import STEADY_SECONDS, WINDOW_SECONDS, Restarts


def make(*, per_minute_max: int = 30) -> Restarts:
    return Restarts(seconds_min=0.1, seconds_max=2.0, per_minute_max=per_minute_max)


def test_each_early_death_doubles_the_delay_up_to_the_longest() -> None:
    restarts = make()

    delays = [restarts.delay(born=now, died=now) for now in range(7)]

    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]


def test_a_steady_life_makes_the_next_delay_the_shortest_again() -> None:
    restarts = make()
    for now in range(5):
        restarts.delay(born=now, died=now)

    assert restarts.delay(born=100, died=100 + STEADY_SECONDS) == 0.1


def test_one_death_more_than_allowed_within_a_minute_ends_the_restarts() -> None:
    restarts = make(per_minute_max=3)

    answers = [restarts.delay(born=now, died=now) for now in (0, 1, 2, WINDOW_SECONDS)]

    assert answers[:3] == [0.1, 0.2, 0.4]
    assert answers[3] is None


def test_deaths_older_than_a_minute_do_not_count() -> None:
    restarts = make(per_minute_max=3)

    answers = [restarts.delay(born=now, died=now) for now in (0, 1, 2, WINDOW_SECONDS + 0.1)]

    assert None not in answers


def test_the_default_settings_let_a_child_that_always_dies_at_once_reach_the_limit() -> None:
    """Otherwise the limit would be a setting without effect."""
    restarts = make()
    now = 0.0
    while (delay := restarts.delay(born=now, died=now)) is not None:
        now += delay
        assert now < 2 * WINDOW_SECONDS


def test_a_shortest_delay_of_zero_still_grows_nothing_and_counts() -> None:
    restarts = Restarts(seconds_min=0.0, seconds_max=0.0, per_minute_max=2)

    assert [restarts.delay(born=0, died=0) for _ in range(3)] == [0.0, 0.0, None]
