"""Hashes of other brokers: read, checked, written so that they can be read again, refused where nobody could."""

import base64

import bcrypt
import pytest

from ipc.settings import UserSettings
from runtime.auth.hashes import ARGON2ID, BCRYPT, NO_PASSWORD, SHA256, SHA512, HashRefusal, kept, salted, shown
from runtime.auth.passwords import hash_password, verify

# Made by RabbitMQ 3.10 for the password "test12".
DEFAULTS = UserSettings()
OF_RABBITMQ = "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"


def test_a_hash_that_rabbitmq_made_fits_its_password() -> None:
    found = kept(OF_RABBITMQ, SHA256)

    assert verify(found, "test12", DEFAULTS)
    assert not verify(found, "test13", DEFAULTS)
    assert shown(found) == (OF_RABBITMQ, SHA256)


@pytest.mark.parametrize("algorithm", [SHA256, SHA512])
def test_a_salted_hash_fits_its_password_only(algorithm: str) -> None:
    found = kept(salted("geheim", algorithm), algorithm)

    assert verify(found, "geheim", DEFAULTS)
    assert not verify(found, "Geheim", DEFAULTS)
    assert salted("geheim", algorithm) != salted("geheim", algorithm)


@pytest.mark.parametrize("password", ["geheim", "ü" * 40])
@pytest.mark.parametrize("algorithm", [BCRYPT, "lavinmq_bcrypt", "Bcrypt"])
def test_bcrypt_is_read_however_it_is_called(algorithm: str, password: str) -> None:
    plain = bcrypt.hashpw(password.encode()[:72], bcrypt.gensalt(4)).decode()

    for written in (plain, base64.b64encode(plain.encode()).decode()):
        found = kept(written, algorithm)
        assert verify(found, password, DEFAULTS)
        assert not verify(found, "g" + password, DEFAULTS)


@pytest.mark.parametrize(
    "made", [hash_password("geheim", DEFAULTS), bcrypt.hashpw(b"geheim", bcrypt.gensalt(4)).decode(), NO_PASSWORD]
)
def test_what_is_written_for_others_is_base64_and_can_be_read_again(made: str) -> None:
    written, algorithm = shown(made)

    base64.b64decode(written, validate=True)
    assert kept(written, algorithm) == made


def test_an_argon2_hash_is_told_from_others_by_its_algorithm() -> None:
    assert shown(hash_password("x", DEFAULTS))[1] == ARGON2ID


def test_no_password_fits_no_hash() -> None:
    assert kept("", SHA256) == NO_PASSWORD
    assert not verify(NO_PASSWORD, "", DEFAULTS)


@pytest.mark.parametrize(
    ("written", "algorithm", "complaint"),
    [
        ("zzz", SHA256, "password_hash is not base64"),
        (OF_RABBITMQ, SHA512, "password_hash is not as long as those of rabbit_password_hashing_sha512"),
        (OF_RABBITMQ, "rabbit_password_hashing_md5", "hashing_algorithm 'rabbit_password_hashing_md5' is not one of"),
        (OF_RABBITMQ, ARGON2ID, "password_hash is not a hash of argon2id"),
        (
            base64.b64encode(hash_password("x", DEFAULTS).replace("argon2id", "argon2i").encode()).decode(),
            ARGON2ID,
            "password_hash is not a hash of argon2id",
        ),
        (
            base64.b64encode(hash_password("x", DEFAULTS).replace("m=19456", "m=99999999").encode()).decode(),
            ARGON2ID,
            "password_hash asks for more than",
        ),
        (OF_RABBITMQ, BCRYPT, "password_hash is not a hash of bcrypt"),
        ("$2b$31$" + "a" * 53, BCRYPT, "password_hash has a cost that is not 4 to 14"),
    ],
)
def test_a_hash_that_nobody_could_check_is_refused(written: str, algorithm: str, complaint: str) -> None:
    with pytest.raises(HashRefusal) as refused:
        kept(written, algorithm)
    assert complaint in str(refused.value)
