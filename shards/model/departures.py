"""What leaves a queue for others: copied there, noted, written, on disk, and only then settled where it was.

```
copies appended ─► noted with them, in one block of the journal ─► written ─► synced ─► settled
                   an end of the process leaves both or none          ▲
                                                         no file says so before the copies are safe
```
Of originals whose copies are written beside the journal nothing is noted before those are synced.
"""

from array import array
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple, Protocol

from shards.store.journal import Journal


class Departing(Protocol):
    """A queue as far as messages leave it."""

    def note_leaving(self, positions: "array[int]") -> Journal | None:
        """Tell the journal that these are settled, and nobody else; the journal, if there is one."""

    def settle_left(self, positions: "array[int]", *, was_noted: bool) -> None:
        """Copies of these messages are safe, and what `note_leaving` has noted of them, if it was asked to."""


class Departure(NamedTuple):
    """Messages of which there are copies elsewhere."""

    queue: Departing
    positions: "array[int]"
    in_block: bool  # whether what a journal has of this turn has all of the copies
    journal: Journal | None = None  # that has been told so


class Departures:
    """Of a shard, in the order in which they were made."""

    __slots__ = ("_await_round", "_copied", "_noted", "_syncing")

    def __init__(self, await_round: "Callable[[Departures], int]") -> None:
        """`await_round` gives the number of the round after which what is written now is on disk, and has `released`
        called then. Where there is no journal, to be written is enough.
        """
        self._await_round = await_round
        self._copied: list[Departure] = []
        self._noted: list[Departure] = []
        self._syncing: list[tuple[int, Departure]] = []

    def __len__(self) -> int:
        return len(self._copied) + len(self._noted) + len(self._syncing)

    @property
    def are_new(self) -> bool:
        """Whether copies were made that no journal has been told of."""
        return bool(self._copied)

    def add(self, queue: Departing, positions: "array[int]", in_block: Sequence[bool] = ()) -> None:
        """Copies of these messages are in other queues.

        `in_block`, if any is not: whether the block that a journal gets of this turn has all copies, for each of them.
        What does not have them must not say that their originals are settled: it may be all that gets to the disk.
        """
        if all(in_block):
            self._copied.append(Departure(queue, positions, in_block=True))
            return
        for wanted in (True, False):
            some = array("Q", (at for at, is_in in zip(positions, in_block, strict=True) if is_in is wanted))
            if some:
                self._copied.append(Departure(queue, some, wanted))

    def note(self) -> Iterable[Journal]:
        """Have journals told in the block that brings the copies; which ones were."""
        copied, self._copied = self._copied, []
        for departure in copied:
            if not departure.in_block:
                self._noted.append(departure)
                continue
            journal = departure.queue.note_leaving(departure.positions)
            self._noted.append(departure._replace(journal=journal))
            if journal is not None:
                yield journal

    def written(self) -> None:
        """Journals were written, but for those that are dirty: what they were told has to be synced."""
        left = []
        for departure in self._noted:
            if departure.journal is None or departure.journal.is_dirty:
                left.append(departure)
            else:
                self._syncing.append((self._await_round(self), departure))
        self._noted = left

    def flushed(self) -> None:
        """Everything was written, and so all copies of which no journal was told."""
        noted, self._noted = self._noted, []
        self._settle(departure for departure in noted if departure.in_block)
        self._syncing += [(self._await_round(self), departure) for departure in noted if not departure.in_block]

    def released(self, durable_through: int) -> bool:
        synced = [departure for number, departure in self._syncing if number <= durable_through]
        del self._syncing[: len(synced)]
        self._settle(synced)
        return bool(self._syncing)

    def concern(self, queues: Collection[Departing]) -> bool:
        """Whether anything has left one of these and is not settled there."""
        pending = [*self._copied, *self._noted, *(departure for _, departure in self._syncing)]
        return any(departure.queue in queues for departure in pending)

    def hurry(self, queues: Collection[Departing]) -> None:
        """All copies are on disk of what has left these: settle it, whatever a journal was told."""
        for departure in self._copied:
            if departure.queue in queues:
                departure.queue.settle_left(departure.positions, was_noted=False)
        told = [*self._noted, *(departure for _, departure in self._syncing)]
        self._settle(departure for departure in told if departure.queue in queues)
        self.forget(queues)

    def forget(self, queues: Collection[Departing]) -> None:
        """These are closed; what was not settled there will be found in both places."""
        self._copied = [departure for departure in self._copied if departure.queue not in queues]
        self._noted = [departure for departure in self._noted if departure.queue not in queues]
        self._syncing = [syncing for syncing in self._syncing if syncing[1].queue not in queues]

    def _settle(self, departures: Iterable[Departure]) -> None:
        for queue, positions, in_block, _ in departures:
            queue.settle_left(positions, was_noted=in_block)
