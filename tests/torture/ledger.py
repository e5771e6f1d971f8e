"""The clients' side of the books: what the broker promised about each message of a vhost, and where it broke its word.

```
 published ─► wished ──confirm, commit-ok, found after a crash──► promised ──ack sent──► leaving ──later answer──► gone
                 └──nack, missing after a crash──► gone               └──found after a crash──┘
```
What is wished or leaving may be there or not, what is promised must be there once, and what is gone must never be seen
again. What an audit has found out stays so: a message that was there after a crash must be there after the next one. To
be delivered is no promise: while the disk is full consumers get what nobody has written yet.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import Final, NamedTuple

from tests.torture.queues import BURYING, GRAVES, LIMITED

_PATTERN: Final = Random(0).randbytes(300_000)
_FAULTS_MAX: Final = 20  # told of one audit


class Mark(NamedTuple):
    """Which message: the publisher's how manieth, and its priority."""

    publisher: int
    number: int
    priority: int


class Copy:
    """A message in one queue."""

    __slots__ = ("burials_max", "holder", "is_leaving", "is_promised")

    def __init__(self) -> None:
        self.is_promised = False
        self.is_leaving = False
        self.holder: object | None = None  # the connection that was given it and still has it
        self.burials_max = 0  # how many times it may have been dead-lettered since the last audit


