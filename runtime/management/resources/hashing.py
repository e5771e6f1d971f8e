"""`/api/auth/hash_password`: a password as it can be given to `/api/users` and written into definitions."""

from typing import Any, Final

import trio
from litestar import get, put
from litestar.datastructures import State
from msgspec import Struct

from ipc.messages.inventory import Document
from ipc.settings import UserSettings
from runtime.auth.hashes import ARGON2ID, SHA256, SHA512, salted, shown
from runtime.auth.passwords import hash_password
from runtime.management import answers
from runtime.management.access import ADMINISTRATOR, ApiRequest, require
from runtime.management.bodies import read_body
from runtime.management.describing import gives
from runtime.management.errors import BadRequest

_GUARDS: Final = [require(ADMINISTRATOR)]


class PasswordBody(Struct, frozen=True):
    """Without an algorithm RabbitMQ's default, which every broker reads."""

    password: str
    hashing_algorithm: str = SHA256


async def _hashed(body: PasswordBody, settings: UserSettings) -> Document:
    if body.hashing_algorithm in (SHA256, SHA512):
        made, algorithm = salted(body.password, body.hashing_algorithm), body.hashing_algorithm
    elif body.hashing_algorithm == ARGON2ID:
        made, algorithm = shown(await trio.to_thread.run_sync(hash_password, body.password, settings))
    else:
        raise BadRequest(f"hashing_algorithm is one of {SHA256}, {SHA512}, {ARGON2ID}")
    return {"ok": made, "password_hash": made, "hashing_algorithm": algorithm}


@put(
    "/auth/hash_password",
    guards=_GUARDS,
    status_code=200,
    summary="Hash a password",
    operation_class=gives(answers.Hash, body=PasswordBody),
)
async def hash_of_body(request: ApiRequest, state: State) -> Document:
    """As LavinMQ does it: the password stays out of logs of addresses."""
    return await _hashed(await read_body(request, PasswordBody), state.broker.settings.users)


@get(
    "/auth/hash_password/{password:str}",
    guards=_GUARDS,
    summary="Hash a password, as RabbitMQ is asked to",
    operation_class=gives(answers.Hash),
)
async def hash_of_path(state: State, password: str) -> Document:
    return await _hashed(PasswordBody(password), state.broker.settings.users)


HASHING: Final[list[Any]] = [hash_of_body, hash_of_path]
