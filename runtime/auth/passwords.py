"""Checks passwords, and has a short memory of checks that succeeded, so that churning clients pay for one only.

New hashes are argon2id. A check takes about 20 ms and 19 MiB on purpose (OWASP's smaller argon2id profile, which
`[users]` may change: the library's own default would take 64 MiB, in a broker that promises to stay small), so it
belongs in a thread. A hash says itself what it costs, so older ones go on being read; those that came from RabbitMQ or
LavinMQ stay as they are, and `hashes.py` has their formats.
"""

import hashlib
import secrets
from collections import OrderedDict
from typing import Final

import bcrypt
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from ipc.limits import LOGIN_REMEMBERED_SECONDS, LOGINS_REMEMBERED_MAX
from ipc.settings import UserSettings
from runtime.auth.hashes import NO_PASSWORD, is_salted, matches_salted
from runtime.owner import Owner

_READER: Final = PasswordHasher()  # what it would make counts for nothing: it takes what to do from each hash

_BCRYPT_PASSWORD_BYTES: Final = 72

_DECOY: Final = "$argon2id$v=19$m={},t={},p={}$c29tZXNhbHRzb21lc2FsdA$VVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVU"


def hash_password(password: str, settings: UserSettings) -> str:
    """An argon2id hash with its own salt and parameters, as text."""
    hasher = PasswordHasher(settings.argon2_iterations, settings.argon2_memory_kib, settings.argon2_lanes)
    return hasher.hash(password)


def decoy_hash(settings: UserSettings) -> str:
    """Checked for users that do not exist, so that an answer's delay does not tell which ones do; nothing fits it."""
    return _DECOY.format(settings.argon2_memory_kib, settings.argon2_iterations, settings.argon2_lanes)


def verify(password_hash: str, password: str, settings: UserSettings) -> bool:
    """Whether the password belongs to the hash; false for a hash that nobody can read. Slow: call in a thread."""
    if is_salted(password_hash):
        # SHA is so fast that the delay of a refusal would tell that there is such a user.
        return matches_salted(password_hash, password) or _matches_argon2(decoy_hash(settings), password)
    if password_hash.startswith("$2"):
        return _matches_bcrypt(password_hash, password)
    return _matches_argon2(password_hash if password_hash != NO_PASSWORD else decoy_hash(settings), password)


def _matches_argon2(password_hash: str, password: str) -> bool:
    try:
        return _READER.verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False


def _matches_bcrypt(password_hash: str, password: str) -> bool:
    try:
        # It never looks at more; its library refuses what is longer, or not, as its version goes.
        return bcrypt.checkpw(password.encode()[:_BCRYPT_PASSWORD_BYTES], password_hash.encode())
    except ValueError:
        return False


class RecentLogins(Owner):
    """Checks that succeeded lately, as keyed digests of hash and password: bounded in number and age.

    A changed password changes the hash, so what is remembered of the old one can never match again.
    """

    CACHES = ("_known_until",)

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._known_until: OrderedDict[bytes, float] = OrderedDict()

    def remember(self, password_hash: str, password: str, now: float) -> None:
        """`now` in seconds of any clock that does not go back."""
        digest = self._digest(password_hash, password)
        self._known_until[digest] = now + LOGIN_REMEMBERED_SECONDS
        self._known_until.move_to_end(digest)
        if len(self._known_until) > LOGINS_REMEMBERED_MAX:
            self._known_until.popitem(last=False)

    def holds(self, password_hash: str, password: str, now: float) -> bool:
        digest = self._digest(password_hash, password)
        until = self._known_until.get(digest)
        if until is None:
            return False
        if until <= now:
            del self._known_until[digest]
            return False
        return True

    def __len__(self) -> int:
        return len(self._known_until)

    def _digest(self, password_hash: str, password: str) -> bytes:
        digest = hashlib.blake2b(key=self._key, digest_size=32)
        digest.update(password_hash.encode())
        digest.update(b"\0")
        digest.update(password.encode())
        return digest.digest()
