"""Publisher confirms: `basic.ack` as soon as everything up to a message is as safe as its kind promises, coalesced.

A turn's publishes are confirmed together. If one of them is persistent and reached a durable queue, all of them wait
for the round that brings it to disk; so acknowledgements always come in order, with `multiple` set for more than one.
"""

import struct
import sys
from collections.abc import Callable
from typing import Final

from ipc.wire.amqp import frames
from shards.model.turn import Turn

_SETTLE: Final = struct.Struct(">HHQB")  # class and method, delivery tag, flags


class Confirms:
    """The confirm state of one channel; numbers count its publishes since `confirm.select`, from 1."""

    __slots__ = (
        "_awaits_disk",
        "_channel",
        "_confirmed",
        "_count",
        "_disk_counts",
        "_is_listed",
        "_pending",
        "_published",
        "_refused",
        "_turn",
        "_write",
    )

    def __init__(
        self,
        channel: int,
        turn: Turn,
        write: Callable[[bytes], None],
        count: Callable[[int], None],
        *,
        disk_counts: bool,
    ) -> None:
        """`count` is told how many were confirmed; `disk_counts`: it is not enough that the kernel has what is kept."""
        self._channel = channel
        self._turn = turn
        self._write = write
        self._count = count
        self._disk_counts = disk_counts
        self._published = 0
        self._confirmed = 0
        self._refused: list[int] = []  # numbers of publishes to be answered with basic.nack, in order
        self._awaits_disk = False
        self._is_listed = False
        self._pending: list[tuple[int, int]] = []  # (round, up to which publish), one an unfinished round: at most two

    @property
    def pending_count(self) -> int:
        """Publishes that are not answered yet."""
        return self._published - self._confirmed

    @property
    def size_bytes(self) -> int:
        """Of memory."""
        return sys.getsizeof(self) + sys.getsizeof(self._refused) + sys.getsizeof(self._pending)

    def published(self, count: int, *, awaits_disk: bool) -> None:
        """`count` more messages were taken in and routed, if only to nowhere."""
        self._published += count
        self._awaits_disk = self._awaits_disk or (awaits_disk and self._disk_counts)
        if not self._is_listed:
            self._turn.confirming.append(self)
            self._is_listed = True

    def refused(self) -> None:
        """One more message was not taken in, by one queue of those it leads to at least."""
        self.published(1, awaits_disk=False)
        self._refused.append(self._published)

    def written(self, turn: Turn) -> None:
        self._is_listed = False
        if self._awaits_disk:
            self._await(turn.await_round(self))
        elif self._pending:
            self._await(self._pending.pop()[0])
        else:
            self._confirm(self._published)
        self._awaits_disk = False

    def _await(self, number: int) -> None:
        if self._pending and self._pending[-1][0] == number:
            self._pending.pop()
        self._pending.append((number, self._published))

    def released(self, durable_through: int) -> bool:
        while self._pending and self._pending[0][0] <= durable_through:
            self._confirm(self._pending.pop(0)[1])
        return bool(self._pending)

    def _confirm(self, through: int) -> None:
        refused, self._refused = self._refused, []
        for number in refused:
            if number > through:
                self._refused.append(number)
                continue
            self._acknowledge(number - 1)
            self._confirmed = number
            self._write(frames.pack(frames.METHOD, self._channel, _SETTLE.pack(60, 120, number, 0)))
        self._acknowledge(through)

    def _acknowledge(self, through: int) -> None:
        count = through - self._confirmed
        if count:
            self._confirmed = through
            self._count(count)
            self._write(frames.pack(frames.METHOD, self._channel, _SETTLE.pack(60, 80, through, count > 1)))

    def close(self) -> None:
        self._pending = []
        self._refused = []
        self._write = _nowhere
        self._count = _uncounted
        self._turn.forget(self)


def _uncounted(_count: int) -> None:
    """A closed channel counts nothing."""


def _nowhere(_data: bytes) -> None:
    """Where confirms of a closed channel go."""
