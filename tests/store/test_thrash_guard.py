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
    guard.is_released = False
    later = now + 1000
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
    guard.is_released = False

    assert guard.may_release(3 * MINUTE)


def test_who_has_not_thrashed_for_long_begins_anew() -> None:
    guard = ThrashGuard()
    kept = thrash(guard, MINUTE)
    calm = MINUTE + kept + 100 * MINUTE
    released(guard, calm)
    guard.is_released = False
    released(guard, calm + 2 * MINUTE)
    guard.is_released = False

    assert not guard.may_release(calm + 2 * MINUTE + 1000)
    assert guard.may_release(calm + 3 * MINUTE + 1000)
