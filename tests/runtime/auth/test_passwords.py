"""Passwords: hashed slowly, remembered briefly, never beyond a bound."""

import pytest

from ipc.limits import LOGIN_REMEMBERED_SECONDS, LOGINS_REMEMBERED_MAX
from runtime.auth.passwords import DECOY_HASH, RecentLogins, hash_password, verify


def test_a_password_belongs_to_its_hash_only() -> None:
    password_hash = hash_password("geheim")

    assert verify(password_hash, "geheim")
    assert not verify(password_hash, "Geheim")
    assert "geheim" not in password_hash


def test_every_hash_has_its_own_salt() -> None:
    assert hash_password("same") != hash_password("same")


@pytest.mark.parametrize("unreadable", ["", "hash", "$argon2id$v=19$m=1", "$2b$12$abc"])
def test_an_unreadable_hash_fits_no_password(unreadable: str) -> None:
    assert not verify(unreadable, "anything")


def test_the_decoy_costs_what_a_real_check_costs_and_fits_nothing() -> None:
    assert DECOY_HASH.split("$")[1:4] == hash_password("x").split("$")[1:4]
    assert not verify(DECOY_HASH, "")


def test_a_login_is_remembered_for_a_while() -> None:
    recent = RecentLogins()
    recent.remember("hash", "password", now=100.0)

    assert recent.holds("hash", "password", now=100.0 + LOGIN_REMEMBERED_SECONDS - 1)
    assert not recent.holds("hash", "password", now=100.0 + LOGIN_REMEMBERED_SECONDS)
    assert len(recent) == 0


def test_a_changed_password_or_another_one_is_not_remembered() -> None:
    recent = RecentLogins()
    recent.remember("hash", "password", now=0.0)

    assert not recent.holds("new hash", "password", now=1.0)
    assert not recent.holds("hash", "passwort", now=1.0)


def test_the_oldest_logins_are_forgotten_first() -> None:
    recent = RecentLogins()
    for number in range(LOGINS_REMEMBERED_MAX + 1):
        recent.remember("hash", str(number), now=0.0)

    assert len(recent) == LOGINS_REMEMBERED_MAX
    assert not recent.holds("hash", "0", now=1.0)
    assert recent.holds("hash", "1", now=1.0)
