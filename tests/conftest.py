"""What the core's tests share: a world with one vhost, ended in order after the test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.protocols.conversation import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A shard's core without sockets; closing it checks that the end finds nothing broken."""
    world = World(tmp_path)
    yield world
    world.close()
