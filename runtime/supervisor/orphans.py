"""Buries who is left to us: as a container's first process we are the parent of everybody whose own parent has ended.

On a whole machine init does this, and here is nothing to do. In a container there is no other init: shards of a
template that was killed, and what a command run in there left behind, would stay as zombies and take up its limit of
processes.
"""

import os
import signal
from collections.abc import Callable

import psutil
import trio


async def bury_orphans(own: Callable[[], int | None]) -> None:
    """Until cancelled. `own` is the pid of the one child that somebody else waits for, if there is one."""
    with trio.open_signal_receiver(signal.SIGCHLD) as ended:
        _bury(own())
        async for _number in ended:
            _bury(own())


def _bury(spared: int | None) -> None:
    """Child by child: to ask for any of them would take the spared one's ending from whoever waits for it."""
    for child in psutil.Process().children():
        if child.pid != spared:
            try:
                os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG)
            except ChildProcessError:
                pass  # its number has another owner by now
