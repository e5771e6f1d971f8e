"""What an owner of memory offers to a compaction pass: its children, its growing collections, and bounded steps.

A pass runs between the turns of an event loop, one step at a time. Two rules follow for every owner:

* between two steps anything may have changed or vanished, so a step looks everything up again through `self`;
* outside a pass nobody keeps a reference to, a view of or an iterator over a declared collection across a turn, because
  a pass replaces it by a smaller copy (measured: clearing and refilling in place instead cuts running loops short).
"""

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from ipc.messages.commands import Level
from ipc.messages.reports import Sort
from shards.compaction.shrink import ShrinkPolicy, shed_attribute, shrink_attribute, shrink_nested
from shards.compaction.steps import LOOKED, SEGMENT_PAGES, Cold, Failed, Freed, Offload, Step

__all__ = [
    "LOOKED",
    "SEGMENT_PAGES",
    "Cold",
    "Compactable",
    "Failed",
    "Freed",
    "Level",
    "Offload",
    "ShrinkPolicy",
    "Step",
]


class Compactable:
    """Base of every owner of memory. Declarations add up along the classes, so a subclass names only its own."""

    __slots__ = ()

    COLLECTIONS: ClassVar[tuple[str, ...]] = ()
    """Attributes that hold a growing dict, set, OrderedDict, defaultdict, array or deque; others are passed by."""
    NESTED: ClassVar[tuple[str, ...]] = ()
    """Attributes that hold a dict whose values are such collections, to any depth; the dict itself is included."""

    CACHES: ClassVar[tuple[str, ...]] = ()
    """Attributes that hold a dict or set which costs only time to fill again: emptied at CRITICAL."""

    KIND: ClassVar[str] = ""
    """What the memory of this owner is for, in the account; empty: the name of its class."""
    KINDS: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """The same for declared attributes that are for something else."""
    SORT: ClassVar[Sort | None] = None
    """Whether the account names this owner, by its `name`, with everything below it; None: whoever is above it."""

    _declared_caches: ClassVar[tuple[str, ...]] = ()
    _declared_collections: ClassVar[tuple[str, ...]] = ()
    _declared_nested: ClassVar[tuple[str, ...]] = ()
    _declared_kinds: ClassVar[Mapping[str, str]] = KINDS

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        cls._declared_caches = _declared(cls, "CACHES")
        cls._declared_collections = _declared(cls, "COLLECTIONS")
        cls._declared_nested = _declared(cls, "NESTED")
        cls._declared_kinds = {**cls._declared_kinds, **vars(cls).get("KINDS", {})}

    @property
    def compaction_label(self) -> str:
        """Whom the bytes freed here and below are counted for, such as a vhost's name; empty: whoever is above."""
        return ""

    def children(self) -> Iterable["Compactable"]:
        """The owners below this one, at this moment; a view will do, it is copied at once."""
        return ()

    def holdings(self) -> Iterable[tuple[str, int]]:
        """What is held beside declared collections, such as buffers, as (kind, bytes); asked often, so never a walk."""
        return ()

    def shrink(self, level: Level, policy: ShrinkPolicy) -> Iterator[Step]:
        """Give back what is worth it at this level, in steps well below a millisecond.

        An owner of more than collections extends it: `yield from super().shrink(level, policy)`, then its own steps,
        which change nothing when `policy.is_dry`: they say what they would free. An `Offload` may be yielded all the
        same; in a dry run nobody carries it out. Pages of files are offered as `Cold` and not given back here.
        A MemoryError or OSError ends only this owner's part of the pass.
        """
        caches = self._declared_caches
        if level >= Level.CRITICAL:
            for name in caches:
                yield shed_attribute(self, name, policy)
            caches = ()
        for name in (*self._declared_collections, *caches):
            step = shrink_attribute(self, name, level, policy)
            if step is not None:
                yield step
        for name in self._declared_nested:
            yield from shrink_nested(self, name, level, policy)


def _declared(owner: type, declaration: str) -> tuple[str, ...]:
    """What all classes of an owner declare, base first, each name once."""
    names: dict[str, None] = {}
    for base in reversed(owner.__mro__):
        names.update(dict.fromkeys(vars(base).get(declaration, ())))
    return tuple(names)
