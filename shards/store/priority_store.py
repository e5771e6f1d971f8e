"""The messages of one priority queue: a store for each level that has any, and the highest is read first.

All levels share the queue's directory. The priority stands in the upper eight bits of a level's segment numbers, and so
of its positions: a position alone tells where a message is.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeAlias

from ipc.messages.commands import Level
from ipc.settings import StoreSettings
from shards.compaction.compactable import Compactable, Freed, ShrinkPolicy, Step
from shards.store.files import Files
from shards.store.journal import Journal
from shards.store.message_store import MessageStore
from shards.store.moment import STILL, Moment
from shards.store.position import LEVEL_SHIFT
from shards.store.reader import Span
from shards.store.recovery import RecoveryReport
from shards.store.register import NOTHING_KNOWN, Known, SegmentFacts
from shards.store.segments import level_of

_POSITION_SHIFT: Final = LEVEL_SHIFT + 32


class PriorityStore(Compactable):
    """What a queue asks of `MessageStore`, for levels 0 to `priority_max`; a level is made by its first message."""

    __slots__ = (
        "_directory",
        "_durable",
        "_files",
        "_levels",
        "_moment",
        "_priority_max",
        "_read_from",
        "_settings",
        "_store",
        "has_expiring",
        "journal",
    )
    COLLECTIONS = ("_levels",)
    KIND = "stores"

    def __init__(
        self,
        files: Files,
        directory: str,
        settings: StoreSettings,
        *,
        durable: bool,
        priority_max: int,
        journal: Journal | None = None,
        store: int = 0,
        moment: Moment = STILL,
    ) -> None:
        """`journal`, `store` and `moment` as in `MessageStore`."""
        self.journal = journal
        self._store = store
        self._files = files
        self._moment = moment
        self._directory = directory
        self._settings = settings
        self._durable = durable
        self._priority_max = priority_max
        self._levels: dict[int, MessageStore] = {}
        self._read_from: MessageStore | None = None  # gave the last span
        self.has_expiring = False  # whether any message may have an expiration of its own

    @classmethod
    def recover(
        cls,
        files: Files,
        directory: str,
        settings: StoreSettings,
        report: RecoveryReport,
        *,
        priority_max: int,
        journal: Journal | None = None,
        store: int = 0,
        moment: Moment = STILL,
        known: Known = NOTHING_KNOWN,
    ) -> "PriorityStore | None":
        """As `MessageStore.recover`."""
        recovering = cls(
            files,
            directory,
            settings,
            durable=True,
            priority_max=priority_max,
            journal=journal,
            store=store,
            moment=moment,
        )
        if known.is_complete:
            present = {number >> LEVEL_SHIFT for number in known.segments}
        else:
            present = {level for name in files.list(directory) if (level := level_of(name)) is not None}
        for priority in sorted(present):
            recovered = MessageStore.recover(
                files,
                directory,
                settings,
                report,
                priority=priority,
                journal=journal,
                store=store,
                moment=moment,
                known=known,
            )
            if recovered is not None:
                recovering._levels[priority] = recovered
                recovering.has_expiring = recovering.has_expiring or recovered.has_expiring
        return recovering if recovering._levels else None

    # levels -----------------------------------------------------------------------------------------------------------

    def level(self, priority: int) -> MessageStore:
        """Where messages of this priority are appended; those beyond the highest level go to that."""
        priority = min(priority, self._priority_max)
        store = self._levels.get(priority)
        if store is None:
            store = self._levels[priority] = MessageStore(
                self._files,
                self._directory,
                self._settings,
                durable=self._durable,
                priority=priority,
                journal=self.journal,
                store=self._store,
                moment=self._moment,
            )
        return store

    def levels(self) -> tuple[MessageStore, ...]:
        """Those that are there, the highest first."""
        return tuple(self._levels[priority] for priority in sorted(self._levels, reverse=True))

    def _of(self, position: int) -> MessageStore:
        return self._levels[position >> _POSITION_SHIFT]

    # state ------------------------------------------------------------------------------------------------------------

    @property
    def ready_count(self) -> int:
        return sum(store.ready_count for store in self._levels.values())

    @property
    def ready_bytes(self) -> int:
        return sum(store.ready_bytes for store in self._levels.values())

    @property
    def unacknowledged_count(self) -> int:
        return sum(store.unacknowledged_count for store in self._levels.values())

    @property
    def returned_count(self) -> int:
        return sum(store.returned_count for store in self._levels.values())

    @property
    def is_leaving(self) -> bool:
        return any(store.is_leaving for store in self._levels.values())

    @property
    def dirty(self) -> bool:
        return any(store.dirty for store in self._levels.values())

    # reading ----------------------------------------------------------------------------------------------------------

    def next_span(self) -> Span | None:
        for store in self.levels():
            # A level whose messages turn out to be damaged has none after all.
            if store.ready_count and (span := store.next_span()) is not None:
                self._read_from = store
                return span
        return None

    def advance(self, count: int, end: int) -> None:
        """Of the level that gave the last span."""
        assert self._read_from is not None
        self._read_from.advance(count, end)

    def read(self, position: int) -> Span:
        return self._of(position).read(position)

    # settling ---------------------------------------------------------------------------------------------------------

    def settle(self, position: int) -> None:
        self._of(position).settle(position)

    def settle_many(self, positions: "array[int]") -> None:
        for priority, group in self._by_level(positions):
            self._levels[priority].settle_many(group)

    def _by_level(self, positions: "array[int]") -> "Iterable[tuple[int, array[int]]]":
        groups: dict[int, array[int]] = {}
        for position in positions:
            groups.setdefault(position >> _POSITION_SHIFT, array("Q")).append(position)
        return groups.items()

    def settle_run(self, first: int, last: int, count: int) -> None:
        """A run comes from one span, and so from one level."""
        self._of(first).settle_run(first, last, count)

    def requeue(self, position: int) -> None:
        self._of(position).requeue(position)

    def note_return(self, position: int) -> int:
        return self._of(position).note_return(position)

    def returns(self, position: int) -> int:
        return self._of(position).returns(position)

    def purge(self) -> int:
        return sum(store.purge() for store in self._levels.values())

    # writing and ending -----------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Raises OSError when a level cannot be written, after the others were."""
        _all(store.flush for store in self.levels())

    def note(self) -> Journal | None:
        noted = [store.note() for store in self._levels.values()]
        return self.journal if any(noted) else None

    def note_leaving(self, positions: "array[int]") -> Journal | None:
        for priority, group in self._by_level(positions):
            self._levels[priority].note_leaving(group)
        return self.journal

    def settle_left(self, positions: "array[int]") -> None:
        for priority, group in self._by_level(positions):
            self._levels[priority].settle_left(group)

    def tidy(self) -> bool:
        waiting = [store.tidy() for store in self.levels()]
        return any(waiting)

    def write_back(self, now: int, *, whole: bool) -> bool:
        waiting = [store.write_back(now, whole=whole) for store in self.levels()]
        return any(waiting)

    def close(self) -> None:
        """Raises OSError when something could not be written; the files are closed all the same."""
        _all(store.close for store in self.levels())

    def facts(self) -> Iterator[SegmentFacts]:
        for store in self.levels():
            yield from store.facts()

    def delete(self) -> None:
        levels, self._levels = self.levels(), {}
        self._read_from = None
        for store in levels:
            store.delete()

    # giving memory back -----------------------------------------------------------------------------------------------

    def children(self) -> Iterable[Compactable]:
        return tuple(store for store in self.levels() if not store.is_vacant)

    def shrink(self, level: Level, policy: ShrinkPolicy) -> Iterator[Step]:
        """Levels with nothing in them and nothing on disk go."""
        yield from super().shrink(level, policy)
        if policy.is_dry:
            return
        for priority in tuple(self._levels):
            store = self._levels.get(priority)
            if store is not None and store.is_vacant:
                del self._levels[priority]
                self._read_from = None
                yield Freed("priority level", 0)


def _all(actions: Iterable[Callable[[], None]]) -> None:
    """Take every action, whatever becomes of the others. Raises the first OSError."""
    refusals = []
    for act in actions:
        try:
            act()
        except OSError as fault:
            refusals.append(fault)
    if refusals:
        raise refusals[0]


QueueStore: TypeAlias = MessageStore | PriorityStore
"""What a queue keeps its messages in."""
