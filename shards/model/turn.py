"""What one turn of the pump has touched and must finish before anything is sent: the shard's only shared agenda.

```
receive all → queues woken here → deliver → flush what is unwritten → confirm or await a round → send outboxes
```
A *round* is one group commit: definitions committed and written segments synced together, in a worker thread. Whatever
is written now is covered by round `next_round`; a round that has begun covers nothing that comes later.
"""

from collections.abc import Callable, Iterable
from enum import Enum
from typing import Final, NamedTuple, Protocol

from ipc.limits import UNREADABLE_RETRY_MS
from shards.compaction.compactable import Compactable
from shards.model.agenda import Agenda
from shards.model.departures import Departures
from shards.store.half_done import HalfDone
from shards.store.journal import Journal

APPOINTMENT_MS: Final = 10
"""How late what is due may be looked at, as far as this is the agenda's doing: messages may wait for as little."""


class Notice(NamedTuple):
    """Something the operator should read in the log, which the core does not write itself."""

    event: str
    fields: dict[str, str | int]
    is_error: bool = False


class Shortage(Enum):
    """Why publishers wait; everybody else goes on."""

    MEMORY = "the broker's memory has reached its limit"
    DISK = "the file system of the data has less room than it must have"
    WRITES = "the file system refused to write"


class Expiring(Protocol):
    """What is over at some time, or has something in it that is."""

    appointment: int

    def look_again(self, now: int) -> None:
        """Its time has come."""


class Deliverable(Expiring, Protocol):
    """A queue as the turn sees it."""

    name: str
    is_awake: bool

    def deliver(self, now: int) -> bool:
        """Hand ready messages to consumers with room; True when some of both are left for the next turn."""

    def note(self) -> Journal | None:
        """Tell the journal what has happened; the journal, if there is one and anything has."""

    def flush(self, now: int) -> None:
        """Write what is unwritten, or have the journal remember it; raises OSError and may be called again."""


class Awaiting(Protocol):
    """Somebody who has to know when something is on disk."""

    def released(self, durable_through: int) -> bool:
        """Rounds up to this one are on disk; True while more is awaited."""


class Confirming(Awaiting, Protocol):
    """A publisher that waits to hear that its messages are safe."""

    def written(self, turn: "Turn") -> None:
        """Everything published so far has left the process."""


class Sender(Protocol):
    """A connection with something in its outbox, or with input it kept."""

    is_listed: bool

    def resume(self, now: int) -> None:
        """Go on with the input."""


