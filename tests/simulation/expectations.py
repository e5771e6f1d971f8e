"""What must be true of each queue, from what its clients heard: the simulation's side of every promise.

```
published ─► present (ready, or held by a client) ─► gone: acknowledged, dropped, purged, …
                │ survives an end of the process once its turn was written, of the machine once that was confirmed
```
A copy of a message is told by its number, which is its body; numbers ascend in the order of publishing.
"""

from dataclasses import dataclass, field
from enum import Enum


class Violation(AssertionError):
    """The broker broke a promise."""


class End(Enum):
    """How a shard ended."""

    CLEAN = "clean"
    KILLED = "killed"  # between two turns
    STOPPED = "stopped"  # in the middle of something
    POWER = "power"

    @property
    def is_sudden(self) -> bool:
        """Of the process, and not of the machine."""
        return self in (End.KILLED, End.STOPPED)


@dataclass
class Terms:
    """Of one queue; what is None is not asked for."""

    is_durable: bool = True
    ttl: int | None = None
    length_max: int | None = None
    returns_max: int | None = None
    priority_max: int = 0
    graves: str = ""  # the queue its dead letters go to
    remembered_max: int = 0  # messages it does not take twice
    has_expiring: bool = False  # messages that expire by themselves came in

    @property
    def drops(self) -> bool:
        """Whether messages leave it by themselves."""
        return self.has_expiring or (self.ttl, self.length_max, self.returns_max) != (None, None, None)

    @property
    def arguments(self) -> dict[str, int | str]:
        asked = {
            "x-message-ttl": self.ttl,
            "x-max-length": self.length_max,
            "x-delivery-limit": self.returns_max,
            "x-max-priority": self.priority_max or None,
            "x-dead-letter-exchange": "" if self.graves else None,
            "x-dead-letter-routing-key": self.graves or None,
            "x-message-deduplication": True if self.remembered_max else None,
            "x-cache-size": self.remembered_max or None,
        }
        return {name: value for name, value in asked.items() if value is not None}


@dataclass
class Commit:
    """A transaction that was asked to be committed."""

    refusals: int  # when it was asked for
    is_split: bool = False  # some of it was written because its turn could not be
    published: "list[tuple[Expected, Copy]]" = field(default_factory=list)
    settled: "list[tuple[Expected, int]]" = field(default_factory=list)
    gone: "list[Gone]" = field(default_factory=list)

    def is_answered(self) -> None:
        """All of it survives the machine from here on."""
        for _, copy in self.published:
            copy.is_confirmed = True
        for gone in self.gone:
            gone.is_durable = gone.copy.is_persistent

    def check(self, found: "dict[Expected, set[int]]") -> None:
        """After the process ended while it was under way: all of it was done, or nothing."""
        if self.is_split:
            return
        done = [
            copy.number in found[queue]
            for queue, copy in self.published
            if queue in found and copy.is_persistent and copy.number in queue.present and queue.keeps
        ]
        done += [
            number not in found[queue]
            for queue, number in self.settled
            if queue in found and queue.gone[number].copy.is_persistent
        ]
        if any(done) and not all(done):
            raise Violation(f"half of a transaction: {[copy.number for _, copy in self.published]}, {done}")


@dataclass
class Copy:
    """One message in one queue."""

    number: int
    is_persistent: bool = False
    level: int = 0
    expires_at: int | None = None
    is_large: bool = False
    is_held: bool = False
    returns: int = 0
    has_come_back: bool = False  # since the last start
    is_written: bool = False  # survives the process
    is_confirmed: bool = False  # survives the machine
    is_recovered: bool = False  # was there after a sudden end


@dataclass
class Gone:
    """It has left; whether that survives the process, and the machine."""

    copy: Copy
    is_written: bool = False
    is_durable: bool = False
    is_noted: bool = False  # a turn that was written says so
    is_buried: bool = False  # a copy went to the dead letters
    is_purged: bool = False  # from there
    is_recent: bool = True  # since the last start


class Remembered:
    """What a queue does not take twice, till it has taken so many others; an end of the process forgets it."""

    def __init__(self) -> None:
        self._keys: list[str] = []

    def take(self, key: str, count_max: int) -> bool:
        """Whether it is new."""
        if key in self._keys:
            return False
        self._keys = [*self._keys, key][-count_max:]
        return True


