"""Who guesses passwords waits, and keeps nobody else waiting."""

import pytest

from ipc.limits import GUESSES_REMEMBERED_MAX, LOGINS_KNOWN_MAX
from ipc.messages.commands import Level
from ipc.settings import UserSettings
from runtime.auth.guesses import Guesses, source_of
from runtime.owner import Rebuilding

SETTINGS = UserSettings(
    login_failures_max=3, login_failures_max_by_address=6, login_failures_max_by_user=9, login_failures_seconds=30.0
)
HOME = "192.0.2.1"


@pytest.fixture
def guesses() -> Guesses:
    return Guesses()


def wrong(guesses: Guesses, user: str, address: str, *, times: int = 1, now: float = 0.0) -> None:
    for _ in range(times):
        guesses.wrong(user, address, SETTINGS, now)


def wait(guesses: Guesses, user: str, address: str, *, now: float = 0.0) -> float:
    return guesses.wait_seconds(user, address, SETTINGS, now)


def test_one_user_from_one_address_waits_for_the_rest_of_the_seconds(guesses: Guesses) -> None:
    wrong(guesses, "ida", HOME, times=2, now=100.0)
    assert wait(guesses, "ida", HOME, now=110.0) == 0
    wrong(guesses, "ida", HOME, now=110.0)

    assert wait(guesses, "ida", HOME, now=110.0) == 20.0
    assert wait(guesses, "otto", HOME, now=110.0) == 0
    assert wait(guesses, "ida", "192.0.2.2", now=110.0) == 0
    assert wait(guesses, "ida", HOME, now=130.0) == 0
    wrong(guesses, "ida", HOME, now=130.0)
    assert wait(guesses, "ida", HOME, now=130.0) == 0


def test_a_right_password_does_not_help_who_guesses_beside_it(guesses: Guesses) -> None:
    """A program that asks every second would otherwise open the way for whoever shares its address."""
    wrong(guesses, "ida", HOME, times=2)
    guesses.right("ida", HOME)
    wrong(guesses, "ida", HOME)

    assert wait(guesses, "ida", HOME) == 30.0


def test_behind_one_address_whoever_is_known_there_is_not_kept_out_by_others(guesses: Guesses) -> None:
    guesses.right("ida", HOME)
    for number in range(6):
        wrong(guesses, f"user {number}", HOME)

    assert wait(guesses, "ida", HOME) == 0
    assert wait(guesses, "otto", HOME) == 30.0
    wrong(guesses, "ida", HOME, times=3)
    assert wait(guesses, "ida", HOME) == 30.0


def test_one_user_cannot_be_guessed_from_many_addresses_nor_be_locked_out_at_home(guesses: Guesses) -> None:
    guesses.right("ida", HOME)
    for number in range(9):
        wrong(guesses, "ida", f"198.51.100.{number}")

    assert wait(guesses, "ida", "203.0.113.1") == 30.0
    assert wait(guesses, "ida", HOME) == 0
    assert wait(guesses, "otto", "203.0.113.1") == 0


def test_no_limit_is_none(guesses: Guesses) -> None:
    none = UserSettings(login_failures_max=0, login_failures_max_by_address=0, login_failures_max_by_user=0)
    for _ in range(1000):
        guesses.wrong("ida", HOME, none, 0.0)

    assert guesses.wait_seconds("ida", HOME, none, 0.0) == 0


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::"),
        ("2001:db8:1:3::1", "2001:db8:1:3::"),
        ("fe80::1%eth0", "fe80::"),
        ("", ""),
    ],
)
def test_a_network_of_ipv6_counts_as_one_address(address: str, source: str) -> None:
    assert source_of(address) == source


def test_what_is_over_is_forgotten_and_however_many_come_it_is_bounded(guesses: Guesses) -> None:
    for number in range(2 * GUESSES_REMEMBERED_MAX):
        wrong(guesses, f"user {number}", f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
        guesses.right(f"user {number}", HOME)
    sizes = [len(getattr(guesses, name)) for name in ("_by_both", "_by_source", "_by_user", "_known")]
    assert sizes == [GUESSES_REMEMBERED_MAX] * 3 + [LOGINS_KNOWN_MAX]

    wrong(guesses, "ida", HOME, now=31.0)

    assert [len(getattr(guesses, name)) for name in ("_by_both", "_by_source", "_by_user")] == [1, 1, 1]


def test_what_has_ended_is_forgotten_and_nobody_who_has_to_wait_or_is_known(guesses: Guesses) -> None:
    wrong(guesses, "otto", HOME, times=3, now=100.0)
    wrong(guesses, "ida", "192.0.2.2", times=3, now=110.0)
    guesses.right("ida", HOME)

    guesses.shed(Rebuilding(level=Level.CRITICAL, now=130.0))

    assert list(guesses._by_user) == ["ida"]
    assert list(guesses._by_source) == ["192.0.2.2"]
    assert wait(guesses, "ida", "192.0.2.2", now=130.0) == 10.0
    assert list(guesses._known) == [("ida", HOME)]
