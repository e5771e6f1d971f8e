"""One process seen from outside: that it ended, how it ended, and that it ends when it must.

A pidfd, not a pid: a number may belong to somebody else by the time a signal is sent. It becomes readable at the end of
the process, whoever its parent is, and shards are the template's children.
"""

import os
import signal
from typing import Final, Self

import trio

KILLED_SECONDS_MAX: Final = 10.0  # after SIGKILL: only a process stuck in the kernel takes longer


class Life:
    """A process that runs, or ran; `close()` when nobody asks any more."""

    def __init__(self, pid: int, descriptor: int) -> None:
        self.pid = pid
        self._descriptor = descriptor

    @classmethod
    def of(cls, pid: int) -> Self:
        """Raises ProcessLookupError when there is no such process any more."""
        return cls(pid, os.pidfd_open(pid))

    async def ended(self) -> None:
        """Wait until the process is gone; a zombie is."""
        await trio.lowlevel.wait_readable(self._descriptor)

    def kill(self) -> None:
        try:
            signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)
        except ProcessLookupError:
            pass

    async def end(self, *, patience_seconds: float) -> bool:
        """Wait for the end, and enforce it when patience runs out; False: not even SIGKILL helped.

        Runs to completion under cancellation, because what uses the same files may only start afterwards.
        """
        with trio.CancelScope(shield=True):
            with trio.move_on_after(patience_seconds):
                await self.ended()
                return True
            self.kill()
            with trio.move_on_after(KILLED_SECONDS_MAX):
                await self.ended()
                return True
        return False

    def reap(self) -> int | None:
        """The exit status (negative: a signal) of an ended child of ours; None if another process is its parent."""
        try:
            ending = os.waitid(os.P_PIDFD, self._descriptor, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            return None
        if ending is None:
            return None
        return ending.si_status if ending.si_code == os.CLD_EXITED else -ending.si_status

    def close(self) -> None:
        os.close(self._descriptor)


def ending_text(status: int | None) -> str:
    """How a process ended, for people: `exit 3`, `SIGKILL`."""
    if status is None:
        return "unknown"
    if status >= 0:
        return f"exit {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
