"""Asks a shard's core what the management process would ask, to the end and without pauses."""

from typing import Any

from ipc.messages.inventory import Counted, Describe, Described, Document, Identity, Kind, Place, Rank
from shards.inventory.listing import describe, rank
from tests.protocols.conversation import World


def ranked(world: World, kind: Kind, *, count: int = 100, **wanted: Any) -> tuple[Counted, list[Identity]]:
    """How many there are, and which come first."""
    items = [item for item in rank(world.vhosts, Rank(kind, count=count, **wanted)) if item is not None]
    counted = items[0]
    assert isinstance(counted, Counted)
    return counted, [item.identity for item in items if isinstance(item, Place)]


def names(world: World, kind: Kind, **wanted: Any) -> list[str]:
    return [identity[-1] for identity in ranked(world, kind, **wanted)[1]]


def shown(world: World, kind: Kind, *identity: str, in_detail: bool = False) -> Document | None:
    """As one thing is shown; None where there is none."""
    request = Describe(kind, (("/", identity),), in_detail=in_detail)
    for item in describe(world.vhosts, request):
        if isinstance(item, Described):
            return item.document
    return None
