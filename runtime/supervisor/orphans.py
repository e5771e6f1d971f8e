"""Buries who is left to us: as a container's first process we are the parent of everybody whose own parent has ended.

On a whole machine init does this, and here is nothing to do. In a container there is no other init: shards of a
template that was killed, and what a command run in there left behind, would stay as zombies and take up its limit of
processes.
"""

import os
import signal
from collections.abc import Callable, Collection, Iterable

import psutil
import trio


async def bury_orphans(own: Callable[[], Iterable[int | None]]) -> None:
    """Until cancelled. `own` are the pids of children that somebody else waits for."""
    with trio.open_signal_receiver(signal.SIGCHLD) as ended:
        _bury(frozenset(own()))
        async for _number in ended:
            _bury(frozenset(own()))


def _bury(spared: Collection[int | None]) -> None:
    """Child by child: to ask for any of them would take the spared ones' endings from whoever waits for them."""
    for child in psutil.Process().children():
        if child.pid not in spared:
            try:
                os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG)
            except ChildProcessError:
                pass  # its number has another owner by now
