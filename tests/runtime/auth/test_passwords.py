"""Passwords: hashed slowly, remembered briefly, never beyond a bound."""

import pytest

from ipc.errors import StartRefused
from ipc.limits import (
    ARGON2_KIB_MAX,
    ARGON2_LANES_MAX,
    ARGON2_ROUNDS_MAX,
    LOGIN_REMEMBERED_SECONDS,
    LOGINS_REMEMBERED_MAX,
)
from ipc.settings import UserSettings
from runtime.auth.hashes import ARGON2ID, kept, shown
from runtime.auth.passwords import RecentLogins, decoy_hash, hash_password, verify
from runtime.cli.settings_sources import SettingsSources, from_set

DEFAULTS = UserSettings()


def test_a_password_belongs_to_its_hash_only() -> None:
    password_hash = hash_password("geheim", DEFAULTS)

    assert verify(password_hash, "geheim", DEFAULTS)
    assert not verify(password_hash, "Geheim", DEFAULTS)
    assert "geheim" not in password_hash


def test_every_hash_has_its_own_salt() -> None:
    assert hash_password("same", DEFAULTS) != hash_password("same", DEFAULTS)


@pytest.mark.parametrize("unreadable", ["", "hash", "$argon2id$v=19$m=1", "$2b$12$abc"])
def test_an_unreadable_hash_fits_no_password(unreadable: str) -> None:
    assert not verify(unreadable, "anything", DEFAULTS)


def test_the_decoy_costs_what_a_real_check_costs_and_fits_nothing() -> None:
    assert decoy_hash(DEFAULTS).split("$")[1:4] == hash_password("x", DEFAULTS).split("$")[1:4]
    assert not verify(decoy_hash(DEFAULTS), "", DEFAULTS)


def test_a_new_hash_costs_what_the_settings_say_and_older_ones_are_read_as_before() -> None:
    dear = UserSettings(argon2_memory_kib=8192, argon2_iterations=3, argon2_lanes=2)
    before, after = hash_password("geheim", DEFAULTS), hash_password("geheim", dear)

    assert "$m=19456,t=2,p=1$" in before
    assert "$m=8192,t=3,p=2$" in after
    assert decoy_hash(dear).split("$")[1:4] == after.split("$")[1:4]
    for settings in (DEFAULTS, dear):
        for made in (before, after):
            assert verify(made, "geheim", settings)
            assert not verify(made, "Geheim", settings)
    assert kept(shown(after)[0], ARGON2ID) == after


@pytest.mark.parametrize(
    ("key", "wrong", "expected"),
    [
        ("argon2_memory_kib", "7167", "a whole number from 7168 to 262144"),
        ("argon2_memory_kib", "262145", "a whole number from 7168 to 262144"),
        ("argon2_iterations", "0", "a whole number from 1 to 16"),
        ("argon2_iterations", "17", "a whole number from 1 to 16"),
        ("argon2_lanes", "0", "a whole number from 1 to 16"),
        ("argon2_lanes", "many", "a whole number from 1 to 16"),
    ],
)
def test_a_cost_out_of_bounds_is_refused_by_name(key: str, wrong: str, expected: str) -> None:
    with pytest.raises(StartRefused) as refusal:
        SettingsSources(None, {}, (from_set(f"users.{key}={wrong}"),)).read()

    assert f"users.{key}: expected {expected}, not" in str(refusal.value)


def test_the_dearest_settings_make_hashes_that_may_be_imported() -> None:
    """Checked by name and not by making one, which takes seconds."""
    hash_of_limits = decoy_hash(
        UserSettings(
            argon2_memory_kib=ARGON2_KIB_MAX, argon2_iterations=ARGON2_ROUNDS_MAX, argon2_lanes=ARGON2_LANES_MAX
        )
    )

    assert kept(shown(hash_of_limits)[0], ARGON2ID) == hash_of_limits


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
