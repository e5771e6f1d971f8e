"""How much memory a broker's processes have of their own, watched while something happens to them."""

import threading
from types import TracebackType
from typing import Final, Self

from tests.clients.running_broker import RunningBroker

_LOOK_SECONDS: Final = 0.05


def private_bytes(pids: set[int]) -> int:
    """What would be free if they all ended, by `/proc/PID/smaps_rollup`: their share of pages (PSS), anonymous only.

    Pages of files are the kernel's to drop, so a broker that reads much is not a broker that holds much.
    """
    return sum(map(_anonymous_bytes, pids))


def _anonymous_bytes(pid: int) -> int:
    with open(f"/proc/{pid}/smaps_rollup") as rollup:
        lines = dict(line.split(":", 1) for line in rollup if line.startswith("Pss_Anon:"))
    return int(lines["Pss_Anon"].split()[0]) * 1024


class MemoryWatch:
    """The most that all processes of a broker have had together since the `with` block began."""

    def __init__(self, broker: RunningBroker) -> None:
        self._pids = {broker.process.pid, *broker.descendants()}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._before = self._peak = private_bytes(self._pids)

    @property
    def grown_bytes(self) -> int:
        return self._peak - self._before

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(_LOOK_SECONDS):
            self._peak = max(self._peak, private_bytes(self._pids))
