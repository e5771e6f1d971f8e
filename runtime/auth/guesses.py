"""How long whoever guesses passwords has to wait.

```
refused, unchecked, is            while within `login_failures_seconds` there were as many wrong passwords
one user from one address         for this user from this address: login_failures_max
  and, unless this user has logged in from this address before:
whoever comes from an address     from this address, for whomever: login_failures_max_by_address
whoever comes as a user           for this user, from wherever: login_failures_max_by_user
```
So one who guesses behind a NAT keeps out nobody who is known there, one who has many addresses gets no further with one
user, and nobody can lock a user out of where it is at home. The seconds begin with the first wrong password; what is
refused counts for nothing, so that a program with an old password does not keep its user out for good.

Checks of passwords are so slow that no more can be wrong within the seconds than tables have room for, unless hashes
are very cheap ones from elsewhere; then the oldest are forgotten first.
"""

import sys
from collections import OrderedDict
from collections.abc import Hashable
from ipaddress import IPv6Address, ip_address
from typing import Any, Final

from msgspec import Struct

from ipc.limits import GUESSES_REMEMBERED_MAX, LOGINS_KNOWN_MAX
from ipc.messages.commands import Level
from ipc.settings import UserSettings
from runtime.owner import Owner, Rebuilding

_HOST_BITS: Final = 64


class Window(Struct, gc=False):
    """Wrong passwords since the first one."""

    ends: float
    count: int = 0


class Guesses(Owner):
    """Times are seconds of any clock that does not go back."""

    COLLECTIONS = ("_by_both", "_by_source", "_by_user", "_known")

    def __init__(self) -> None:
        self._by_both: OrderedDict[tuple[str, str], Window] = OrderedDict()
        self._by_source: OrderedDict[str, Window] = OrderedDict()
        self._by_user: OrderedDict[str, Window] = OrderedDict()
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()  # who has logged in from where

    def shed(self, how: Rebuilding) -> int:
        """What has ended; never whom to make wait, nor whom others' guesses do not keep out."""
        if how.level < Level.CRITICAL:
            return 0
        return sum(_end(windows, how) for windows in (self._by_both, self._by_source, self._by_user))

    def wait_seconds(self, user: str, address: str, settings: UserSettings, now: float) -> float:
        """Until this user may be tried again from this address; 0: now."""
        source = source_of(address)
        waits = [_left(self._by_both.get((user, source)), settings.login_failures_max, now)]
        if (user, source) not in self._known:
            waits.append(_left(self._by_source.get(source), settings.login_failures_max_by_address, now))
            waits.append(_left(self._by_user.get(user), settings.login_failures_max_by_user, now))
        return max(waits)

    def wrong(self, user: str, address: str, settings: UserSettings, now: float) -> None:
        source = source_of(address)
        ends = now + settings.login_failures_seconds
        _count(self._by_both, (user, source), now, ends)
        _count(self._by_source, source, now, ends)
        _count(self._by_user, user, now, ends)

    def right(self, user: str, address: str) -> None:
        """The user is known there from now on; what was wrong stays so, because it may have been somebody else."""
        both = (user, source_of(address))
        self._known[both] = None
        self._known.move_to_end(both)
        if len(self._known) > LOGINS_KNOWN_MAX:
            self._known.popitem(last=False)


def source_of(address: str) -> str:
    """What counts as one address: of IPv6 a network, because whoever has one has all its addresses."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(IPv6Address(int(parsed) >> _HOST_BITS << _HOST_BITS))


def _left(window: Window | None, failures_max: int, now: float) -> float:
    if window is None or failures_max == 0 or window.count < failures_max:
        return 0.0
    return max(0.0, window.ends - now)


def _count(windows: "OrderedDict[Any, Window]", key: Hashable, now: float, ends: float) -> None:
    while windows and _first(windows).ends <= now:
        windows.popitem(last=False)
    while len(windows) >= GUESSES_REMEMBERED_MAX:
        windows.popitem(last=False)
    window = windows.get(key)
    if window is None:
        window = windows[key] = Window(ends)
    window.count += 1


def _end(windows: "OrderedDict[Any, Window]", how: Rebuilding) -> int:
    """The bytes of those that have ended, oldest first, which are let go of."""
    ended = [key for key, window in windows.items() if window.ends <= how.now]
    size_bytes = sum(sys.getsizeof(windows[key]) for key in ended)
    for key in () if how.is_dry else ended:
        del windows[key]
    return size_bytes


def _first(windows: "OrderedDict[Any, Window]") -> Window:
    """All last equally long, so this is the first to end."""
    return next(iter(windows.values()))
