"""Every attempt to log in, whichever process heard it: counted as RabbitMQ does, and held against who guesses."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator

import trio
from msgspec import Struct

from ipc.limits import ATTEMPT_SOURCES_MAX
from ipc.messages.logins import Attempt
from ipc.settings import UserSettings
from runtime.auth.guesses import Guesses
from runtime.owner import Owner


class Tally(Struct, gc=False):
    """How attempts of one kind ended."""

    succeeded: int = 0
    failed: int = 0

    def count(self, attempt: Attempt) -> None:
        if attempt.outcome == "in":
            self.succeeded += 1
        else:
            self.failed += 1


class LoginRecord(Owner):
    """The supervisor's; `runtime/auth/login.py` says what others know of it."""

    COLLECTIONS = ("_by_protocol", "_by_source")

    def __init__(self, settings: Callable[[], UserSettings]) -> None:
        self._settings = settings
        self._guesses = Guesses()
        self._by_protocol: dict[str, Tally] = {}
        self._by_source: OrderedDict[tuple[str, str, str], Tally] = OrderedDict()

    def owned(self) -> Iterable[Owner]:
        return (self._guesses,)

    async def wait_seconds(self, user: str, address: str) -> float:
        """Until this user may be tried again from this address; 0: now."""
        return self._guesses.wait_seconds(user, address, self._settings(), trio.current_time())

    async def note(self, attempt: Attempt) -> None:
        self.note_now(attempt)

    def note_now(self, attempt: Attempt) -> None:
        settings = self._settings()
        if attempt.outcome == "wrong":
            self._guesses.wrong(attempt.user, attempt.address, settings, trio.current_time())
        elif attempt.outcome != "refused":
            self._guesses.right(attempt.user, attempt.address)
        self._by_protocol.setdefault(attempt.protocol, Tally()).count(attempt)
        if settings.track_auth_attempt_source:
            source = (attempt.protocol, attempt.address, attempt.user)
            self._by_source.setdefault(source, Tally()).count(attempt)
            self._by_source.move_to_end(source)
            if len(self._by_source) > ATTEMPT_SOURCES_MAX:
                self._by_source.popitem(last=False)

    # what was counted -------------------------------------------------------------------------------------------------

    def by_protocol(self) -> list[tuple[str, Tally]]:
        return sorted(self._by_protocol.items())

    def by_source(self) -> Iterator[tuple[tuple[str, str, str], Tally]]:
        """Protocol, address and user of each, in this order; none unless `track_auth_attempt_source` is set."""
        yield from sorted(self._by_source.items())

    def forget(self) -> None:
        """Count from 0 again; who guesses goes on waiting."""
        self._by_protocol = {}
        self._by_source = OrderedDict()
