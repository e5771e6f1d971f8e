"""Who makes the traffic: publishers with confirms or transactions, consumers that acknowledge, return, reject, leave.

Each lives on one channel of a line, acts when it is asked to, and tells the ledger what it says and hears.
"""

import struct
from collections import deque
from collections.abc import Callable
from itertools import count
from random import Random
from typing import Final, Protocol

from pamqp import commands

from tests.torture.ledger import Ledger, Mark, body_of
from tests.torture.line import DELIVER, GET_OK, Heard, Line, method_frame, publish_frames, settle_frame
from tests.torture.queues import BOUNDED, CERTAIN, GRAVES, QUEUES, RANKED, TARGETS, Target

_UNANSWERED_MAX: Final = 400
_SIZES: Final = (0, 10, 10, 100, 100, 700, 3_000, 20_000)
_SIZE_LARGE: Final = 250_000
_MULTIPLE, _REQUEUE = 1, 2
_ACK: Final = commands.Basic.Ack.index
_NACK: Final = commands.Basic.Nack.index
_TO_CONSUME: Final = tuple(queue for queue in QUEUES if queue != GRAVES)


class Actor(Protocol):
    """`act` says something, `hear` takes what came on the actor's channel.

    `part` is called when the broker has answered that the connection ends: so it has heard all that was said.
    """

    def act(self, random: Random) -> None: ...

    def hear(self, heard: Heard) -> None: ...

    def part(self) -> None: ...


class Publisher:
    """Publishes bursts in confirm mode, far ahead of its confirms."""

    def __init__(self, line: Line, channel: int, ledger: Ledger, number: int) -> None:
        self._line, self._channel, self._ledger = line, channel, ledger
        self._publisher = number
        self._numbers = count()
        self._tags = count(1)
        self._unanswered: deque[tuple[int, Target, Mark]] = deque()
        line.say(method_frame(channel, commands.Confirm.Select()))

    def act(self, random: Random) -> None:
        if len(self._unanswered) > _UNANSWERED_MAX or self._line.is_congested:
            return
        target = random.choice(TARGETS)
        for _ in range(random.choice((1, 1, 5, 60))):
            mark, data = message(random, self._publisher, next(self._numbers), self._channel, target)
            self._ledger.published(target.queues, mark)
            self._unanswered.append((next(self._tags), target, mark))
            self._line.say(data)

    def hear(self, heard: Heard) -> None:
        if heard.method in (_ACK, _NACK):
            tag, flags = struct.unpack_from(">QB", heard.payload, 4)
            self._answered(tag, self._refuse if heard.method == _NACK else self._ledger.confirmed, flags & _MULTIPLE)

    def _answered(self, tag: int, how: Callable[[tuple[str, ...], Mark], None], is_multiple: int) -> None:
        """Confirms may come out of order, so one in the middle leaves the others where they are."""
        kept: deque[tuple[int, Target, Mark]] = deque()
        while self._unanswered and self._unanswered[0][0] <= tag:
            entry = self._unanswered.popleft()
            if is_multiple or entry[0] == tag:
                how(tuple(entry[1].queues), entry[2])
            else:
                kept.append(entry)
        self._unanswered.extendleft(reversed(kept))

    def part(self) -> None:
        for _tag, target, mark in self._unanswered:
            if BOUNDED not in target.queues:
                self._ledger.confirmed(tuple(target.queues), mark)

    def _refuse(self, queues: tuple[str, ...], mark: Mark) -> None:
        if BOUNDED not in queues:
            self._ledger.faults.append(f"{mark} was refused by {queues}, which have no limit")
        self._ledger.refused(queues, mark)


