"""Every collection that any owner of a shard declares shrinks where it is, and loses nothing: one test for each."""

from pathlib import Path
from typing import Any

import pytest

from ipc.messages.commands import Level
from ipc.settings import CompactionSettings
from shards.compaction.compactable import Offload, ShrinkPolicy
from tests.compaction.collections_table import Declared, held_by, of_shards
from tests.compaction.heap_walk import owners
from tests.compaction.outgrowing import contents, outgrow
from tests.host.test_heap_walk import loaded_shard


@pytest.mark.parametrize("one", of_shards(), ids=lambda one: one.label)
def test_it_shrinks(one: Declared, tmp_path: Path) -> None:
    with loaded_shard(tmp_path) as shard:
        owner = next((owner for owner in owners(shard) if isinstance(owner, one.owner) and has(owner, one.name)), None)
        assert owner is not None, f"nothing was loaded that holds a {one.label}"
        old = getattr(owner, one.name)
        expected = contents(old)
        size = outgrow(old)

        for step in owner.shrink(Level.RELEASE, ShrinkPolicy.at(CompactionSettings(), now=1)):
            if isinstance(step, Offload):
                step.work()

        fresh: Any = getattr(owner, one.name)
        assert fresh is not old
        assert type(fresh) is type(old)
        assert fresh.__sizeof__() < size
        assert contents(fresh) == expected
        assert any(held is fresh for held in held_by(one, [owner]))


def has(owner: object, name: str) -> bool:
    return getattr(owner, name, None) is not None
