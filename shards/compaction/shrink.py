"""One collection gets smaller: how large a fresh copy of it would be, when that is worth it, and the swap.

CPython keeps the table of a dict or set and the buffer of an `array` at their largest, whatever is deleted; lists and
bytearrays shrink by themselves. `sys.getsizeof` tells what is kept, and the formulas below tell what a fresh copy would
take. Measured, growth stays within twice that plus 4 KiB, and so do a fresh copy and churn below the same peak. Where a
few entries more need the next larger table (a set of 255 entries, a dict of 21,845), churn would look worth a copy in
every pass, so tables are judged as if they held an eighth more than they do.

The copy takes the old one's place in a single assignment, so that whoever runs out of memory before it, loses nothing.
A dry run makes the same copy, measures it and drops it: so it foretells to the byte what a pass would free, for as long
as nothing else happens.
"""

import sys
from array import array
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from msgspec import Struct, structs

from ipc.limits import COLLECTIONS_PER_STEP, DEQUE_COPY_ENTRIES_MAX
from ipc.messages.commands import Level
from ipc.settings import CompactionSettings, ShrinkSettings
from shards.compaction.steps import LOOKED, Failed, Freed, Step

POINTER_BYTES: Final = 8
DICT_EMPTY_BYTES: Final = 64
DICT_KEYS_BYTES: Final = 32  # of the key table's own header
DICT_ENTRY_BYTES: Final = 24  # 16 while all keys are text: then a copy is only smaller than foretold
DICT_TABLE_MIN: Final = 8
ORDERED_DICT_BYTES: Final = 64  # beside the dict in it
ORDERED_DICT_NODE_BYTES: Final = 32
SET_EMPTY_BYTES: Final = 216
SET_ENTRY_BYTES: Final = 16
SET_TABLE_MIN: Final = 8
SET_INLINE_ENTRIES: Final = 4
ROOM_SHIFT: Final = 3
ROOM_MIN: Final = 2
ARRAY_EMPTY_BYTES: Final = sys.getsizeof(array("B"))


def dict_fresh(count: int) -> int:
    """Bytes of `dict(d)` with `count` entries."""
    if count == 0:
        return DICT_EMPTY_BYTES
    # How CPython 3.11 to 3.13 size the table of a copy; 3.14 takes half of it when the count is 1 … 4, 21, 85, 341, …
    slots_wanted = (count * 3 + 1) // 2 | DICT_TABLE_MIN
    return _dict_bytes(1 << ((slots_wanted - 1) | (DICT_TABLE_MIN - 1)).bit_length())


def ordered_dict_fresh(count: int) -> int:
    """Bytes of `OrderedDict(d)`, which grows entry by entry: a dict, a node an entry, and a pointer a slot."""
    if count == 0:
        return DICT_EMPTY_BYTES + ORDERED_DICT_BYTES
    slots = DICT_TABLE_MIN
    while _dict_usable(slots) < count:
        slots <<= 1
    return _dict_bytes(slots) + ORDERED_DICT_BYTES + POINTER_BYTES * slots + ORDERED_DICT_NODE_BYTES * count


def default_dict_fresh(count: int) -> int:
    """Bytes of a defaultdict: a dict and its factory."""
    return dict_fresh(count) + POINTER_BYTES


def set_fresh(count: int) -> int:
    """Bytes of `set(s)` with `count` entries."""
    if count <= SET_INLINE_ENTRIES:
        return SET_EMPTY_BYTES
    slots = SET_TABLE_MIN
    while slots <= 2 * count:
        slots <<= 1
    return SET_EMPTY_BYTES + (SET_ENTRY_BYTES * slots if slots > SET_TABLE_MIN else 0)


def _dict_bytes(slots: int) -> int:
    index_bytes = 1 if slots <= 128 else 2 if slots <= 32768 else 4
    return DICT_EMPTY_BYTES + DICT_KEYS_BYTES + slots * index_bytes + _dict_usable(slots) * DICT_ENTRY_BYTES


def _dict_usable(slots: int) -> int:
    return (slots << 1) // 3


def _copy_default_dict(old: "defaultdict[Any, Any]") -> "defaultdict[Any, Any]":
    # Its own copy() keeps a table that popitem() emptied; update() does not.
    fresh: defaultdict[Any, Any] = defaultdict(old.default_factory)
    fresh.update(old)
    return fresh


def _copy_array(old: "array[Any]") -> "array[Any]":
    return array(old.typecode, old)


def _leave(_old: Any) -> None:
    pass


def _empty_array(old: "array[Any]") -> None:
    del old[:]