class Committer:
    """Publishes and settles in transactions, of which some are rolled back and some never end."""

    def __init__(self, line: Line, channel: int, ledger: Ledger, number: int) -> None:
        self._line, self._channel, self._ledger = line, channel, ledger
        self._publisher = number
        self._numbers = count()
        self._queue = ""
        self._awaited = 0  # answers to basic.get
        self._is_ending = False
        self._published: list[tuple[Target, Mark]] = []
        self._held: list[tuple[int, Mark]] = []
        self._acknowledged: list[Mark] = []
        line.say(method_frame(channel, commands.Tx.Select()))

    def act(self, random: Random) -> None:
        if self._awaited or self._is_ending or self._line.is_congested:
            return
        if self._published:
            self._end(random)
        else:
            self._begin(random)

    def _begin(self, random: Random) -> None:
        target = random.choice(CERTAIN)
        for _ in range(random.randint(1, 20)):
            mark, data = message(random, self._publisher, next(self._numbers), self._channel, target)
            self._published.append((target, mark))
            self._line.say(data)
        self._queue = random.choice(_TO_CONSUME)
        self._awaited = random.randrange(4)
        self._line.say(method_frame(self._channel, commands.Basic.Get(queue=self._queue)) * self._awaited)

    def _end(self, random: Random) -> None:
        self._is_ending = True
        if random.random() < 0.2:
            self._published = []
            self._line.say(method_frame(self._channel, commands.Tx.Rollback()))
            return
        for target, mark in self._published:  # before the commit is said nobody may ever see them
            self._ledger.published(target.queues, mark)
        for tag, mark in self._held:
            self._ledger.leaving(self._queue, mark)
            self._acknowledged.append(mark)
            self._line.say(settle_frame(self._channel, commands.Basic.Ack, tag, 0))
        self._held = []
        self._line.say(method_frame(self._channel, commands.Tx.Commit()))

    def hear(self, heard: Heard) -> None:
        if heard.method == GET_OK:
            self._awaited -= 1
            mark = self._ledger.delivered(self._queue, heard.body, self._line.holder)
            if mark is not None:
                self._held.append((struct.unpack_from(">Q", heard.payload, 4)[0], mark))
        elif heard.method == commands.Basic.GetEmpty.index:
            self._awaited -= 1
        elif heard.method == commands.Tx.CommitOk.index:
            for target, mark in self._published:
                self._ledger.confirmed(target.queues, mark)
            for mark in self._acknowledged:
                self._ledger.settled(self._queue, mark)
            self._published, self._acknowledged, self._is_ending = [], [], False
        elif heard.method == commands.Tx.RollbackOk.index:
            self._return_held()
            self._is_ending = False

    def part(self) -> None:
        """What was said last may have been an unfinished transaction; its end tells nothing."""

    def _return_held(self) -> None:
        """What was not acknowledged would otherwise be kept from the others for the rest of the round."""
        for _tag, mark in self._held:
            self._ledger.returned(self._queue, mark)
        self._held = []
        self._line.say(method_frame(self._channel, commands.Basic.Recover(True)))


