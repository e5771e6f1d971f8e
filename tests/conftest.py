"""What tests share: the speed they run at, and for the core a world with one vhost, ended in order after the test."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipc.speed import read_speed
from tests.protocols.conversation import World


def pytest_configure() -> None:
    """A shell's background job ignores SIGINT, and so does what it starts: then no test could interrupt anything."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> str:
    return f"hot modules: {read_speed(os.environ)}"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A shard's core without sockets; closing it checks that the end finds nothing broken."""
    world = World(tmp_path)
    yield world
    world.close()
