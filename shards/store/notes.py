"""What one store tells its vhost's journal, which makes that durable before it is in its place.

```
turn:   appended, settled, come back ─► note ─► journal
later:  written to segments and ack logs ─► written_behind, sealed ─► journal, for its checkpoint
```
"""

from array import array

from shards.store.ack_log import Settled
from shards.store.blocks import EntryKind
from shards.store.journal import Journal
from shards.store.position import OFFSET_MASK
from shards.store.segment import Segment
from shards.store.tail import Tail


class Notes:
    """Of a store that the journal knows by the number `store`; without a journal nothing is told, and nobody asks to
    `note`."""

    __slots__ = ("_journal", "_leaving", "is_noted", "store")

    def __init__(self, journal: Journal | None, store: int) -> None:
        self._journal = journal
        self.store = store
        self._leaving = 0  # how often it was told before the store what is settled
        self.is_noted = False  # whether the store has ever had anything that is to be kept

    @property
    def in_journal(self) -> bool:
        """Whether there is a journal, and it knows of the store."""
        return self._journal is not None and self.is_noted

    @property
    def is_leaving(self) -> bool:
        """Whether the journal was told of messages that are settled before the store is, with `note_leaving`."""
        return self._leaving > 0

    def note(self, tail: Tail, touched: list[Segment]) -> Journal | None:
        """Tell the journal what has happened since it was told last; the journal, if it was told anything.

        Messages nobody asked to keep are noted only where one behind them is to be kept.
        """
        journal = self._journal
        assert journal is not None  # who has none does not ask
        if tail.must_note:
            with memoryview(tail.records) as records:
                journal.note_appended(self.store, tail.base + tail.noted, records[tail.noted :])
            tail.set_noted()
            self.is_noted = True
        if not self.is_noted:
            return None
        for segment in touched:
            if segment.settled is not None:
                self._note_settled(journal, segment.number, segment.settled)
        settled = tail.tell_settled()
        if settled is not None:
            self._note_settled(journal, tail.base >> 32, settled)
        return journal if journal.is_dirty else None

    def _note_settled(self, journal: Journal, segment: int, settled: Settled) -> None:
        for kind, entries in settled.take_unnoted():
            journal.note(self.store, kind, segment, entries)

    def note_leaving(self, positions: "array[int]") -> Journal | None:
        """Tell the journal that these are settled, before the store is told; the journal, if there is one."""
        journal = self._journal
        if journal is None:
            return None
        self.is_noted = True
        self._leaving += 1
        for number in sorted({position >> 32 for position in positions}):
            offsets = array("I", (position & OFFSET_MASK for position in positions if position >> 32 == number))
            journal.note(self.store, EntryKind.SETTLED_OFFSETS, number, offsets)
        return journal

    def left(self, tail: Tail, touched: list[Segment]) -> None:
        """What `note_leaving` told of is settled in the store by now, and all of that is not told again."""
        if self._journal is None:
            return
        self._leaving -= 1
        for segment in touched:
            if segment.settled is not None:
                segment.settled.set_noted()
        settled = tail.tell_settled()
        if settled is not None:
            settled.set_noted()

    def written_behind(self, path: str) -> None:
        """This file is about to be changed, and a checkpoint has to sync it."""
        if self._journal is not None:
            self._journal.written_behind(path)

    def sealed(self, segment: Segment) -> None:
        """Nothing is appended to this segment any more."""
        if self._journal is not None:
            self._journal.sealed(self.store, segment)