class Ledger:
    """Of one vhost. `faults` are sentences, each a broken promise."""

    def __init__(self) -> None:
        self.copies: dict[str, dict[Mark, Copy]] = {}
        self.queues: dict[str, bool | None] = {}  # those that come and go: whether they exist, None while it is asked
        self.faults: list[str] = []
        self.tally: Counter[str] = Counter()
        self.may_forget = False  # a disk that is full takes no acknowledgements either: what dies then brings them back

    def published(self, queues: Iterable[str], mark: Mark) -> None:
        for queue in queues:
            self.copies.setdefault(queue, {})[mark] = Copy()
        self.tally["published"] += 1

    def confirmed(self, queues: Iterable[str], mark: Mark) -> None:
        """The broker has promised to keep it. A consumer may have been quicker, and it is gone by now."""
        for queue in queues:
            copy = self.copies[queue].get(mark)
            if copy is not None:
                copy.is_promised = True
        self.tally["confirmed"] += 1

    def refused(self, queues: Iterable[str], mark: Mark) -> None:
        for queue in queues:
            del self.copies[queue][mark]
        self.tally["refused"] += 1

    def delivered(self, queue: str, body: bytes, holder: object | None) -> Mark | None:
        mark = self._identified(queue, body)
        copy = self.copies.get(queue, {}).get(mark) if mark is not None else None
        if mark is None or copy is None:
            self._fault(f"{queue}: {mark} was delivered and should not exist: it was settled, or never published")
            return None
        if copy.holder is not None:
            self._fault(f"{queue}: {mark} was delivered although somebody has it")
        if queue == LIMITED:
            copy.burials_max += 1  # whatever becomes of the delivery may be one return too many
        copy.holder = holder
        copy.is_leaving = False  # nobody heard that somebody was done with it
        self.tally["delivered"] += 1
        return mark

    def leaving(self, queue: str, mark: Mark) -> None:
        """Acknowledged, but who knows whether the broker has heard it."""
        self.copies[queue][mark].is_leaving = True

    def returned(self, queue: str, mark: Mark) -> None:
        self.copies[queue][mark].holder = None
        self.tally["returned"] += 1

    def rejected(self, queue: str, mark: Mark) -> None:
        copy = self.copies[queue][mark]
        copy.holder = None
        if queue in BURYING:
            copy.burials_max += 1
        else:
            copy.is_leaving = True
        self.tally["rejected"] += 1

    def settled(self, queue: str, mark: Mark) -> None:
        """The broker has answered something that was said after the acknowledgement."""
        copy = self.copies[queue].get(mark)
        if copy is not None and copy.is_leaving:
            if not self.may_forget:
                del self.copies[queue][mark]
            self.tally["settled"] += 1

    def let_go(self, holder: object) -> None:
        """A connection has ended: all it held is anybody's again."""
        for copies in self.copies.values():
            for copy in copies.values():
                if copy.holder is holder:
                    copy.holder = None

    # queues that come and go ------------------------------------------------------------------------------------------

    def queue_unsettled(self, name: str) -> None:
        """Its declaration or deletion is on its way."""
        self.queues[name] = None

    def queue_settled(self, name: str, *, exists: bool) -> None:
        self.queues[name] = exists
        self.tally["declared" if exists else "deleted"] += 1

    def queue_found(self, name: str, *, exists: bool) -> None:
        """What an audit saw; from now on it has to stay so."""
        if self.queues[name] is (not exists):
            self._fault(f"queue {name} {'exists' if exists else 'is gone'}, the broker had answered otherwise")
        self.queues[name] = exists

    # the audit --------------------------------------------------------------------------------------------------------

    def audit(self, found: Mapping[str, Sequence[bytes]]) -> None:
        """Compare with all that is in the queues, when no client is there; what was uncertain is certain afterwards."""
        marks = {queue: self._read(queue, bodies) for queue, bodies in found.items()}
        graves = Counter(marks.pop(GRAVES))
        for queue, seen in marks.items():
            self._check_order(queue, seen)
            self._judge(queue, seen, graves)
        self.tally["found"] += sum(map(len, marks.values()))
        self.tally["buried"] += graves.total()

    def drained(self, queues: Iterable[str]) -> None:
        """Everything an audit found there was acknowledged, and that was answered."""
        for queue in queues:
            self.copies.pop(queue, None)

    def _read(self, queue: str, bodies: Iterable[bytes]) -> list[Mark]:
        return [mark for body in bodies if (mark := self._identified(queue, body)) is not None]

    def _judge(self, queue: str, seen: Sequence[Mark], graves: "Counter[Mark]") -> None:
        copies = self.copies.setdefault(queue, {})
        for mark, times in Counter(seen).items():
            if times > 1:
                self._fault(f"{queue}: {mark} is there {times} times")
            if mark not in copies:
                self._fault(f"{queue}: {mark} is there and should not be: it was settled, or never published")
        there = set(seen)
        for mark, copy in list(copies.items()):
            buried = graves[mark]
            if buried > copy.burials_max:
                self._fault(f"{queue}: {mark} is {buried} times in {GRAVES}, at most {copy.burials_max} expected")
            if mark not in there and copy.is_promised and not copy.is_leaving and not buried:
                self._fault(f"{queue}: {mark} is lost (it may have been buried {copy.burials_max} times, and was not)")
            if mark in there:
                copy.is_promised, copy.is_leaving, copy.holder, copy.burials_max = True, False, None, 0
            else:
                del copies[mark]
        if queue in BURYING:
            return
        for mark in graves.keys() & copies.keys():
            self._fault(f"{queue}: {mark} is in {GRAVES}, where it has no business")

    def _check_order(self, queue: str, seen: Iterable[Mark]) -> None:
        """Messages of one publisher and priority stand in the order in which they were published."""
        latest: dict[tuple[int, int], int] = {}
        for mark in seen:
            key = (mark.publisher, mark.priority)
            if latest.get(key, -1) >= mark.number:
                self._fault(f"{queue}: {mark} stands behind number {latest[key]}")
            latest[key] = mark.number

    def _identified(self, queue: str, body: bytes) -> Mark | None:
        mark = mark_of(body)
        if mark is None:
            self._fault(f"{queue}: a message of {len(body)} bytes is none of ours: {body[:60]!r}")
        return mark

    def _fault(self, sentence: str) -> None:
        self.tally["faults"] += 1
        if len(self.faults) < _FAULTS_MAX:
            self.faults.append(sentence)


def body_of(mark: Mark, size_bytes: int) -> bytes:
    """What the message says: who it is, and a pattern that shows when bytes are missing or another message's."""
    head = b"%d %d %d %d " % (*mark, size_bytes)
    start = mark.number % 1000
    return head + _PATTERN[start : start + size_bytes]


def mark_of(body: bytes) -> Mark | None:
    """Whose body that is; None when not every byte is as it was published."""
    parts = body.split(b" ", 4)
    try:
        publisher, number, priority, size_bytes = map(int, parts[:4])
    except ValueError:
        return None
    mark = Mark(publisher, number, priority)
    return mark if body == body_of(mark, size_bytes) else None