class Turn(Compactable):
    """The agenda; every list is emptied within the turn that filled it, unless the file system refuses writes."""

    __slots__ = (
        "_waiting",
        "agenda",
        "awake",
        "blocked",
        "checkpoints",
        "confirming",
        "delivered",
        "departures",
        "journals",
        "next_round",
        "notices",
        "now",
        "published",
        "resumable",
        "round_wanted",
        "shortages",
        "unflushed",
        "unreadable",
        "unsent",
    )
    COLLECTIONS = ("_waiting", "blocked", "checkpoints", "journals", "unflushed")

    def __init__(self) -> None:
        self.now = 0
        self.agenda: Agenda[Expiring] = Agenda(APPOINTMENT_MS)
        self.awake: list[Deliverable] = []
        self.unflushed: dict[Deliverable, None] = {}  # each once, however long the file system refuses
        self.journals: dict[Journal, None] = {}  # with something that is not in its place
        self.checkpoints: dict[Journal, None] = {}  # whose oldest file may be used again after a sync
        self.confirming: list[Confirming] = []
        self.unsent: list[Sender] = []
        self.resumable: list[Sender] = []  # held their input back and may go on
        self.blocked: dict[Sender, None] = {}  # publishers that wait until nothing is short
        self.notices: list[Notice] = []  # for the host to log
        self.unreadable: dict[Deliverable, str] = {}  # and why, for the host to tell about
        self.next_round = 1
        self.round_wanted = False
        self.shortages: frozenset[Shortage] = frozenset()
        self.published = 0  # messages, since the host last looked
        self.delivered = 0  # the same of messages handed to consumers
        self._waiting: dict[Awaiting, None] = {}
        self.departures = Departures(self.await_round)

    def children(self) -> Iterable[Compactable]:
        return (self.agenda,)

    def wake(self, queue: Deliverable) -> None:
        """Look at this queue before the turn ends: it has new messages or a consumer with room."""
        if not queue.is_awake:
            try:
                self.awake.append(queue)
            except MemoryError as fault:  # nobody else would see what has changed
                raise HalfDone from fault
            queue.is_awake = True

    def cannot_read(self, queue: Deliverable, fault: OSError | MemoryError) -> None:
        """A message of this queue could not be read, or there was no memory for it."""
        self.unreadable[queue] = str(fault) or "no memory"  # and not what the fault keeps alive

    def await_round(self, waiter: Awaiting) -> int:
        """Call `waiter.released` once what is written now is on disk; the number of the round that will tell."""
        self.round_wanted = True
        self._waiting[waiter] = None
        return self.next_round

    def forget(self, waiter: Awaiting) -> None:
        self._waiting.pop(waiter, None)

    @property
    def is_behind(self) -> bool:
        """Whether messages stand ready for consumers with room: the last turn could not hand out all there was."""
        return bool(self.awake)

    @property
    def has_work(self) -> bool:
        """Whether the next turn has something to do even if no socket is ready."""
        return bool(self.awake or self.unsent or self.resumable)

    def finish(self, now: int) -> None:
        """Deliver, flush, confirm. Raises OSError when a flush fails: nothing is lost, nothing unwritten is confirmed.

        While storage is blocked, deliveries go on and nothing is written; `retry` tells when that is over.
        """
        self.now = now
        for item in self.agenda.take_due(now):
            item.look_again(now)
        self._deliver(now)
        if not self.is_storage_blocked:
            self._write()

    def retry(self) -> None:
        """Write what could not be written; raises OSError while that is still so."""
        self._write()
        self.unblock(Shortage.WRITES)

    def _write(self) -> None:
        if self.departures.are_new:
            # Copies that were made while queues were looked at: they are to be written before their originals go.
            self.unflushed.update(dict.fromkeys(self.awake))
        refusals = self._write_journals()
        self.departures.written()
        refusals += [*self._flush(), *self._write_back()]
        if refusals:
            raise refusals[0]
        self.departures.flushed()
        confirming, self.confirming = self.confirming, []
        for publisher in confirming:
            publisher.written(self)

    def _deliver(self, now: int) -> None:
        awake, self.awake = self.awake, []
        for queue in awake:
            queue.is_awake = False
            self.unflushed[queue] = None
            try:
                has_more = queue.deliver(now)
            except (OSError, MemoryError) as fault:
                # One queue that cannot be read is no reason to keep the others waiting.
                self.cannot_read(queue, fault)
                self.agenda.set(queue, now + UNREADABLE_RETRY_MS)
                continue
            if has_more:
                self.wake(queue)

    def _write_journals(self) -> list[OSError]:
        """What this turn did becomes durable here, or with the files it is written to below; who refused."""
        refusals = []
        for queue in self.unflushed:
            journal = queue.note()
            if journal is not None:
                self.journals[journal] = None
        self.journals.update(dict.fromkeys(self.departures.note()))
        for journal in self.journals:
            try:
                journal.write()
            except OSError as fault:
                refusals.append(fault)
        return refusals

    def _write_back(self) -> list[OSError]:
        """What has stood in a journal only for long enough goes to its place; who refused."""
        refusals = []
        for journal in tuple(self.journals):
            try:
                journal.write_back(self.now)
            except OSError as fault:
                refusals.append(fault)
            if journal.wants_checkpoint:
                self.checkpoints[journal] = None
            due = journal.due
            if due:
                self.agenda.set(journal, due)
            elif not journal.is_dirty:  # as it is when it could not be written
                del self.journals[journal]
        return refusals

    def checkpointed(self, journal: Journal) -> None:
        """What `begin_checkpoint` gave is on disk."""
        journal.end_checkpoint()
        if journal.wants_checkpoint:
            self.checkpoints[journal] = None

    def close_journal(self, journal: Journal) -> None:
        """All that it covered is in its place and on disk."""
        self.agenda.clear(journal)
        self.journals.pop(journal, None)
        self.checkpoints.pop(journal, None)
        journal.close()

    def _flush(self) -> list[OSError]:
        unflushed, self.unflushed = self.unflushed, {}
        refusals = []
        for queue in unflushed:
            try:
                queue.flush(self.now)
            except OSError as fault:
                # The others may have files to unlink, which is how a full disk gets room again.
                self.unflushed[queue] = None
                refusals.append(fault)
        return refusals

    @property
    def is_storage_blocked(self) -> bool:
        """Whether the file system refused a write, and none has been taken since."""
        return Shortage.WRITES in self.shortages

    def block(self, shortage: Shortage) -> None:
        """Whoever publishes waits from now on."""
        self.shortages |= {shortage}

    def unblock(self, shortage: Shortage) -> None:
        """This is no longer a reason; publishers go on when it was the last one."""
        self.shortages -= {shortage}
        if not self.shortages:
            blocked, self.blocked = self.blocked, {}
            self.resumable.extend(blocked)

    def begin_round(self) -> int:
        """A round begins now; the caller takes everything unsynced along with it."""
        self.round_wanted = False
        self.next_round += 1
        return self.next_round - 1

    def complete_round(self, number: int) -> None:
        """A round is on disk: tell everybody who waited for it or an earlier one."""
        for waiter in tuple(self._waiting):
            if not waiter.released(number):
                self._waiting.pop(waiter, None)


FreshName = Callable[[], str]
"""Gives a random text nobody else has, for server-named queues and consumer tags; the core has no dice."""