class Taker:
    """Consumes one queue and does everything that can be done with a delivery."""

    def __init__(self, line: Line, channel: int, ledger: Ledger, random: Random) -> None:
        self._line, self._channel, self._ledger = line, channel, ledger
        self._queue = random.choice(_TO_CONSUME)
        self._held: deque[tuple[int, Mark]] = deque()
        self._said: list[Mark] = []  # settled, not known to have been heard
        self._barriers: deque[list[Mark]] = deque()  # what each basic.qos-ok will prove
        self._latest: dict[tuple[int, int], int] = {}
        prefetch = random.choice((0, 1, 10, 100))
        line.say(method_frame(channel, commands.Basic.Qos(prefetch_count=prefetch)))
        self._barriers.append([])
        line.say(method_frame(channel, commands.Basic.Consume(queue=self._queue)))

    def act(self, random: Random) -> None:
        if not self._held or self._line.is_congested:
            return
        deed = random.random()
        if deed < 0.35:
            self._acknowledge(random, _MULTIPLE)
        elif deed < 0.6:
            self._acknowledge(random, 0)
        elif deed < 0.7:
            self._nack(random, _REQUEUE, self._ledger.returned)
        elif deed < 0.8:
            self._nack(random, 0, self._reject)
        if random.random() < 0.4:
            self._barriers.append(self._said)
            self._said = []
            self._line.say(method_frame(self._channel, commands.Basic.Qos()))

    def _acknowledge(self, random: Random, multiple: int) -> None:
        taken = [self._held.popleft() for _ in range(random.randint(1, min(len(self._held), 50)))]
        for _tag, mark in taken:
            self._ledger.leaving(self._queue, mark)
            self._said.append(mark)
        if multiple:
            self._line.say(settle_frame(self._channel, commands.Basic.Ack, taken[-1][0], _MULTIPLE))
        else:
            random.shuffle(taken)
            self._line.say(*(settle_frame(self._channel, commands.Basic.Ack, tag, 0) for tag, _mark in taken))

    def _nack(self, random: Random, flags: int, note: Callable[[str, Mark], None]) -> None:
        at = random.randrange(len(self._held))
        tag, mark = self._held[at]
        del self._held[at]
        note(self._queue, mark)
        self._line.say(settle_frame(self._channel, commands.Basic.Nack, tag, flags))

    def _reject(self, queue: str, mark: Mark) -> None:
        self._ledger.rejected(queue, mark)
        self._said.append(mark)

    def hear(self, heard: Heard) -> None:
        if heard.method == DELIVER:
            self._deliver(heard)
        elif heard.method == commands.Basic.QosOk.index:
            for mark in self._barriers.popleft():
                self._ledger.settled(self._queue, mark)

    def part(self) -> None:
        for mark in [mark for marks in (*self._barriers, self._said) for mark in marks]:
            self._ledger.settled(self._queue, mark)

    def _deliver(self, heard: Heard) -> None:
        at = 5 + heard.payload[4]  # behind the consumer tag
        tag, is_redelivered = struct.unpack_from(">QB", heard.payload, at)
        mark = self._ledger.delivered(self._queue, heard.body, self._line.holder)
        if mark is None:
            return
        self._held.append((tag, mark))
        key = (mark.publisher, mark.priority)
        if not is_redelivered:
            if self._latest.get(key, -1) > mark.number:
                self._ledger.faults.append(f"{self._queue}: {mark} was delivered after number {self._latest[key]}")
            self._latest[key] = mark.number


class Builder:
    """Declares durable queues and deletes them again, one question at a time."""

    def __init__(self, line: Line, channel: int, ledger: Ledger, number: int) -> None:
        self._line, self._channel, self._ledger = line, channel, ledger
        self._number = number
        self._numbers = count()
        self._names: list[str] = []
        self._asked = ""

    def act(self, random: Random) -> None:
        if self._asked or random.random() < 0.7:
            return
        if self._names and random.random() < 0.5:
            self._asked = self._names.pop(random.randrange(len(self._names)))
            self._ledger.queue_unsettled(self._asked)
            self._line.say(method_frame(self._channel, commands.Queue.Delete(queue=self._asked)))
        else:
            self._asked = f"built-{self._number}-{next(self._numbers)}"
            self._ledger.queue_unsettled(self._asked)
            self._line.say(method_frame(self._channel, commands.Queue.Declare(queue=self._asked, durable=True)))

    def hear(self, heard: Heard) -> None:
        if heard.method == commands.Queue.DeclareOk.index:
            self._names.append(self._asked)
            self._ledger.queue_settled(self._asked, exists=True)
        elif heard.method == commands.Queue.DeleteOk.index:
            self._ledger.queue_settled(self._asked, exists=False)
        self._asked = ""

    def part(self) -> None:
        """Nothing follows: the answer was on its way, or will be found out."""


def message(random: Random, publisher: int, number: int, channel: int, target: Target) -> tuple[Mark, bytes]:
    """A new message and its frames."""
    mark = Mark(publisher, number, random.randrange(4) if RANKED in target.queues else 0)
    size_bytes = _SIZE_LARGE if random.random() < 0.002 else random.choice(_SIZES)
    body = body_of(mark, size_bytes)
    return mark, publish_frames(channel, target.exchange, target.routing_key, body, mark.priority)
