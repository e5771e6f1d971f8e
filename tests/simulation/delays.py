"""What must be true of messages that wait at an exchange, and of the queue they go to when they are due.

```
published ─► waits, till its time has come ─► in the queue `late`, which nobody reads
                └── a sudden end may leave it in both places, and never in neither ──┘
```
"""

from collections.abc import Iterable
from dataclasses import dataclass

from shards.model.vhost import VHost
from shards.model.waiting_room import WaitingRoom
from shards.store import record
from shards.store.message_store import MessageStore
from tests.simulation.expectations import Copy, End, Violation
from tests.simulation.simulated_shard import contents, number_of, read_all, simulated_files

LATER = "later"
LATE = "late"


@dataclass
class Delayed(Copy):
    """One message that was published to wait."""

    due: int = 0


class Delays:
    """Of one vhost."""

    def __init__(self, vhost: str) -> None:
        self.vhost = vhost
        self.is_unsynced = False  # it does not wait for the disk
        self._may_be_damaged = False  # by the end of a machine that nobody waited for
        self._known: dict[int, Delayed] = {}  # all there were
        self._waiting: dict[int, Delayed] = {}
        self._passed: dict[int, Delayed] = {}
        self._unwritten: list[Delayed] = []
        self._has_doubles = False  # since a sudden end

    def publish(self, message: Delayed) -> None:
        self._known[message.number] = self._waiting[message.number] = message
        self._unwritten.append(message)

    def turn_written(self) -> None:
        for message in self._unwritten:
            message.is_written = True
        self._unwritten = []

    @property
    def last_due(self) -> int:
        return max((message.due for message in self._waiting.values()), default=0)

    # while it runs ----------------------------------------------------------------------------------------------------

    def account_for(self, vhost: VHost, now: int) -> None:
        """What has gone on was due, and all the rest is where it was."""
        late = contents(vhost.queue(LATE))
        for number in {number for level in late for number in level} & self._waiting.keys():
            message = self._waiting[number]
            if message.due > now:
                raise Violation(f"{number} goes on at {now}, and is due at {message.due}")
            if not self._has_doubles:
                del self._waiting[number]
            self._passed[number] = message
        self._check_late(late)
        count = vhost.exchange(LATER).delayed_count
        if not self._has_doubles and count != len(self._waiting):
            raise Violation(f"{count} messages wait where {len(self._waiting)} must")

    def _check_late(self, late: list[list[int]]) -> None:
        numbers = [number for level in late for number in level]
        if set(numbers) - self._known.keys():
            raise Violation(f"{LATE}: {sorted(set(numbers) - self._known.keys())} from nowhere")
        if self._passed.keys() - set(numbers):
            raise Violation(f"{LATE}: {sorted(self._passed.keys() - set(numbers))} has left")
        if not self._has_doubles and len(set(numbers)) < len(numbers):
            raise Violation(f"{LATE}: twice: {numbers}")

    def all_are_due(self, vhost: VHost, now: int) -> None:
        """Their time has come some time ago."""
        self.account_for(vhost, now)
        if vhost.exchange(LATER).delayed_count:
            raise Violation(f"{vhost.exchange(LATER).delayed_count} messages wait that were due")

    # after an end -----------------------------------------------------------------------------------------------------

    def recovered(self, vhost: VHost, end: End, now: int) -> None:
        """From here on what was found is what must be there."""
        self._may_be_damaged = self._may_be_damaged or (self.is_unsynced and end is End.POWER)
        if self._may_be_damaged:
            read_all(vhost.queue(LATE))
        waiting = dict(_waiting(vhost.exchange(LATER).waiting_room))
        late = [number for level in contents(vhost.queue(LATE)) for number in level]
        found = {*waiting, *late}
        if found - self._known.keys():
            raise Violation(f"{sorted(found - self._known.keys())} waits from nowhere after {end.value}")
        for number, due in waiting.items():
            if due != self._known[number].due:
                raise Violation(f"{number} is due at {due}, and was at {self._known[number].due}")
        for number in late:
            if self._known[number].due > now:
                raise Violation(f"{number} is due at {self._known[number].due}, and has gone on at {now}")
        for message in {**self._waiting, **self._passed}.values():
            if message.number not in found and self._must_be_there(message, end):
                raise Violation(f"{message.number} is lost after {end.value}, on its way through the exchange")
        is_exact = waiting.keys() == self._waiting.keys() and sorted(late) == sorted(self._passed)
        if end is End.CLEAN and not self._has_doubles and not is_exact:
            raise Violation(f"{sorted(waiting)} wait and {late} are late after {end.value}")
        self._has_doubles = self._has_doubles or end is not End.CLEAN
        self._waiting = {number: self._known[number] for number in waiting}
        self._passed = {number: self._known[number] for number in late}
        for message in {**self._waiting, **self._passed}.values():
            message.is_written = True
            message.is_recovered = message.is_recovered or end is not End.CLEAN
            message.is_confirmed = message.is_confirmed or (message.is_persistent and not message.is_recovered)
        self._unwritten = []

    def _must_be_there(self, message: Delayed, end: End) -> bool:
        if end is End.CLEAN:
            return True
        if end is End.POWER:
            return message.is_persistent and message.is_confirmed and not self.is_unsynced
        return message.is_persistent and message.is_written

    def is_safe(self) -> None:
        """All there is was brought to disk."""
        for message in {**self._waiting, **self._passed}.values():
            message.is_confirmed = message.is_persistent

    def forget(self) -> None:
        """All of it is purged."""
        self._waiting, self._passed, self._unwritten = {}, {}, []


def _waiting(room: WaitingRoom | None) -> Iterable[tuple[int, int]]:
    """Numbers of messages, and when they are due."""
    if room is None or room._store is None:
        return
    store: MessageStore = room._store
    with simulated_files(store).unnoticed():
        room._seat_new(store)
        for chunk in room._schedule._chunks:
            begin = room._schedule._gone if chunk is room._schedule._chunks[0] else 0
            for due, position in zip(chunk.dues[begin:], chunk.positions[begin:], strict=True):
                span = store.read(position)
                yield number_of(bytes(record.decode(span.buffer, span.start).body)), due
