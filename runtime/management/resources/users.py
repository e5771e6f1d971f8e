"""`/api/users`: accounts, their passwords, tags and limits."""

from typing import Any, Final

import trio
from litestar import Response, delete, get, post, put
from litestar.datastructures import State
from msgspec import Struct

from ipc.messages.inventory import Document
from ipc.settings import UserSettings
from runtime.auth.directory import Directory, User
from runtime.auth.hashes import NO_PASSWORD, SHA256, HashRefusal, kept
from runtime.auth.passwords import hash_password
from runtime.management import answers
from runtime.management.access import ADMINISTRATOR, ApiRequest, require
from runtime.management.bodies import read_body, words
from runtime.management.changing import carry_out, directory_of
from runtime.management.describing import does, gives, gives_all, lists, makes
from runtime.management.documents import permission_document, topic_permission_document, user_document
from runtime.management.empty import declared
from runtime.management.errors import BadRequest, NotFound
from runtime.management.paging import Paging, paged

_GUARDS: Final = [require(ADMINISTRATOR)]


class UserBody(Struct, frozen=True):
    """A password, or a hash of one, or neither: then nobody logs in as this user. `tags` must be there."""

    tags: list[str] | str | None = None
    password: str | None = None
    password_hash: str | None = None
    hashing_algorithm: str = SHA256


class UserNames(Struct, frozen=True):
    users: list[str]


class LimitBody(Struct, frozen=True):
    """A negative value means that there is no limit."""

    value: int


def known_user(directory: Directory, name: str) -> User:
    """Raises NotFound."""
    user = directory.find_user(name)
    if user is None:
        raise NotFound
    return user


async def _kept_hash(body: UserBody, settings: UserSettings) -> str:
    if body.password is not None and body.password_hash is not None:
        raise BadRequest("both_password_and_password_hash_are_provided")
    if body.password_hash is not None:
        try:
            return kept(body.password_hash, body.hashing_algorithm)
        except HashRefusal as refusal:
            raise BadRequest(str(refusal)) from refusal
    if not body.password:
        return NO_PASSWORD
    return await trio.to_thread.run_sync(hash_password, body.password, settings)


@get("/users", guards=_GUARDS, summary="All users", operation_class=lists(answers.User))
async def users(request: ApiRequest, state: State) -> Any:
    documents = [user_document(user) for user in directory_of(state).users()]
    return paged(documents, Paging.of(request.query_params))


@get(
    "/users/without-permissions",
    guards=_GUARDS,
    summary="Users who may enter no virtual host",
    operation_class=gives_all(answers.User),
)
async def users_without_permissions(state: State) -> list[Document]:
    directory = directory_of(state)
    entering = {user for user, _vhost, _granted in directory.permissions()}
    return [user_document(user) for user in directory.users() if user.name not in entering]


@get("/users/{name:str}", guards=_GUARDS, summary="One user", operation_class=gives(answers.User))
async def user_named(state: State, name: str) -> Document:
    return user_document(known_user(directory_of(state), name))


@put(
    "/users/{name:str}",
    guards=_GUARDS,
    summary="Add a user, or change password and tags",
    operation_class=makes(UserBody),
)
async def put_user(request: ApiRequest, state: State, name: str) -> Response[bytes]:
    directory = directory_of(state)
    body = await read_body(request, UserBody)
    if body.tags is None:
        raise BadRequest("tags_not_present")
    was_there = directory.find_user(name) is not None
    password_hash = await _kept_hash(body, state.broker.settings.users)
    await carry_out(state, directory.put_user, name, password_hash, words(body.tags))
    return declared(is_new=not was_there)


@delete("/users/{name:str}", guards=_GUARDS, summary="Delete a user with all its permissions", operation_class=does())
async def delete_user(state: State, name: str) -> None:
    directory = directory_of(state)
    known_user(directory, name)
    await carry_out(state, directory.delete_user, name)


@post(
    "/users/bulk-delete",
    guards=_GUARDS,
    status_code=204,
    summary="Delete users: all of these, or none",
    operation_class=does(body=UserNames),
)
async def delete_users(request: ApiRequest, state: State) -> None:
    directory = directory_of(state)
    body = await read_body(request, UserNames)
    for name in body.users:
        if directory.find_user(name) is None:
            raise BadRequest(f"no_such_user: {name}")

    def change() -> None:
        with directory.together():
            for name in set(body.users):
                directory.delete_user(name)

    await carry_out(state, change)


@get(
    "/users/{name:str}/permissions",
    guards=_GUARDS,
    summary="What a user may do, by virtual host",
    operation_class=gives_all(answers.Permission),
)
async def permissions_of_user(state: State, name: str) -> list[Document]:
    directory = directory_of(state)
    known_user(directory, name)
    return [permission_document(*row) for row in directory.permissions() if row[0] == name]


@get(
    "/users/{name:str}/topic-permissions",
    guards=_GUARDS,
    summary="A user's topic permissions",
    operation_class=gives_all(answers.TopicPermission),
)
async def topic_permissions_of_user(state: State, name: str) -> list[Document]:
    directory = directory_of(state)
    known_user(directory, name)
    return [topic_permission_document(*row) for row in directory.topic_permissions() if row[0] == name]


# limits ---------------------------------------------------------------------------------------------------------------


@get("/user-limits", summary="Users that have limits", operation_class=gives_all(answers.UserLimits))
async def user_limits(state: State) -> list[Document]:
    return [{"user": user.name, "value": user.limits} for user in directory_of(state).users() if user.limits]


@get("/user-limits/{name:str}", summary="The limits of one user", operation_class=gives_all(answers.UserLimits))
async def limits_of_user(state: State, name: str) -> list[Document]:
    user = known_user(directory_of(state), name)
    return [{"user": name, "value": user.limits}] if user.limits else []


@put(
    "/user-limits/{name:str}/{limit:str}",
    guards=_GUARDS,
    status_code=204,
    summary="Limit a user",
    operation_class=does(body=LimitBody),
)
async def put_user_limit(request: ApiRequest, state: State, name: str, limit: str) -> None:
    body = await read_body(request, LimitBody)
    await carry_out(state, directory_of(state).set_user_limit, name, limit, body.value)


@delete("/user-limits/{name:str}/{limit:str}", guards=_GUARDS, summary="Lift a limit of a user", operation_class=does())
async def delete_user_limit(state: State, name: str, limit: str) -> None:
    directory = directory_of(state)
    if limit in known_user(directory, name).limits:
        await carry_out(state, directory.clear_user_limit, name, limit)


USERS: Final[list[Any]] = [
    users,
    users_without_permissions,
    user_named,
    put_user,
    delete_user,
    delete_users,
    permissions_of_user,
    topic_permissions_of_user,
    user_limits,
    limits_of_user,
    put_user_limit,
    delete_user_limit,
]
