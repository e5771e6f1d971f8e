"""Logging in and entering a vhost: who is let in from where, with slow password checks kept off the event loop."""

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Protocol

import trio

from ipc.errors import NotAllowed
from ipc.limits import PASSWORD_CHECKS_MAX, USER_NAME_BYTES_MAX
from ipc.messages import logins
from ipc.messages.commands import Permissions
from ipc.settings import UserSettings
from runtime.auth.directory import Directory, User
from runtime.auth.passwords import RecentLogins, decoy_hash, verify
from runtime.owner import Owner


class LoginFailed(Exception):
    """Nobody logs in; the text is for the broker's log, a client never learns which part was wrong."""


class NotFromHere(LoginFailed):
    """It was the right password, from elsewhere than this machine."""


class NotThisWay(LoginFailed):
    """It was the right password, of somebody who may not come by this protocol."""


class TooManyFailures(LoginFailed):
    """The password was not even looked at."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"too many failed logins, for {seconds:.0f} more seconds")
        self.seconds = seconds


class Record(Protocol):
    """Who is told of every attempt, and knows who has guessed too often: `login_record.py`, or the way to it."""

    async def wait_seconds(self, user: str, address: str) -> float: ...

    async def note(self, attempt: logins.Attempt) -> None: ...


class Logins(Owner):
    """Checks credentials against the directory, at most PASSWORD_CHECKS_MAX at once and each in a thread."""

    def __init__(
        self, directory: Directory, record: Record, protocol: logins.Protocol, tags: frozenset[str] | None = None
    ) -> None:
        """`tags`: whoever comes this way needs one of them."""
        self._directory = directory
        self._record = record
        self._protocol = protocol
        self._tags = tags
        self._recent = RecentLogins()
        self._turns = trio.CapacityLimiter(PASSWORD_CHECKS_MAX)
        self._threads = trio.CapacityLimiter(PASSWORD_CHECKS_MAX)  # one that nobody waits for any more goes on

    def owned(self) -> Iterable[Owner]:
        return (self._recent,)

    def recall(self, name: str, password: str, address: str, settings: UserSettings) -> User | None:
        """The user, if these very credentials were right a moment ago and may be used from this address.

        Whoever goes on with it has to note the attempt.
        """
        user = self._remembered(name, password)
        return None if user is None or self._barred(user, address, settings) is not None else user

    async def login(self, name: str, password: str, address: str, settings: UserSettings) -> User:
        """The user these credentials belong to; raises LoginFailed. `address` is the client's, without its port."""
        user = await self._proven(name, password, address, settings)
        barred = self._barred(user, address, settings)
        await self._note(name, address, "in" if barred is None else "barred")
        if barred is not None:
            raise barred
        return user

    async def _proven(self, name: str, password: str, address: str, settings: UserSettings) -> User:
        """Whose password it is; raises LoginFailed where it is nobody's, or somebody guesses."""
        if (user := self._remembered(name, password)) is not None:
            return user
        if len(name) > USER_NAME_BYTES_MAX:
            raise LoginFailed("no user has so long a name")
        async with self._turns:
            # Others may have come with the same meanwhile, and been right, or wrong too often.
            if (user := self._remembered(name, password)) is not None:
                return user
            if seconds := await self._record.wait_seconds(name, address):
                await self._note(name, address, "refused")
                raise TooManyFailures(seconds)
            user = self._directory.find_user(name)
            password_hash = user.password_hash if user is not None else decoy_hash(settings)
            if not await trio.to_thread.run_sync(
                verify, password_hash, password, settings, abandon_on_cancel=True, limiter=self._threads
            ):
                await self._note(name, address, "wrong")
                raise LoginFailed("wrong password" if user is not None else "no such user")
            assert user is not None, "nothing hashes to the decoy"
            self._recent.remember(password_hash, password, trio.current_time())
            return user

    def _remembered(self, name: str, password: str) -> User | None:
        user = self._directory.find_user(name)
        if user is None or not self._recent.holds(user.password_hash, password, trio.current_time()):
            return None
        return user

    def _barred(self, user: User, address: str, settings: UserSettings) -> LoginFailed | None:
        """Why the right password is not enough."""
        if user.name in settings.loopback_only and not is_loopback(address):
            return NotFromHere("this user can only log in via localhost")
        if self._tags is not None and self._tags.isdisjoint(user.tags):
            return NotThisWay("this user has none of the tags that are needed")
        return None

    async def _note(self, name: str, address: str, outcome: logins.Outcome) -> None:
        await self._record.note(logins.Attempt(self._protocol, name, address, outcome))


@lru_cache(maxsize=256)
def is_loopback(address: str) -> bool:
    """Whether the client is on this machine; IPv4 addresses may come mapped into IPv6."""
    parsed = ip_address(address.partition("%")[0])
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return parsed.is_loopback


def permissions_to_enter(directory: Directory, user: str, vhost: str) -> Permissions:
    """What the user may do in the vhost; raises NotAllowed (530) where it may not even enter."""
    if directory.find_vhost(vhost) is None:
        raise NotAllowed(f"vhost '{vhost}' not found")
    permissions = directory.find_permissions(user, vhost)
    if permissions is None:
        raise NotAllowed(f"access to vhost '{vhost}' refused for user '{user}'")
    return permissions