def _never(_old: Any, _level: Level) -> bool:
    return False


def _deque_hides(old: "deque[Any]", level: Level) -> bool:
    """Up to 16 emptied blocks of 528 bytes stay with a deque and no size tells, so ask what a copy costs instead."""
    return len(old) <= (DEQUE_COPY_ENTRIES_MAX if level >= Level.RELEASE else 0)


class Rule(Struct, frozen=True):
    """How one type of collection is judged and copied."""

    fresh: Callable[[Any], int]  # bytes a fresh copy would take
    copy: Callable[[Any], Any]  # a fresh copy of the same type, order and content
    hides: Callable[[Any, Level], bool] = _never  # whether to copy it whatever its size says
    empty: Callable[[Any], None] = _leave  # what becomes of the old one
    roomy: Callable[[Any], int] | None = None  # the bytes judged by, where those of a copy would soon not be enough


Rules: TypeAlias = Mapping[type, Rule]


def _table(fresh: Callable[[int], int], copy: Callable[[Any], Any]) -> Rule:
    """A hash table's, judged with room for an eighth more: churn at a table's edge would undo each copy at once."""
    return Rule(
        lambda old: fresh(len(old)), copy, roomy=lambda old: fresh(len(old) + (len(old) >> ROOM_SHIFT) + ROOM_MIN)
    )


# Never `d.copy()`: after popitem() it clones the whole table (measured: 42 MB for ten entries).
RULES: Final[Rules] = MappingProxyType(
    {
        dict: _table(dict_fresh, dict),
        OrderedDict: _table(ordered_dict_fresh, OrderedDict),
        defaultdict: _table(default_dict_fresh, _copy_default_dict),
        set: _table(set_fresh, set),
        array: Rule(lambda old: ARRAY_EMPTY_BYTES + old.itemsize * len(old), _copy_array, empty=_empty_array),
        deque: Rule(sys.getsizeof, lambda old: deque(old, old.maxlen), hides=_deque_hides, empty=deque.clear),
    }
)


class Worth(Struct, frozen=True):
    """When a collection is rebuilt, where that differs from elsewhere; None: it does not."""

    ratio: float | None = None
    floor_bytes: int | None = None
    rests: bool = False  # not in this pass at all


UNSAID: Final = Worth()
NOTHING_SAID: Final[Mapping[str, Worth]] = MappingProxyType({})


class ShrinkPolicy(Struct, frozen=True):
    """What is worth a step in this pass."""

    ratio: float  # a collection is rebuilt when it takes more than ratio × fresh + floor
    floor_bytes: int
    release_bytes_max: int  # of file pages, in the whole pass
    cold_before: int  # milliseconds of broker time: what was read or written since then is not cold
    now: int = 0  # milliseconds of broker time
    kinds: Mapping[str, Worth] = NOTHING_SAID  # by name of the type
    labels: Mapping[str, Worth] = NOTHING_SAID  # by the label bytes are counted for, such as a vhost's name
    label: Worth = UNSAID  # of the owner at hand
    rules: Rules = RULES
    is_dry: bool = False  # everything is decided and measured, copies included, and nothing is changed

    @classmethod
    def at(cls, settings: CompactionSettings, now: int, *, resting: Collection[str] = ()) -> "ShrinkPolicy":
        """The policy these settings ask for in a pass that begins `now`, in milliseconds of broker time.

        `resting`: kinds and vhosts that are to be passed by.
        """
        return cls(
            ratio=settings.ratio,
            floor_bytes=settings.floor_bytes,
            release_bytes_max=settings.release_bytes_max,
            cold_before=now - round(settings.segment_cold_seconds * 1000),
            now=now,
            kinds=_worths(settings.kinds, resting),
            labels=_worths(settings.vhosts, resting),
        )

    def within(self, label: str) -> "ShrinkPolicy":
        """The policy for owners that count for this label."""
        found = self.labels.get(label, UNSAID)
        return self if found is self.label else structs.replace(self, label=found)

    def worth(self, size_bytes: int, fresh_bytes: int, kind: str = "") -> bool:
        """Whether a rebuild pays; what is said of the vhost counts more than what is said of the kind."""
        said = self.kinds.get(kind, UNSAID)
        if said is UNSAID and self.label is UNSAID:
            return size_bytes > self.ratio * fresh_bytes + self.floor_bytes
        ratio = _first(self.label.ratio, said.ratio, self.ratio)
        floor_bytes = _first(self.label.floor_bytes, said.floor_bytes, self.floor_bytes)
        return size_bytes > ratio * fresh_bytes + floor_bytes

    def rests(self, kind: str) -> bool:
        """Whether collections of this kind are passed by."""
        return self.label.rests or self.kinds.get(kind, UNSAID).rests


