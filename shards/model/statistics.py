"""What happened how often: counters of a queue, an exchange, a channel, a connection or a virtual host, and rates.

Counting is one addition to an array for each run of messages, and nobody counts by the message. A rate is what came
between the last two samples; they are taken by whoever has a clock, of what has counted anything at all.
"""

import sys
from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple, Protocol

from ipc.limits import SAMPLES_KEPT
from shards.compaction.compactable import Compactable

# Counters of messages, by RabbitMQ's names.
PUBLISH: Final = 0  # came to it; of a queue: were put in
PUBLISH_OUT: Final = 1  # of an exchange: copies that went on from it
DELIVER: Final = 2  # handed to consumers that acknowledge
DELIVER_NO_ACK: Final = 3
GET: Final = 4
GET_NO_ACK: Final = 5
GET_EMPTY: Final = 6
ACK: Final = 7
REDELIVER: Final = 8  # of those handed out, how many not for the first time
REJECT: Final = 9
CONFIRM: Final = 10
RETURN_UNROUTABLE: Final = 11
DROP_UNROUTABLE: Final = 12
MESSAGE_COUNTERS: Final = (
    "publish",
    "publish_out",
    "deliver",
    "deliver_no_ack",
    "get",
    "get_no_ack",
    "get_empty",
    "ack",
    "redeliver",
    "reject",
    "confirm",
    "return_unroutable",
    "drop_unroutable",
)

# Of a vhost also what came and went.
CONNECTION_CREATED: Final = 13
CONNECTION_CLOSED: Final = 14
CHANNEL_CREATED: Final = 15
CHANNEL_CLOSED: Final = 16
QUEUE_DECLARED: Final = 17
QUEUE_CREATED: Final = 18
QUEUE_DELETED: Final = 19
CHURN_COUNTERS: Final = (
    "connection_created",
    "connection_closed",
    "channel_created",
    "channel_closed",
    "queue_declared",
    "queue_created",
    "queue_deleted",
)
VHOST_COUNTERS: Final = (*MESSAGE_COUNTERS, *CHURN_COUNTERS)

# Of a connection: bytes, and how often the kernel was asked.
RECEIVED_BYTES: Final = 0
RECEIVED: Final = 1
SENT_BYTES: Final = 2
SENT: Final = 3
CONNECTION_COUNTERS: Final = ("recv_oct", "recv_cnt", "send_oct", "send_cnt")


class Tally:
    """Counters, and what they stood at when the last two samples were taken; 200 to 400 bytes."""

    __slots__ = ("_before", "_last", "counts")

    def __init__(self, counters: Sequence[str] = MESSAGE_COUNTERS) -> None:
        self.counts = array("Q", bytes(8 * len(counters)))
        self._last: array[int] | None = None
        self._before: array[int] | None = None

    @property
    def size_bytes(self) -> int:
        """Of memory."""
        copies = (self._last is not None) + (self._before is not None)
        return sys.getsizeof(self) + (1 + copies) * sys.getsizeof(self.counts)

    def sample(self) -> None:
        self._before, self._last = self._last, self.counts[:]

    def gains(self) -> Iterable[int]:
        """By how much each counter grew between the last two samples."""
        if self._last is None:
            return array("Q", bytes(8 * len(self.counts)))
        if self._before is None:
            return self._last
        return (last - before for last, before in zip(self._last, self._before, strict=True))


class Countable(Protocol):
    """What may have a tally; it has none until something happens."""

    tally: Tally | None


def tally_bytes(thing: Countable) -> tuple[str, int]:
    """What its counters hold, as owners of memory say it."""
    return Sampling.KIND, 0 if thing.tally is None else thing.tally.size_bytes


def counts_of(*things: Countable) -> "tuple[array[int], ...]":
    """Their counters, for who counts often: these arrays stay theirs."""
    for thing in things:
        if thing.tally is None:
            thing.tally = Tally()
    return tuple(thing.tally.counts for thing in things if thing.tally is not None)


def count_up(thing: Countable, counter: int, number: int) -> None:
    """`number` more of one kind happened to it."""
    tally = thing.tally
    if tally is None:
        tally = thing.tally = Tally()
    tally.counts[counter] += number


class Sample(NamedTuple):
    """What a shard's counters stood at, all vhosts together, and how many messages stood in its queues."""

    at: int  # broker time
    counts: "array[int]"
    ready: int
    unacknowledged: int


class Sampling(Compactable):
    """When samples were taken, and what the shard as a whole had counted then."""

    COLLECTIONS = ("samples",)
    KIND = "statistics"

    def __init__(self) -> None:
        self.samples: deque[Sample] = deque(maxlen=SAMPLES_KEPT)
        self.taken_at = 0  # broker time
        self.interval_ms = 0  # between the last two; 0: there are none

    def begin(self, now: int) -> None:
        """A round of samples is taken now."""
        self.interval_ms = now - self.taken_at if self.taken_at else 0
        self.taken_at = now

    def rates(self, tally: Tally) -> Iterator[float]:
        """For each counter how often a second."""
        seconds = self.interval_ms / 1000
        for gain in tally.gains():
            yield round(gain / seconds, 2) if seconds > 0 else 0.0
