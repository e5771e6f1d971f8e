"""Memory over time: private memory of a broker's processes, what their cgroup is charged, and the broker's passes."""

import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Final

import psutil
from msgspec import Struct

from bench.memory.group import Charge, Group, Stalled
from bench.memory.readings import private_bytes
from ipc.data_directory import DataDirectory
from ipc.messages import control
from runtime.control.client import conversation

LOOK_SECONDS: Final = 0.1


class Point(Struct, frozen=True):
    at: float  # seconds since 1970, as passes have it
    private: int  # bytes of all processes
    charge: Charge | None
    stalled: Stalled


class Recorder:
    """Looks at a broker as long as the context lasts."""

    def __init__(self, root: psutil.Process, group: Group | None = None) -> None:
        self.points: list[Point] = []  # the oldest first
        self._root = root
        self._group = group
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Recorder":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()

    def _look(self) -> None:
        group = self._group
        while not self._is_over.wait(LOOK_SECONDS):
            try:
                private = private_bytes(self._root)
            except (OSError, psutil.NoSuchProcess):
                continue  # one of them ended in this moment
            charge = group.charge() if group else None
            stalled = group.stalled() if group else Stalled()
            self.points.append(Point(time.time(), private, charge, stalled))


def passes_of(data: Path) -> list[control.Pass]:
    """The last passes of the broker that uses this data directory, oldest first."""
    with conversation(DataDirectory(data)) as asked:
        return asked.ask(control.Passes()).all(control.Pass)