def _worths(settings: Mapping[Any, ShrinkSettings], resting: Collection[str]) -> Mapping[str, Worth]:
    return {name: Worth(rule.ratio, rule.floor_bytes, name in resting) for name, rule in settings.items()}


def _first(*values: float | None) -> float:
    return next(value for value in values if value is not None)


Path: TypeAlias = tuple[Any, ...]
"""Where a nested collection is found: the attribute's name, then a key for every level."""


def shrink_attribute(owner: object, name: str, level: Level, policy: ShrinkPolicy) -> Step | None:
    """Rebuild the collection in `owner.name` if that is worth it; None when it is not, or when there is none."""
    old = getattr(owner, name, None)
    fresh, step = _rebuilt(old, level, policy)
    if fresh is not None and not policy.is_dry:
        setattr(owner, name, fresh)
        _empty(old, policy)
    return step


def _empty(old: Any, policy: ShrinkPolicy) -> None:
    """A stray reference to what was replaced must not keep its memory; not to a table, which somebody may walk."""
    try:
        policy.rules[type(old)].empty(old)
    except BufferError:
        pass  # a view of it is alive, and is what keeps it


def shed_attribute(owner: object, name: str, policy: ShrinkPolicy) -> Step:
    """Put an empty collection in the place of the cache in `owner.name`."""
    cache = getattr(owner, name)
    empty = type(cache)()
    freed = sys.getsizeof(cache) - sys.getsizeof(empty)
    if not policy.is_dry:
        setattr(owner, name, empty)
    return Freed("cache", freed)


def shrink_nested(owner: object, name: str, level: Level, policy: ShrinkPolicy) -> Iterator[Step]:
    """Rebuild the dictionary in `owner.name` and every collection among its values, to any depth, if worth it."""
    step = shrink_attribute(owner, name, level, policy)
    if step is not None:
        yield step
    yield from _shrink_values(owner, (name,), level, policy)


def _shrink_values(owner: object, path: Path, level: Level, policy: ShrinkPolicy) -> Iterator[Step]:
    try:
        keys = _keys(owner, path)
    except MemoryError as fault:
        yield Failed("nested", _reason(fault))
        return
    keys.reverse()
    while keys:
        deeper: list[Path] = []
        for _ in range(min(len(keys), COLLECTIONS_PER_STEP)):
            key = keys.pop()
            step = _shrink_value(owner, path, key, level, policy)
            if step is not None:
                yield step
            if isinstance(_find(owner, (*path, key)), dict):
                deeper.append((*path, key))
        yield LOOKED
        for inner in deeper:
            yield from _shrink_values(owner, inner, level, policy)


def _shrink_value(owner: object, path: Path, key: Any, level: Level, policy: ShrinkPolicy) -> Step | None:
    outer = _find(owner, path)
    if not isinstance(outer, dict):
        return None
    fresh, step = _rebuilt(outer.get(key), level, policy)
    if fresh is not None and not policy.is_dry:
        outer[key] = fresh
    return step


def _keys(owner: object, path: Path) -> list[Any]:
    # All at once, because no iterator survives a step; a key that vanishes meanwhile is simply not found.
    outer = _find(owner, path)
    return list(outer) if isinstance(outer, dict) else []


def _find(owner: object, path: Path) -> Any:
    found = getattr(owner, path[0], None)
    for key in path[1:]:
        if not isinstance(found, dict):
            return None
        found = found.get(key)
    return found


def _rebuilt(old: Any, level: Level, policy: ShrinkPolicy) -> tuple[Any, Step | None]:
    """A smaller copy that is to take the place of `old`, or None; and what there is to say about it, if anything."""
    kind = type(old)
    rule = policy.rules.get(kind)
    if rule is None or policy.rests(kind.__name__):
        return None, None
    try:
        size = sys.getsizeof(old)
        hides = rule.hides(old, level)
        if not hides and not policy.worth(size, (rule.roomy or rule.fresh)(old), kind.__name__):
            return None, None
        fresh = rule.copy(old)
        freed = size - sys.getsizeof(fresh)
    except MemoryError as fault:
        return None, Failed(type(old).__name__, _reason(fault))
    if freed <= 0 and not hides:
        return None, None  # a ratio close to 1 asks for more than CPython's own growth steps allow
    return fresh, Freed(type(old).__name__, freed)


def _reason(fault: Exception) -> str:
    return str(fault) or type(fault).__name__
