"""Logging in and entering a vhost: who is let in from where, with slow password checks kept off the event loop."""

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

import trio

from ipc.errors import NotAllowed
from ipc.limits import PASSWORD_CHECKS_MAX
from ipc.messages.commands import Permissions
from ipc.settings import UserSettings
from runtime.auth.directory import Directory, User
from runtime.auth.passwords import RecentLogins, decoy_hash, verify
from runtime.owner import Owner


class LoginFailed(Exception):
    """Nobody logs in; the text is for the broker's log, a client never learns which part was wrong."""


class Logins(Owner):
    """Checks credentials against the directory, at most PASSWORD_CHECKS_MAX at once and each in a thread."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._recent = RecentLogins()
        self._limiter = trio.CapacityLimiter(PASSWORD_CHECKS_MAX)

    def owned(self) -> Iterable[Owner]:
        return (self._recent,)

    def recall(self, name: str, password: str, address: str, settings: UserSettings) -> User | None:
        """The user, if these very credentials were right a moment ago and may be used from this address."""
        user = self._directory.find_user(name)
        if user is None or not self._recent.holds(user.password_hash, password, trio.current_time()):
            return None
        return None if name in settings.loopback_only and not is_loopback(address) else user

    async def login(self, name: str, password: str, address: str, settings: UserSettings) -> User:
        """The user these credentials belong to; raises LoginFailed. `address` is the client's, without its port."""
        user = self._directory.find_user(name)
        password_hash = user.password_hash if user is not None else decoy_hash(settings)
        if user is None or not self._recent.holds(password_hash, password, trio.current_time()):
            if not await trio.to_thread.run_sync(
                verify, password_hash, password, settings, abandon_on_cancel=True, limiter=self._limiter
            ):
                raise LoginFailed("wrong password" if user is not None else "no such user")
            assert user is not None, "nothing hashes to the decoy"
            self._recent.remember(password_hash, password, trio.current_time())
        if name in settings.loopback_only and not is_loopback(address):
            raise LoginFailed("this user can only log in via localhost")
        return user


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
