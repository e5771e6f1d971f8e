"""Messages that wait at an exchange which delays them: in a store of their own, and in a schedule of when they are due.

```
append ─► store: record with its due time for a timestamp ─► schedule: (due, position) ─► due ─► released ─► settled
```
For the store all of them are handed out, because they leave in the order of their due times; a recovered one is walked
once, reading one number of each record. Those released are settled after their copies were written, and brought to disk
where they were on disk themselves: whoever was told that a message is safe never heard of its copies.
"""

from array import array
from collections.abc import Callable, Iterable
from struct import Struct
from typing import Final

from ipc.limits import RELEASE_RETRY_MS, RELEASED_BYTES_PER_TURN_MAX, RELEASED_PER_TURN_MAX
from shards.compaction.compactable import Compactable
from shards.model.publication import Publication
from shards.model.schedule import Schedule
from shards.model.turn import Turn
from shards.store import record
from shards.store.copying import Piece
from shards.store.half_done import no_way_back
from shards.store.journal import Journal
from shards.store.message_store import MessageStore

Release = Callable[[record.Record, int], None]
"""Pass a message on that has waited long enough, at this time."""

_length: Final = Struct("<I").unpack_from
_timestamp: Final = Struct("<Q").unpack_from
_TIMESTAMP_AT: Final = 12


class WaitingRoom(Compactable):
    """Of one exchange, from its first message that waits on. Times are milliseconds of broker time."""

    __slots__ = (
        "_awaits_disk",
        "_release",
        "_schedule",
        "_store",
        "_turn",
        "appointment",
        "is_awake",
        "name",
    )
    KIND = "delayed messages"

    def __init__(self, name: str, turn: Turn, store: MessageStore, release: Release, *, awaits_disk: bool) -> None:
        """`name` says in the log whose it is; what is in the store already waited before the last start.

        `awaits_disk`: what it releases counts as safe once it is on disk, and not before.
        """
        self.name = name
        self.appointment = 0
        self.is_awake = False
        self._turn = turn
        self._store: MessageStore | None = store
        self._release = release
        self._awaits_disk = awaits_disk
        self._schedule = Schedule()
        self._seat_new(store)
        turn.wake(self)

    def children(self) -> Iterable[Compactable]:
        return (self._schedule,) if self._store is None else (self._store, self._schedule)

    @property
    def delayed_count(self) -> int:
        """Messages that wait."""
        return len(self._schedule) + (self._store.ready_count if self._store is not None else 0)

    def append(self, message: Publication, due: int) -> None:
        """Let it wait until then."""
        if self._store is not None:
            message.wait_in(self._store, due)
            self._turn.wake(self)

    def purge(self) -> int:
        """Drop everything that waits; how many it were."""
        if self._store is None:
            return 0
        self._seat_new(self._store)
        positions = self._schedule.take_all()
        self._settle(positions)
        return len(positions)

    def pieces(self) -> Iterable[Piece]:
        """What of its files belongs to it at this moment."""
        return () if self._store is None else self._store.segments.pieces()

    # the turn's side --------------------------------------------------------------------------------------------------

    def look_again(self, now: int) -> None:
        """Something is due."""
        self._turn.wake(self)

    def deliver(self, now: int) -> bool:
        """Release what is due; True when there is more of it."""
        if self._store is None:
            return False
        self._seat_new(self._store)
        next_due = self._schedule.next_due
        if 0 < next_due <= now and self._turn.is_storage_blocked:
            # It is safe where it is, and copies would have to wait in memory.
            next_due = now + RELEASE_RETRY_MS
        elif 0 < next_due <= now:
            self._turn.agenda.set(self, now + RELEASE_RETRY_MS)  # should one not be readable
            self._release_due(self._store, now)
            next_due = self._schedule.next_due
        self._turn.agenda.set(self, next_due)
        return 0 < next_due <= now

    def note(self) -> Journal | None:
        """What waits is written each turn, because it stays for long."""
        return None

    def note_leaving(self, positions: "array[int]") -> Journal | None:
        return None

    def flush(self, now: int) -> None:
        self.write()

    def write(self) -> None:
        """Write everything to its place. Raises OSError."""
        if self._store is not None and self._store.dirty:
            self._store.flush()

    def settle_left(self, positions: "array[int]", *, was_noted: bool) -> None:
        """Copies of these are safe."""
        self._settle(positions)

    def _settle(self, positions: "array[int]") -> None:
        if self._store is not None:
            self._store.settle_many(positions)
            self._turn.wake(self)

    def _seat_new(self, store: MessageStore) -> None:
        """Note of everything in the store that was never looked at when it is due."""
        while (span := store.next_span()) is not None:
            at, count = span.start, 0
            with no_way_back:  # what was noted twice would be settled twice
                while at < span.end:
                    self._schedule.add(_timestamp(span.buffer, at + _TIMESTAMP_AT)[0], span.base + at)
                    at += _length(span.buffer, at)[0]
                    count += 1
                store.advance(count, at)

    def _release_due(self, store: MessageStore, now: int) -> None:
        released: array[int] = array("Q")
        left_bytes = RELEASED_BYTES_PER_TURN_MAX
        try:
            while left_bytes > 0 and len(released) < RELEASED_PER_TURN_MAX and 0 < self._schedule.next_due <= now:
                position = self._schedule.first
                span = store.read(position)
                message = record.decode(span.buffer, span.start)
                left_bytes -= span.end - span.start
                self._release(message, now)
                with no_way_back:
                    self._schedule.drop_first()
                    released.append(position)
        finally:
            if released:
                # Nothing is noted of it before its copies are where it awaits them.
                with no_way_back:
                    self._turn.departures.add(self, released, [not self._awaits_disk] * len(released))

    # its end ----------------------------------------------------------------------------------------------------------

    def delete(self) -> None:
        """The exchange is gone, and what waits there with it."""
        store = self._leave()
        if store is not None:
            try:
                store.delete()
            except OSError:
                pass  # files that belong to no exchange are removed when the vhost opens again

    def close(self) -> None:
        """The shard ends or gives the vhost up: everything is written and the files are closed.

        Raises OSError when something could not be written; the files are closed all the same.
        """
        store = self._leave()
        if store is not None:
            store.close()

    def _leave(self) -> MessageStore | None:
        self._turn.agenda.clear(self)
        self._schedule = Schedule()
        store, self._store = self._store, None
        return store