class Expected:
    """One queue."""

    def __init__(self, name: str, terms: Terms, number: int) -> None:
        self.name = name
        self.terms = terms
        self.number = number  # of the broker's
        self.is_declared = False  # the client has heard so
        self.is_deleted = False  # it was asked for
        self.is_gone = False  # the client has heard so
        self.may_be_taken = False  # by somebody who does not acknowledge, and was not heard before the end
        self.buries: Expected | None = None  # what this has the dead letters of
        self.is_unsynced = False  # its vhost does not wait for the disk
        self.may_be_damaged = False  # by the end of a machine that nobody waited for
        self.remembers = Remembered()  # for a queue that takes nothing twice
        self.present: dict[int, Copy] = {}
        self.gone: dict[int, Gone] = {}
        self._ranks: dict[int, int] = {}
        self._unwritten: list[Copy | Gone] = []

    def ready(self) -> list[Copy]:
        return [copy for copy in self.present.values() if not copy.is_held]

    @property
    def keeps(self) -> bool:
        """Whether what is in it leaves only where we are told."""
        return not self.terms.drops and not self.may_be_taken

    def rank(self, number: int) -> int:
        """Its place in the order of arrival."""
        return self._ranks.get(number, 0)

    def publish(self, copy: Copy) -> None:
        self.present[copy.number] = copy
        self.gone.pop(copy.number, None)
        self._ranks[copy.number] = len(self._ranks)
        self._unwritten.append(copy)

    def leave(self, number: int) -> Gone:
        """It was acknowledged, or the like."""
        gone = self.gone[number] = Gone(self.present.pop(number))
        self._unwritten.append(gone)
        return gone

    def comes_back(self, number: int) -> None:
        """It was to leave for another queue, and could not be read for that."""
        gone = self.gone.pop(number)
        self._unwritten.remove(gone)
        gone.copy.is_held = False
        gone.copy.has_come_back = True
        self.present[number] = gone.copy

    def never_came(self, number: int) -> None:
        """Of all copies this was the one that could not be made."""
        self._unwritten.remove(self.present.pop(number))

    def forgotten(self) -> dict[int, Gone]:
        """All there was, of which nothing must come back, and anything may."""
        return {number: Gone(copy) for number, copy in self.present.items()}

    def expect_delivery(self, number: int, *, redelivered: bool) -> Copy:
        copy = self.present.get(number)
        if copy is None:
            what = "is settled" if number in self.gone else "is from nowhere"
            raise Violation(f"{self.name}: delivered {number}, which {what}")
        if copy.is_held:
            raise Violation(f"{self.name}: delivered {number}, which somebody holds")
        if copy.has_come_back and not redelivered:
            raise Violation(f"{self.name}: {number} has come back, and is delivered as if it were new")
        return copy

    # while it runs ----------------------------------------------------------------------------------------------------

    def check(self, ready: int, unacknowledged: int, *, written: bool) -> None:
        """Counts. Originals of dead letters that are not on disk yet are held by the broker."""
        if self.buries is not None:
            return  # where a message may be twice, after a sudden end
        held = sum(copy.is_held for copy in self.present.values())
        if not written and self.terms.graves:
            unacknowledged = held
        if (ready, unacknowledged) != (len(self.present) - held, held):
            raise Violation(
                f"{self.name}: {ready} ready and {unacknowledged} held, must be {len(self.present) - held} and {held}"
            )

    def account_for(self, found: "list[list[int]]", now: int) -> list[Copy]:
        """What has left a queue that drops by itself: it must have had a reason."""
        self.check_order(found)
        left = {number for level in found for number in level}
        ready = {copy.number for copy in self.ready()}
        if left - ready:
            raise Violation(f"{self.name}: {sorted(left - ready)} from nowhere")
        excess = max(0, len(ready) - self.terms.length_max) if self.terms.length_max is not None else 0
        dropped = []
        for number in sorted(ready - left):
            copy = self.present[number]
            is_expired = copy.expires_at is not None and copy.expires_at <= now
            is_exhausted = self.terms.returns_max is not None and copy.returns > self.terms.returns_max
            if not is_expired and not is_exhausted:
                excess -= 1
                if excess < 0:
                    raise Violation(f"{self.name}: {number} has left without a reason")
            dropped.append(copy)
            self.leave(number)
        if self.terms.length_max is not None and len(left) > self.terms.length_max:
            raise Violation(f"{self.name}: {len(left)} ready, more than its limit")
        return dropped

    def check_order(self, found: "list[list[int]]") -> None:
        for level in found:
            if self.buries is not None:
                continue  # messages are buried once more, in another order, when the first time was not written
            if len(set(level)) < len(level):
                raise Violation(f"{self.name}: twice: {level}")
            ranks = [self._ranks[number] for number in level if number in self._ranks]
            if ranks != sorted(ranks):
                raise Violation(f"{self.name}: out of order: {level}")

    # after an end -----------------------------------------------------------------------------------------------------

    def recovered(self, found: "list[list[int]]", end: End, now: int, graves: set[int]) -> None:
        """What a recovered queue holds, by levels; from here on that is what must be there.

        `graves`: what the queue holds that its dead letters go to.
        """
        self.check_order(found)
        numbers = {number for level in found for number in level}
        known = self.present.keys() | self.gone.keys()
        if self.buries is not None:
            known = known | self.buries.present.keys() | self.buries.gone.keys()
        if numbers - known:
            raise Violation(f"{self.name}: {sorted(numbers - known)} from nowhere after {end.value}")
        for number in sorted(numbers & self.gone.keys()):
            gone = self.gone[number]
            is_written = gone.is_written and (end is End.KILLED or (end is End.STOPPED and gone.copy.is_persistent))
            is_durable = gone.is_durable and not self.is_unsynced
            if self.buries is None and (end is End.CLEAN or is_written or is_durable):
                raise Violation(f"{self.name}: {number} is settled, and back after {end.value}")
        if not self.is_deleted:
            for copy in self.present.values():
                if copy.number not in numbers:
                    self._check_loss(copy, end, now, numbers, graves)
            for gone in self.gone.values():
                if gone.is_buried and not gone.is_purged and gone.copy.number not in numbers | graves:
                    self._check_burial(gone, end)
        self._begin_again(numbers, end)

    def is_safe(self) -> None:
        """All there is was brought to disk."""
        for copy in self.present.values():
            copy.is_confirmed = copy.is_persistent

    def _check_loss(self, copy: Copy, end: End, now: int, numbers: set[int], graves: set[int]) -> None:
        if self.may_be_taken or not self._must_be_there(copy, end):
            return
        if not self._may_have_dropped(copy, now, numbers):
            raise Violation(f"{self.name}: {copy.number} is lost after {end.value}")
        if self.terms.graves and copy.number not in graves:
            raise Violation(f"{self.name}: {copy.number} is neither there nor among the dead letters")

    def _check_burial(self, gone: Gone, end: End) -> None:
        # Where the news has left the process, the dead letters are asked for the copy.
        is_moving = gone.is_recent if end is End.POWER else end.is_sudden and not gone.is_written
        if self.terms.graves and is_moving and self._must_be_there(gone.copy, end):
            raise Violation(
                f"{self.name}: {gone.copy.number} is lost after {end.value}, on its way to the dead letters"
            )

    def _must_be_there(self, copy: Copy, end: End) -> bool:
        if end is End.CLEAN:
            return True
        return copy.is_persistent and (copy.is_written if end.is_sudden else self._is_safe(copy))

    def _is_safe(self, copy: Copy) -> bool:
        """Whether it was promised to survive the machine."""
        return copy.is_confirmed and not self.is_unsynced

    def _may_have_dropped(self, copy: Copy, now: int, numbers: set[int]) -> bool:
        if not self.terms.drops:
            return False
        if copy.expires_at is not None and copy.expires_at <= now:
            return True
        if self.terms.returns_max is not None and copy.returns + copy.is_held > self.terms.returns_max:
            return True
        # What was held comes back at the head, and is what is too much then.
        return self.terms.length_max is not None and len(self.present) > self.terms.length_max

    def _begin_again(self, numbers: set[int], end: End) -> None:
        for number in self.present.keys() - numbers:
            self.leave(number)
        known = self.present
        self.present = {}
        for number in sorted(numbers, key=self.rank):
            gone = self.gone.pop(number, None)
            copy = known.get(number) or (Copy(number) if gone is None else gone.copy)
            copy.returns += copy.is_held
            copy.is_held = copy.has_come_back = False
            copy.is_written = True
            # What nobody was promised and an end has left by chance may go with the next one.
            copy.is_recovered = copy.is_recovered or end is not End.CLEAN
            copy.is_confirmed = copy.is_confirmed or (copy.is_persistent and not copy.is_recovered)
            self._ranks.setdefault(number, len(self._ranks))
            self.present[number] = copy
        for gone in self.gone.values():
            # A recovery brings to disk what the journal says. A segment that went without a word may be back.
            gone.is_durable = gone.is_durable or (gone.is_noted and gone.copy.is_persistent)
            gone.is_written = True
            gone.is_recent = False
        self._unwritten = []
        self.may_be_taken = False
        self.remembers = Remembered()

    # turns ------------------------------------------------------------------------------------------------------------

    def turn_written(self, *, synced: bool) -> None:
        """Everything done so far has left the process; `synced`: and is on disk.

        Large dead letters are not in the journal: till they are on disk nothing says that their originals are settled.
        """
        unwritten, self._unwritten = self._unwritten, []
        for change in unwritten:
            if isinstance(change, Gone):
                if change.is_buried and change.copy.is_large and not synced:
                    self._unwritten.append(change)
                    continue
                change.is_noted = True
            change.is_written = True
