"""Every collection that the supervisor declares shrinks where it is, and loses nothing: one test for each."""

from pathlib import Path
from typing import Any

import pytest

from runtime.owner import rebuild
from tests.compaction.collections_table import Declared, of_supervisor
from tests.compaction.outgrowing import contents, outgrow
from tests.runtime.loaded_supervisor import loaded_supervisor, owners_of

BOUNDED_FROM_ABOVE = {"LogRing._lines", "Passes._passes"}
"""Deques with a largest size, which are copied only when that is smaller."""


@pytest.mark.parametrize("one", of_supervisor(), ids=lambda one: one.label)
def test_it_shrinks(one: Declared, tmp_path: Path) -> None:
    supervisor = loaded_supervisor(tmp_path)
    owner = next(owner for owner in owners_of(supervisor) if isinstance(owner, one.owner) and getattr(owner, one.name))
    old = getattr(owner, one.name)
    expected = contents(old)
    outgrow(old)

    assert not any(step.failed for step in rebuild(supervisor, ratio=2.0, floor_bytes=4096))

    fresh: Any = getattr(owner, one.name)
    assert fresh is not old or one.label in BOUNDED_FROM_ABOVE
    assert contents(fresh) == expected
