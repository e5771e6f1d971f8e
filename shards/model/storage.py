"""Where a vhost keeps its messages: the stores of queues and of waiting rooms, their journal, and their register.

```
queues/NUMBER     of a durable queue        delayed/NUMBER    of a durable exchange that delays
transient/NUMBER  of any other: gone with the next start
```
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

from ipc.data_directory import VHostDirectory
from ipc.settings import StoreSettings
from shards.model.exchanges.exchange import Exchange
from shards.model.queues.queue import Queue
from shards.model.turn import Turn
from shards.model.waiting_room import WaitingRoom
from shards.store.files import Files
from shards.store.journal import Journal
from shards.store.message_store import MessageStore
from shards.store.priority_store import PriorityStore, QueueStore
from shards.store.recovery import RecoveryReport
from shards.store.register import Known, Register, SegmentFacts


class Storage:
    """Knows which files are whose, and not what is in a vhost: whoever does hands queues and exchanges in."""

    def __init__(
        self,
        directory: Path,
        files: Files,
        settings: StoreSettings,
        turn: Turn,
        registered: Callable[[], Iterator[Iterable[SegmentFacts]]],
        *,
        awaits_disk: bool,
    ) -> None:
        """`registered`: what the register knows of one queue after the other, should it be written anew.

        `awaits_disk`: there is a journal.
        """
        self.paths = VHostDirectory(directory)
        self._durable_at, self._transient_at = str(self.paths.queues), str(self.paths.transient)
        self._files = files
        self._settings = settings
        self._turn = turn
        self.register = Register(files, str(self.paths.segments), registered)
        self.journal = Journal(files, str(self.paths.journal), self.register) if awaits_disk else None

    # of queues --------------------------------------------------------------------------------------------------------

    def open(self, queue: Queue) -> QueueStore:
        directory, durable = self.directory(queue), is_stored(queue)
        journal = self.journal if durable else None
        priority_max = queue.terms.priority_max
        if priority_max is None:
            return MessageStore(
                self._files,
                directory,
                self._settings,
                durable=durable,
                journal=journal,
                store=queue.number,
                moment=self._turn,
            )
        return PriorityStore(
            self._files,
            directory,
            self._settings,
            durable=durable,
            priority_max=priority_max,
            journal=journal,
            store=queue.number,
            moment=self._turn,
        )

    def recover(self, queue: Queue, report: RecoveryReport, known: Known) -> QueueStore | None:
        """What there is of a durable queue; None when that is nothing. `known`: what the register says of it."""
        directory = self.directory(queue)
        priority_max = queue.terms.priority_max
        if priority_max is None:
            return MessageStore.recover(
                self._files,
                directory,
                self._settings,
                report,
                journal=self.journal,
                store=queue.number,
                moment=self._turn,
                known=known,
            )
        return PriorityStore.recover(
            self._files,
            directory,
            self._settings,
            report,
            priority_max=priority_max,
            journal=self.journal,
            store=queue.number,
            moment=self._turn,
            known=known,
        )

    def directory(self, queue: Queue) -> str:
        return f"{self._durable_at if is_stored(queue) else self._transient_at}/{queue.number}"

    # of exchanges that delay ------------------------------------------------------------------------------------------

    def open_waiting(self, exchange: Exchange) -> MessageStore:
        """For what waits at it. What waits is written each turn, because it stays for long: without the journal."""
        directory = self.waiting_directory(exchange)
        return MessageStore(self._files, directory, self._settings, durable=exchange.is_durable, moment=self._turn)

    def recover_waiting(
        self, exchanges: Iterable[Exchange], report: RecoveryReport
    ) -> Iterator[tuple[Exchange, MessageStore]]:
        """Those of them at which messages wait, with what does."""
        present = {str(self.paths.delayed / entry) for entry in self._files.list(str(self.paths.delayed))}
        for exchange in exchanges:
            directory = self.waiting_directory(exchange)
            if directory in present:
                store = MessageStore.recover(self._files, directory, self._settings, report, moment=self._turn)
                if store is not None:
                    yield exchange, store

    def waiting_directory(self, exchange: Exchange) -> str:
        parent = self.paths.delayed if exchange.is_durable else self.paths.transient
        return str(parent / (str(exchange.number) if exchange.number else exchange.name))

    # its end ----------------------------------------------------------------------------------------------------------

    def close(self, places: Collection[Queue | WaitingRoom]) -> list[tuple[Queue | WaitingRoom, OSError]]:
        """Write and close everything that lasts: all of these. What could not be written of which, and why."""
        unwritten: list[tuple[Queue | WaitingRoom, OSError]] = []
        self.register.stop()
        self._settle_departed(places)
        for place in places:
            try:
                place.close()
            except OSError as fault:
                unwritten.append((place, fault))
        if self.journal is not None and unwritten:
            self._keep_journal(self.journal)
        elif self.journal is not None:
            self.journal.take_written_behind().run()
            self._turn.close_journal(self.journal)
        if not unwritten:
            self._close_register(places)
        return unwritten

    def _settle_departed(self, places: Collection[Queue | WaitingRoom]) -> None:
        """What has copies elsewhere and still waits for the disk: bring those there first, as each is closed by itself.

        When the disk refuses, it stays where it is as well.
        """
        departures = self._turn.departures
        if not departures.concern(places):
            return
        try:
            for place in places:
                place.write()
            if self.journal is not None:
                self.journal.take_written_behind().run()
            self._files.take_unsynced().run()
        except OSError:
            departures.forget(places)
        else:
            departures.hurry(places)

    def _close_register(self, places: Iterable[Queue | WaitingRoom]) -> None:
        """Of queues only: what waits at exchanges is read by every start."""
        stores = [place.store for place in places if isinstance(place, Queue) and place.store is not None]
        try:
            self.register.close(facts for store in stores for facts in store.facts())
        except OSError:
            pass  # the next start looks for itself

    def _keep_journal(self, journal: Journal) -> None:
        """Something stands only there: with it must stand what has become of all the rest."""
        try:
            journal.write()
        except OSError:
            pass  # as it is for whatever could not be written


def is_stored(queue: Queue) -> bool:
    """Whether it outlives a restart."""
    return queue.is_durable and queue.owner is None
