"""When messages are due that wait for a time: positions in the order of their due times, at 16 bytes a message.

```
lasts    1700  2450  3100                      the last due time of each chunk: which one to look into
chunks   [900 … 1700] [1700 … 2450] [2450 …]   of up to CHUNK_ENTRIES_MAX due times, and as many positions
```
Adding costs two binary searches and moves a chunk at most: among a million on CPython 3.11, 0.9 µs in the order of due
times and 1.4 µs in no order. What is due leaves at the front, which costs 0.3 µs.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterable
from typing import Final

from shards.compaction.compactable import Compactable

CHUNK_ENTRIES_MAX: Final = 1024


class Chunk(Compactable):
    """Some neighbours in the schedule."""

    __slots__ = ("dues", "positions")
    COLLECTIONS = ("dues", "positions")
    KIND = "delayed messages"

    def __init__(self, dues: "array[int]", positions: "array[int]") -> None:
        self.dues = dues
        self.positions = positions


class Schedule(Compactable):
    """Of those due at one time, the one added first comes first."""

    __slots__ = ("_chunks", "_gone", "_lasts")
    COLLECTIONS = ("_lasts",)
    KIND = "delayed messages"

    def __init__(self) -> None:
        self._chunks: list[Chunk] = []
        self._lasts = array("Q")
        self._gone = 0  # entries of the first chunk that have left already

    def children(self) -> Iterable[Compactable]:
        return self._chunks

    def __len__(self) -> int:
        return sum(len(chunk.dues) for chunk in self._chunks) - self._gone

    @property
    def next_due(self) -> int:
        """When the first one is due, in broker time; 0: nothing is there."""
        return self._chunks[0].dues[self._gone] if self._chunks else 0

    @property
    def first(self) -> int:
        """The position that is due first; there must be one."""
        return self._chunks[0].positions[self._gone]

    def add(self, due: int, position: int) -> None:
        at = bisect_right(self._lasts, due)
        if at == len(self._chunks):
            at = self._open_end(due)
        elif len(self._chunks[at].dues) >= CHUNK_ENTRIES_MAX:
            at = self._split(at, due)
        chunk = self._chunks[at]
        index = bisect_right(chunk.dues, due, 0 if at else self._gone)
        chunk.dues.insert(index, due)
        chunk.positions.insert(index, position)
        self._lasts[at] = chunk.dues[-1]

    def drop_first(self) -> None:
        """The first one leaves; there must be one."""
        self._gone += 1
        if self._gone == len(self._chunks[0].dues):
            del self._chunks[0]
            del self._lasts[0]
            self._gone = 0

    def take_all(self) -> "array[int]":
        """All positions, in order; the schedule is empty afterwards."""
        positions: array[int] = array("Q")
        for chunk in self._chunks:
            positions.extend(chunk.positions)
        del positions[: self._gone]
        self._chunks = []
        self._lasts = array("Q")
        self._gone = 0
        return positions

    def _open_end(self, due: int) -> int:
        """The last chunk, with room for what is due after everything else."""
        last = len(self._chunks) - 1
        if last >= 0 and len(self._chunks[last].dues) < CHUNK_ENTRIES_MAX:
            return last
        self._chunks.append(Chunk(array("Q"), array("Q")))
        self._lasts.append(due)
        return last + 1

    def _split(self, at: int, due: int) -> int:
        """Make two of a full chunk; the one to go on in."""
        chunk = self._chunks[at]
        begin = 0 if at else self._gone
        half = (begin + len(chunk.dues)) // 2
        former = Chunk(chunk.dues[begin:half], chunk.positions[begin:half])
        latter = Chunk(chunk.dues[half:], chunk.positions[half:])
        if not at:
            self._gone = 0
        if not former.dues:  # all but the last entry had left
            self._chunks[at] = latter
            return at
        self._chunks[at : at + 1] = [former, latter]
        self._lasts.insert(at, former.dues[-1])
        return at + (due >= former.dues[-1])
