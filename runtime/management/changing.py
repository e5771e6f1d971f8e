"""Changes of the directory on behalf of a request: made in a thread, answered when the broker acts by them."""

from collections.abc import Callable
from typing import Any

import trio
from litestar.datastructures import State

from runtime.auth.directory import Directory
from runtime.management.broker import Broker


def directory_of(state: State) -> Directory:
    directory: Directory = state.gate.directory
    return directory


async def carry_out(state: State, change: Callable[..., object], *arguments: Any) -> None:
    """Raises DirectoryRefusal."""
    broker: Broker = state.broker
    await trio.to_thread.run_sync(change, *arguments)
    await broker.follow()
