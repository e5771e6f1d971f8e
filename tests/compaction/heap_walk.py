"""Finds growing collections that a cascade does not reach, by walking the heap below its root.

What a pass reaches is read off the declarations; what exists is read off the interpreter's own references. The
difference, among collections that hold something, is what an owner forgot to declare or a parent forgot to list.
"""

import gc
from array import array
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from types import (
    BuiltinFunctionType,
    CodeType,
    FrameType,
    FunctionType,
    GetSetDescriptorType,
    MappingProxyType,
    MemberDescriptorType,
    ModuleType,
)
from typing import Any, NamedTuple

from shards.compaction.compactable import Compactable

GROWING = (dict, OrderedDict, defaultdict, set, array, deque)
# Code, and what is shared by all objects of a kind: it grows with the program, not with its load.
FIXED = (
    type,
    ModuleType,
    CodeType,
    FrameType,
    BuiltinFunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MappingProxyType,
    str,
    bytes,
    int,
    float,
)


class Unreached(NamedTuple):
    """A collection that no pass will ever shrink, and how it is held: `Shard._pump < Pump < dict of 64`."""

    path: str
    collection: Any


def owners(root: Compactable) -> Iterator[Compactable]:
    """Every owner that a cascade from `root` visits."""
    pending = [root]
    while pending:
        owner = pending.pop()
        yield owner
        pending.extend(owner.children())


def declared(owner: Compactable) -> Iterator[Any]:
    """Every collection that an owner's declarations name."""
    for name in (*owner._declared_collections, *owner._declared_caches):
        yield getattr(owner, name, None)
    pending = [getattr(owner, name, None) for name in owner._declared_nested]
    while pending:
        collection = pending.pop()
        yield collection
        if isinstance(collection, dict):
            pending.extend(value for value in collection.values() if isinstance(value, GROWING))


def unreached(
    root: Any,
    *,
    entries_min: int = 8,
    is_expected: Callable[[str, Any], bool] = lambda _path, _found: False,
    owners_of: Callable[[Any], Iterable[Any]] = owners,
    declared_by: Callable[[Any], Iterable[Any]] = declared,
) -> list[Unreached]:
    """Collections of at least `entries_min` entries below `root` that its pass does not reach.

    `is_expected(path, collection)` excuses what has a bound of its own; `owners_of` and `declared_by` tell what a pass
    reaches where that is no cascade.
    """
    covered = {id(collection) for owner in owners_of(root) for collection in declared_by(owner)}
    return [
        Unreached(path, found)
        for path, found in _heap(root)
        if isinstance(found, GROWING)
        and len(found) >= entries_min
        and id(found) not in covered
        and not is_expected(path, found)
    ]


def _heap(root: object) -> Iterator[tuple[str, Any]]:
    """Everything reachable from `root` through data, each with one path to it."""
    seen = {id(root)}
    pending: list[tuple[str, Any]] = [(type(root).__name__, root)]
    while pending:
        path, found = pending.pop()
        for inner in _referents(found):
            if id(inner) in seen or isinstance(inner, FIXED):
                continue
            seen.add(id(inner))
            step = f"{path} < {type(inner).__name__}"
            pending.append((step, inner))
            yield step, inner


def _referents(found: Any) -> Iterator[Any]:
    if isinstance(found, FunctionType):
        # Not its globals: what it closed over.
        for cell in found.__closure__ or ():
            try:
                yield cell.cell_contents
            except ValueError:
                pass
        return
    attributes = getattr(found, "__dict__", None)
    if isinstance(attributes, dict):
        # The attributes themselves, without the dictionary that CPython makes when somebody asks for it.
        yield from attributes.values()
    for inner in gc.get_referents(found):
        if inner is not attributes:
            yield inner
