"""Every collection that the supervisor declares shrinks where it is, and loses nothing: one test for each."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ipc.messages.commands import Level
from runtime.owner import Owner, Rebuilding, rebuild
from tests.compaction.collections_table import Declared, of_management, of_supervisor
from tests.compaction.outgrowing import contents, outgrow
from tests.runtime.loaded_management import loaded_management
from tests.runtime.loaded_supervisor import loaded_supervisor, owners_of

BOUNDED_FROM_ABOVE = {"LogRing._lines", "Passes._passes"}
"""Deques with a largest size, which are copied only when that is smaller."""


@pytest.mark.parametrize("one", of_supervisor(), ids=lambda one: one.label)
def test_it_shrinks(one: Declared, tmp_path: Path) -> None:
    shrinks(one, loaded_supervisor(tmp_path))


@pytest.mark.parametrize("one", of_management(), ids=lambda one: one.label)
def test_it_shrinks_behind_the_api(one: Declared, tmp_path: Path) -> None:
    shrinks(one, loaded_management(tmp_path))


def shrinks(one: Declared, root: Owner) -> None:
    owner = next(owner for owner in owners_of(root) if isinstance(owner, one.owner) and getattr(owner, one.name))
    old = getattr(owner, one.name)
    expected = contents(old)
    outgrow(old)

    assert not any(step.failed for step in rebuild(root))

    fresh: Any = getattr(owner, one.name)
    assert fresh is not old or one.label in BOUNDED_FROM_ABOVE
    assert contents(fresh) == expected


@pytest.mark.parametrize(("level", "left"), [(Level.TRIM, 20), (Level.RELEASE, 20), (Level.CRITICAL, 0)])
@pytest.mark.parametrize("load", [loaded_supervisor, loaded_management])
def test_caches_are_emptied_when_memory_is_critical(
    load: Callable[[Path], Owner], level: Level, left: int, tmp_path: Path
) -> None:
    root = load(tmp_path)

    steps = list(rebuild(root, Rebuilding(level=level)))

    held = [len(getattr(owner, name)) for owner in owners_of(root) for name in owner.CACHES]
    assert held == [left]
    assert any(step.kind == "cache" and step.size_bytes > 0 for step in steps) is (left == 0)
