"""The memory that all processes of one measurement share: counters that only one of them writes, and a stop word.

```
stopped u64 | pad u64 * 7 | row of worker 0 | row of worker 1 | … | latency buckets of worker 0 | …
row: words as `Column` names them, padded to whole cache lines
```

Workers that share a process have a row each; what is true of the process stands in the first of them.
"""

import mmap
from enum import IntEnum
from typing import Final

from ipc.wire.amqp import traffic

_LINE_WORDS: Final = 8
_ROW_WORDS: Final = 2 * _LINE_WORDS
_STOPPED: Final = 0


class Column(IntEnum):
    """What a worker says about itself."""

    PUBLISHED = 0
    CONFIRMED = 1
    REFUSED = 2  # by basic.nack
    CONSUMED = 3
    DIFFERENT = 4  # bodies that were not what they should be
    OPERATIONS = 5  # of churns
    # of the process
    READY = 6
    ENDED_NS = 7  # on the monotonic clock
    RUNNING_NS = 8  # on a core, between start and end
    WAITING_NS = 9  # for a core
    ELAPSED_NS = 10  # between start and end


class Row:
    """One worker's part; `words` is what its loops write to, `buckets` where its latencies are counted."""

    __slots__ = ("_stopped", "buckets", "words")

    def __init__(self, stopped: memoryview, words: memoryview, buckets: memoryview) -> None:
        self._stopped = stopped
        self.words = words
        self.buckets = buckets

    def is_stopped(self) -> bool:
        return bool(self._stopped[_STOPPED])


class Board:
    """Made before the workers are forked."""

    def __init__(self, workers: int, *, with_latencies: bool = False) -> None:
        self.workers = workers
        self._buckets = traffic.BUCKETS if with_latencies else 0
        words = _LINE_WORDS + workers * (_ROW_WORDS + self._buckets)
        self._words = memoryview(mmap.mmap(-1, 8 * words)).cast("Q")

    def stop(self) -> None:
        """Ask all workers to come to an end."""
        self._words[_STOPPED] = 1

    def row(self, worker: int) -> Row:
        at = _LINE_WORDS + worker * _ROW_WORDS
        buckets_at = _LINE_WORDS + self.workers * _ROW_WORDS + worker * self._buckets
        return Row(
            self._words[:1], self._words[at : at + _ROW_WORDS], self._words[buckets_at : buckets_at + self._buckets]
        )

    def value(self, worker: int, column: Column) -> int:
        return self._words[_LINE_WORDS + worker * _ROW_WORDS + column]

    def total(self, column: Column) -> int:
        return sum(self.value(worker, column) for worker in range(self.workers))

    def values(self, workers: range, column: Column) -> list[int]:
        return [self.value(worker, column) for worker in workers]

    def buckets(self) -> list[int]:
        """Latencies of all workers together."""
        total = [0] * self._buckets
        for worker in range(self.workers):
            for bucket, count in enumerate(self.row(worker).buckets):
                if count:
                    total[bucket] += count
        return total
