"""Password hashes: how the directory keeps them, and how RabbitMQ's API and definitions write them.

```
kept as                                    written as: password_hash                hashing_algorithm
(empty)                                    (empty)                                  rabbit_password_hashing_sha256
$argon2id$v=19$m=…                         the same in base64                       ebbmq_argon2id
$2b$12$…                                   the same in base64, or as it is          ebbmq_bcrypt, lavinmq_bcrypt, bcrypt
rabbit_password_hashing_sha256:SALTED      SALTED: base64 of salt (4 bytes), SHA    rabbit_password_hashing_sha256
rabbit_password_hashing_sha512:SALTED      the same                                 rabbit_password_hashing_sha512
```

Base64 because RabbitMQ refuses a whole file of definitions for a hash that is none. It takes ours in, and refuses those
users until they are given another password.
"""

import base64
import binascii
import hashlib
import hmac
import os
import re
from collections.abc import Callable
from typing import Final

from argon2 import Type, extract_parameters
from argon2.exceptions import InvalidHashError

from ipc.limits import ARGON2_KIB_MAX, ARGON2_LANES_MAX, ARGON2_ROUNDS_MAX, BCRYPT_COST_MAX

SHA256: Final = "rabbit_password_hashing_sha256"
SHA512: Final = "rabbit_password_hashing_sha512"
ARGON2ID: Final = "ebbmq_argon2id"
BCRYPT: Final = "ebbmq_bcrypt"

NO_PASSWORD: Final = ""
"""Kept for a user who can log in with none."""

_SALT_BYTES: Final = 4
_DIGESTS: Final[dict[str, Callable[[bytes], "hashlib._Hash"]]] = {SHA256: hashlib.sha256, SHA512: hashlib.sha512}
_BCRYPT: Final = re.compile(r"\$2[abxy]\$(\d\d)\$[./A-Za-z0-9]{53}")
_READABLE: Final = f"{SHA256}, {SHA512}, {ARGON2ID}, {BCRYPT}"


class HashRefusal(Exception):
    """No password can be checked against this; one sentence for a person."""


def kept(password_hash: str, algorithm: str) -> str:
    """What to keep of a hash that came from outside. Raises HashRefusal."""
    if not password_hash:
        return NO_PASSWORD
    if algorithm in _DIGESTS:
        if len(_from_base64(password_hash)) != _SALT_BYTES + _DIGESTS[algorithm](b"").digest_size:
            raise HashRefusal(f"password_hash is not as long as those of {algorithm}")
        return f"{algorithm}:{password_hash}"
    if algorithm == ARGON2ID:
        return _checked_argon2(_from_base64(password_hash))
    if algorithm.casefold().endswith("bcrypt"):
        return _checked_bcrypt(password_hash.encode() if password_hash.startswith("$") else _from_base64(password_hash))
    raise HashRefusal(f"hashing_algorithm '{algorithm[:64]}' is not one of {_READABLE}")


def shown(kept_hash: str) -> tuple[str, str]:
    """`password_hash` and `hashing_algorithm` as they are written for others."""
    algorithm, separator, salted = kept_hash.partition(":")
    if separator and algorithm in _DIGESTS:
        return salted, algorithm
    if kept_hash == NO_PASSWORD:
        return "", SHA256
    encoded = base64.b64encode(kept_hash.encode()).decode()
    return encoded, BCRYPT if _BCRYPT.fullmatch(kept_hash) else ARGON2ID


def salted(password: str, algorithm: str = SHA256) -> str:
    """A hash of RabbitMQ's with a new salt, as it is written for others."""
    return _salted(os.urandom(_SALT_BYTES), password, algorithm)


def is_salted(kept_hash: str) -> bool:
    """Whether `matches_salted` can tell."""
    return kept_hash.partition(":")[0] in _DIGESTS


def matches_salted(kept_hash: str, password: str) -> bool:
    """Whether the password belongs to one of RabbitMQ's hashes."""
    algorithm, _, written = kept_hash.partition(":")
    salt = base64.b64decode(written)[:_SALT_BYTES]
    return hmac.compare_digest(_salted(salt, password, algorithm), written)


def _salted(salt: bytes, password: str, algorithm: str) -> str:
    return base64.b64encode(salt + _DIGESTS[algorithm](salt + password.encode()).digest()).decode()


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as fault:
        raise HashRefusal("password_hash is not base64") from fault


def _checked_argon2(raw: bytes) -> str:
    try:
        text = raw.decode("ascii")
        parameters = extract_parameters(text)
    except (UnicodeDecodeError, InvalidHashError, ValueError) as fault:
        raise HashRefusal("password_hash is not a hash of argon2id") from fault
    if parameters.type is not Type.ID:
        raise HashRefusal("password_hash is not a hash of argon2id")
    if (
        parameters.memory_cost > ARGON2_KIB_MAX
        or parameters.time_cost > ARGON2_ROUNDS_MAX
        or parameters.parallelism > ARGON2_LANES_MAX
    ):
        raise HashRefusal(
            f"password_hash asks for more than {ARGON2_KIB_MAX} KiB, {ARGON2_ROUNDS_MAX} rounds or "
            f"{ARGON2_LANES_MAX} lanes"
        )
    return text


def _checked_bcrypt(raw: bytes) -> str:
    text = raw.decode("ascii", "replace")
    found = _BCRYPT.fullmatch(text)
    if found is None:
        raise HashRefusal("password_hash is not a hash of bcrypt")
    if not 4 <= int(found[1]) <= BCRYPT_COST_MAX:
        raise HashRefusal(f"password_hash has a cost that is not 4 to {BCRYPT_COST_MAX}")
    return text
