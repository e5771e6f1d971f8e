"""The last lines that the broker's processes have logged, kept for whoever wants to see them.

Every process sends a copy of each line over one socket pair, the supervisor itself included. What is kept is bounded in
bytes, and the oldest lines go first. Readers hold nothing here: they ask for what comes after the last line they have
seen, and are told how many are not there any more.

Numbers of lines begin with the milliseconds since 1970 at which the broker was started, so that those of an earlier
life are told from those of this one.
"""

import sys
import time
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Final

import msgspec
import trio
from msgspec import Struct

from ipc.limits import (
    LOG_KEPT_BYTES_MAX,
    LOG_KEPT_CRITICAL_BYTES,
    LOG_KEPT_RELEASE_BYTES,
    LOG_PAGE_BYTES,
    LOG_PAUSE_SECONDS,
    LOG_TAKEN_AT_ONCE_MAX,
    PACKET_BYTES_MAX,
)
from ipc.link import link_pair
from ipc.messages.commands import Level
from ipc.messages.log_lines import LogLine
from runtime.owner import Owner, Rebuilding

_KEPT_BYTES: Final = {
    Level.TRIM: LOG_KEPT_BYTES_MAX,
    Level.RELEASE: LOG_KEPT_RELEASE_BYTES,
    Level.CRITICAL: LOG_KEPT_CRITICAL_BYTES,
}


class Extract(Struct, frozen=True):
    """Lines that come one after the other, the first of which has the number `first`; `lost` are not there any more."""

    first: int
    lines: tuple[LogLine, ...]
    lost: int = 0

    @property
    def last(self) -> int:
        """The number of the last line that the reader knows about now."""
        return self.first + len(self.lines) - 1


class LogRing(Owner):
    """What was logged last; `outlet` is where processes send their lines."""

    COLLECTIONS = ("_lines",)

    def __init__(self) -> None:
        inlet, self.outlet = link_pair()
        inlet.setblocking(False)  # noqa: FBT003 - the standard library's own
        self._inlet = inlet
        self._lines: deque[bytes] = deque()
        self._size_bytes = 0
        self._first = self._born = int(time.time() * 1000)
        self._grown = trio.lowlevel.ParkingLot()
        self._decoder = msgspec.msgpack.Decoder(LogLine)

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def size_bytes(self) -> int:
        return self._size_bytes + sys.getsizeof(self._lines)

    @property
    def newest(self) -> int:
        """The number of the last line; one before the first if there is none."""
        return self._first + len(self._lines) - 1

    async def run(self) -> None:
        """Take in what processes send, until cancelled."""
        while True:
            await trio.lowlevel.wait_readable(self._inlet)
            self._take()
            await trio.sleep(LOG_PAUSE_SECONDS)

    def close(self) -> None:
        self._inlet.close()
        self.outlet.close()

    def add(self, line: bytes) -> None:
        """Keep an encoded `LogLine`."""
        self._lines.append(line)
        self._size_bytes += sys.getsizeof(line)
        self._cut(LOG_KEPT_BYTES_MAX)
        if self._grown:
            self._grown.unpark_all()

    async def after(self, number: int, *, seconds: float) -> Extract:
        """The lines after this one, a page of them; waits for `seconds` if there are none.

        A number that was given to no line of this life: from the oldest line on.
        """
        if number == self.newest:
            with trio.move_on_after(seconds):
                await self._grown.park()
        return self._extract(number)

    def shed(self, how: Rebuilding) -> int:
        """Let the oldest go when memory is short."""
        size_bytes_max = _KEPT_BYTES[how.level]
        return self._excess(size_bytes_max) if how.is_dry else self._cut(size_bytes_max)

    def _take(self) -> None:
        for _ in range(LOG_TAKEN_AT_ONCE_MAX):
            try:
                packet = self._inlet.recv(PACKET_BYTES_MAX)
            except BlockingIOError:
                return
            self.add(packet)

    def _excess(self, size_bytes_max: int) -> int:
        """What a cut would take away."""
        left = self._size_bytes
        for line in self._lines:
            if left <= size_bytes_max:
                break
            left -= sys.getsizeof(line)
        return self._size_bytes - left

    def _cut(self, size_bytes_max: int) -> int:
        before = self._size_bytes
        while self._size_bytes > size_bytes_max:
            self._size_bytes -= sys.getsizeof(self._lines.popleft())
            self._first += 1
        return before - self._size_bytes

    def _extract(self, number: int) -> Extract:
        is_ours = self._born <= number + 1 and number <= self.newest
        first = max(self._first, number + 1) if is_ours else self._first
        page = tuple(self._page(first))
        return Extract(first, page, lost=first - number - 1 if is_ours else 0)

    def _page(self, first: int) -> Iterator[LogLine]:
        size_bytes = 0
        for line in islice(self._lines, first - self._first, None):
            size_bytes += len(line)
            if size_bytes > LOG_PAGE_BYTES:
                return
            yield self._decoder.decode(line)
