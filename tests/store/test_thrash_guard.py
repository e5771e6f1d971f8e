"""Pages that come back as soon as they were given back are kept for a while, and longer each time."""

from ipc.limits import THRASH_DOUBLINGS_MAX, THRASH_SECONDS
from shards.store.thrash_guard import ThrashGuard

MINUTE = round(THRASH_SECONDS * 1000)


def released(guard: ThrashGuard, now: int) -> None:
    assert guard.may_release(now)
    guard.released(now)


def thrash(guard: ThrashGuard, now: int) -> int:
    """Give back and fault back at once; how long it is kept then, in milliseconds."""
    released(guard, now)
    later = now + 1000
    guard.came_back(later)
    while not guard.may_release(later):
        later += 1000
    return later - now - 1000


def test_what_is_released_is_not_released_again() -> None:
    guard = ThrashGuard()
    released(guard, MINUTE)

    assert not guard.may_release(100 * MINUTE)


def test_what_came_back_within_a_minute_is_kept_for_twice_as_long_each_time() -> None:
    guard = ThrashGuard()
    now = MINUTE
    kept = []
    for _ in range(3):
        kept.append(thrash(guard, now))
        now += kept[-1] + 1000

    assert kept == [MINUTE, 2 * MINUTE, 4 * MINUTE]


def test_there_is_a_longest_time() -> None:
    guard = ThrashGuard()
    now = MINUTE
    for _ in range(THRASH_DOUBLINGS_MAX + 3):
        kept = thrash(guard, now)
        now += kept + 1000

    assert kept == MINUTE << THRASH_DOUBLINGS_MAX


def test_what_came_back_later_is_released_at_once() -> None:
    guard = ThrashGuard()
    released(guard, MINUTE)
    guard.came_back(3 * MINUTE)

    assert guard.may_release(3 * MINUTE)


def test_that_it_came_back_soon_is_known_however_much_later_somebody_asks() -> None:
    guard = ThrashGuard()
    kept = thrash(guard, MINUTE)
    again = MINUTE + kept + 1000
    released(guard, again)
    guard.came_back(again + 1000)

    assert not guard.may_release(again + 2 * MINUTE)
    assert guard.may_release(again + 1000 + 2 * MINUTE)


def test_asking_changes_nothing() -> None:
    asked, unasked = ThrashGuard(), ThrashGuard()
    for guard in (asked, unasked):
        released(guard, MINUTE)
        guard.came_back(MINUTE + 1000)
    for now in range(MINUTE, 4 * MINUTE, 1000):
        asked.may_release(now)

    for guard in (asked, unasked):
        released(guard, 4 * MINUTE)
        guard.came_back(4 * MINUTE + 1000)

    times = range(4 * MINUTE, 8 * MINUTE, 1000)
    assert [asked.may_release(now) for now in times] == [unasked.may_release(now) for now in times]


def test_who_has_not_thrashed_for_long_begins_anew() -> None:
    guard = ThrashGuard()
    kept = thrash(guard, MINUTE)
    calm = MINUTE + kept + 100 * MINUTE
    released(guard, calm)
    guard.came_back(calm + 2 * MINUTE)
    released(guard, calm + 2 * MINUTE)
    guard.came_back(calm + 2 * MINUTE)

    assert not guard.may_release(calm + 2 * MINUTE + 1000)
    assert guard.may_release(calm + 3 * MINUTE + 1000)
