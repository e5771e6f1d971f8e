"""Policies for tests: the default one, and ones whose copies run out of memory."""

from collections.abc import Callable
from typing import Any

from msgspec import structs

from ipc.settings import CompactionSettings
from shards.compaction.compactable import ShrinkPolicy
from shards.compaction.shrink import RULES

POLICY = ShrinkPolicy.at(CompactionSettings(), now=0)


def policy_with_copy(kind: type, copy: Callable[[Any], Any]) -> ShrinkPolicy:
    """The default policy, except that collections of one type are copied by `copy`."""
    return structs.replace(POLICY, rules={**RULES, kind: structs.replace(RULES[kind], copy=copy)})


def out_of_memory(_old: object) -> object:
    raise MemoryError


def out_of_memory_when_holding(entry: object) -> Callable[[Any], Any]:
    """A copier that fails for collections with this entry and works for others of its type."""

    def copy(old: Any) -> Any:
        if entry in old:
            raise MemoryError
        return type(old)(old)

    return copy
