"""Who asks, and what a tag allows: basic authentication, the rules of RabbitMQ's tags, a limit on wrong guesses."""

import base64
import binascii
import math
from collections.abc import Callable, Iterable
from typing import Any, Final

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers.base import BaseRouteHandler
from msgspec import Struct

from ipc.messages.commands import Permissions
from ipc.messages.inventory import Behalf
from ipc.settings import UserSettings
from runtime.auth.directory import EVERYTHING, Directory, User
from runtime.auth.login import LoginFailed, Logins, NotFromHere, NotThisWay, Record, TooManyFailures
from runtime.management.errors import ApiError, NotAuthorized
from runtime.owner import Owner

ADMINISTRATOR: Final = frozenset({"administrator"})
MONITORING: Final = ADMINISTRATOR | {"monitoring"}
POLICYMAKER: Final = ADMINISTRATOR | {"policymaker"}
MANAGEMENT: Final = MONITORING | POLICYMAKER | {"management"}


class Caller(Struct, frozen=True):
    """The user on whose behalf a request is answered, with its tags and permissions as they are now."""

    user: User
    directory: Directory

    @property
    def name(self) -> str:
        """Empty: the operator at the machine."""
        return self.user.name

    def has(self, tags: frozenset[str]) -> bool:
        return not tags.isdisjoint(self.user.tags)

    def is_still(self, tags: frozenset[str]) -> bool:
        """The same by what the directory says now, in a request that takes long."""
        if not self.name:
            return self.has(tags)
        user = self.directory.find_user(self.name)
        return user is not None and not tags.isdisjoint(user.tags)

    def permissions(self, vhost: str) -> Permissions | None:
        if not self.name:
            return EVERYTHING
        return self.directory.find_permissions(self.name, vhost)

    def vhosts(self) -> frozenset[str] | None:
        """Those whose things are shown; None: all of them."""
        if self.has(MONITORING):
            return None
        return frozenset(vhost.name for vhost in self.directory.vhosts() if self.permissions(vhost.name) is not None)

    def behalf(self, vhost: str) -> Behalf:
        """On whose behalf a shard is to do something in a vhost that the user may enter."""
        permissions = self.permissions(vhost)
        if permissions is None:
            raise NotAuthorized("User not authorised to access virtual host")
        return Behalf(self.name, permissions)

    def require_vhost(self, name: str) -> None:
        """Raises ApiError: 404 where there is none, 401 where the user may not enter it."""
        if self.directory.find_vhost(name) is None:
            raise ApiError(404, "Not Found")
        if self.permissions(name) is None:
            raise NotAuthorized("User not authorised to access virtual host")

    def require_visible(self, name: str) -> None:
        """The same for a look: who monitors sees every vhost."""
        if self.directory.find_vhost(name) is None:
            raise ApiError(404, "Not Found")
        if not self.has(MONITORING) and self.permissions(name) is None:
            raise NotAuthorized("User not authorised to access virtual host")

    def require_known(self, name: str) -> None:
        """Raises ApiError (404) where there is no such virtual host."""
        if self.directory.find_vhost(name) is None:
            raise ApiError(404, "Not Found")

    def may_know_policies(self, vhost: str) -> bool:
        """Of every virtual host an administrator, of one who may enter it anybody."""
        return self.has(ADMINISTRATOR) or self.permissions(vhost) is not None

    def require_policies_seen(self, vhost: str) -> None:
        """Raises ApiError: 404 where there is no such virtual host, 401 where its policies are not to be known."""
        self.require_known(vhost)
        if not self.may_know_policies(vhost):
            raise NotAuthorized("User not authorised to access virtual host")

    def require_policies(self, vhost: str) -> None:
        """The same for policies and parameters one by one, and for setting them: that takes a policymaker."""
        self.require_known(vhost)
        if not (self.has(POLICYMAKER) and self.may_know_policies(vhost)):
            raise NotAuthorized("User not authorised to access object")


class Gate(Owner):
    """Checks credentials; who guesses wrong too often has to wait."""

    def __init__(self, directory: Directory, record: Record, settings: Callable[[], UserSettings]) -> None:
        self.directory = directory
        self._settings = settings
        self._logins = Logins(directory, record, "http", MANAGEMENT)

    def owned(self) -> Iterable[Owner]:
        return (self._logins,)

    async def admit(self, header: str | None, address: str) -> Caller:
        """Raises NotAuthorized (401), and ApiError (429) after too many failures."""
        name, password = _credentials(header)
        try:
            user = await self._logins.login(name, password, address, self._settings())
        except TooManyFailures as failed:
            seconds = math.ceil(failed.seconds)
            refusal = ApiError(429, f"too many failed logins, try again in {seconds} seconds")
            refusal.headers["Retry-After"] = str(seconds)
            raise refusal from failed
        except LoginFailed as failed:
            raise NotAuthorized(_TOLD.get(type(failed), "Login failed")) from failed
        return Caller(user, self.directory)


_TOLD: Final[dict[type[LoginFailed], str]] = {
    NotFromHere: "User can only log in via localhost",
    NotThisWay: "Not management user",
}


class OpenGate:
    """Lets everybody in as the operator: in front of a socket that only the broker's own user can open."""

    def __init__(self, directory: Directory) -> None:
        self.directory = directory

    async def admit(self, _header: str | None, _address: str) -> Caller:
        return Caller(User("", "", ("administrator",)), self.directory)


def _credentials(header: str | None) -> tuple[str, str]:
    scheme, _, encoded = (header or "").partition(" ")
    if scheme.casefold() != "basic":
        raise NotAuthorized("Login failed")
    try:
        name, separator, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as fault:
        raise NotAuthorized("Login failed") from fault
    if not separator:
        raise NotAuthorized("Login failed")
    return name, password


def require(tags: frozenset[str]) -> Callable[[ASGIConnection[Any, Any, Any, Any], BaseRouteHandler], None]:
    """A guard: only who has one of these."""

    def guard(connection: ASGIConnection[Any, Any, Any, Any], _handler: BaseRouteHandler) -> None:
        caller: Caller | None = connection.scope.get("user")
        if caller is None:  # OPTIONS passes by authentication
            raise NotAuthorized("Login failed")
        if not caller.has(tags):
            raise NotAuthorized(_NOT[tags])

    return guard


_NOT: Final = {
    ADMINISTRATOR: "Not administrator user",
    MONITORING: "Not monitor user",
    POLICYMAKER: "Not policymaker user",
}

ApiRequest = Request[Caller, Any, Any]
