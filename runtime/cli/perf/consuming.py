"""A consumer: deliveries counted in large reads and acknowledged many at a time, or messages got one by one."""

import socket
import time
from collections.abc import Generator, Sequence
from typing import Final

from pamqp import commands

from ipc.wire.amqp import methods, traffic
from ipc.wire.raw import get32
from runtime.cli.perf.board import Board, Column, Row
from runtime.cli.perf.client import (
    CHANNEL,
    Client,
    Closed,
    Greeting,
    Refused,
    close_all,
    encoded,
    open_client,
    set_patience,
)
from runtime.cli.perf.crew import Post
from runtime.cli.perf.load import Load, share_of
from runtime.cli.perf.messages import body_of
from runtime.cli.perf.pace import UNLIMITED, Pace
from runtime.cli.perf.turns import NOTHING, READABLE, WRITABLE, Turns, Wait, take_turns, wake_precisely

RECEIVE_BYTES: Final = 512 * 1024  # several of the largest frames
STAMPS_MAX: Final = 16 * 1024  # messages taken at a time where latencies are measured
LOOK_SECONDS: Final = 0.1  # the longest wait before looking whether it is over
REST_SECONDS_MAX: Final = 2.0  # for acknowledgements the broker does not read, once it is over
EMPTY_SECONDS: Final = 0.001  # before asking empty queues again
ACKS_AT_ONCE: Final = 1024

_GET_EMPTY: Final = commands.Basic.GetEmpty.index


class Consumers:
    """Those of `load.consumers` that share a process, by number; each has a connection, and a consumer for each queue.

    On the board they see how many messages all consumers together have taken.
    """

    def __init__(self, load: Load, greeting: Greeting, numbers: Sequence[int], board: Board) -> None:
        self._load = load
        self._greeting = greeting
        self._numbers = numbers
        self._board = board

    def __call__(self, post: Post) -> None:
        load = self._load
        intakes = [self._intake(post, row, number) for row, number in zip(post.rows, self._numbers, strict=True)]
        if load.consume_rate:
            wake_precisely()
        # What stands in a queue is not to be delivered before the clock runs; what is published then should find us.
        subscribes_early = load.publishers > 0
        if subscribes_early:
            _subscribe(intakes)
        post.await_start()
        if not subscribes_early:
            _subscribe(intakes)
        take_turns(intakes)
        post.note_end()
        close_all([intake.client for intake in intakes])

    def _intake(self, post: Post, row: Row, number: int) -> "_Intake":
        load = self._load
        client = open_client(self._greeting)
        if load.prefetch:
            client.call(commands.Basic.Qos, commands.Basic.QosOk, prefetch_count=load.prefetch)
        set_patience(client.socket, LOOK_SECONDS)
        queues = share_of(load.queues, number, load.consumers)
        return _Intake(load, client, post, row, queues, self._board, is_alone=len(self._numbers) == 1)


def _subscribe(intakes: "Sequence[_Intake]") -> None:
    for intake in intakes:
        intake.subscribe()


class _Intake:
    """What arrives on one connection: walked, counted, timed, compared, acknowledged.

    One that is alone in its process blocks where it waits for messages.
    """

    def __init__(
        self,
        load: Load,
        client: Client,
        post: Post,
        row: Row,
        queues: tuple[str, ...],
        board: Board,
        *,
        is_alone: bool,
    ) -> None:
        self.client = client
        self.socket = client.socket
        self._load = load
        self._queues = queues
        self._post = post
        self._row = row
        self._words = row.words
        self._board = board
        self._receive_flags = 0 if is_alone else socket.MSG_DONTWAIT
        self._is_alone = is_alone
        self._wanted = load.consume_count
        self._ack_every = load.ack_every
        self._is_timed = load.is_timed
        self._state = traffic.new_words(traffic.STATE_WORDS)
        self._stamps = traffic.new_words(STAMPS_MAX + 1 if load.is_timed else 0)
        self._expected = body_of(load.size_bytes) if load.is_verified else b""
        self._expected_from = traffic.STAMP_BYTES if load.is_timed else 0
        self._buffer = bytearray(RECEIVE_BYTES)
        self._view = memoryview(self._buffer)
        self._at = self._filled = 0
        self._pace = Pace(load.consume_rate, time.monotonic_ns())
        self._acknowledged = 0
        self._acks = bytearray(_ack(0, multiple=load.ack_every > 1) * ACKS_AT_ONCE)

    def subscribe(self) -> None:
        """Without waiting for answers, which would come among deliveries; refusals are heard all the same."""
        if self._load.polls:
            return
        for number, queue in enumerate(self._queues):
            consume = encoded(
                commands.Basic.Consume,
                queue=queue,
                consumer_tag=f"perf-{number}",
                no_ack=not self._ack_every,
                nowait=True,
                arguments=self._load.consumer_arguments,
            )
            self.client.send(consume)

    def run(self) -> Turns:
        """Until it is over or enough was taken."""
        if self._load.polls:
            yield from self._poll()
        else:
            yield from self._consume()
        yield from self._acknowledge_rest()

    def _consume(self) -> Turns:
        while not self._post.is_over():
            wanted = self._remaining()
            if not wanted:
                return
            now = time.monotonic_ns()
            allowed = min(wanted, self._pace.allows(now))
            if allowed <= 0:
                yield NOTHING, min(self._pace.seconds_to_next(now), LOOK_SECONDS)
            elif self._walk(allowed):
                if self._ack_every:
                    yield from self._acknowledge(self._state[traffic.TAG])
            else:
                if not self._is_alone:
                    yield READABLE, LOOK_SECONDS
                self._receive()

    def _poll(self) -> Turns:
        """Get messages one by one, from each queue in turn."""
        requests = [encoded(commands.Basic.Get, queue=queue, no_ack=not self._ack_every) for queue in self._queues]
        turn = empty = 0
        while self._remaining() and not self._post.is_over():
            now = time.monotonic_ns()
            if self._pace.allows(now) <= 0:
                yield NOTHING, min(self._pace.seconds_to_next(now), LOOK_SECONDS)
                continue
            is_found = yield from self._get(requests[turn % len(requests)])
            turn += 1
            empty = 0 if is_found else empty + 1
            if empty >= len(requests):
                yield NOTHING, EMPTY_SECONDS
                empty = 0

    def _get(self, request: bytes) -> Generator[Wait, bool, bool]:
        """Ask for one message; whether there was one."""
        yield from self._send(request, len(request))
        while not self._walk(1):
            if self._state[traffic.STOPPED_AT] == _GET_EMPTY:
                self._skip_method()
                return False
            if self._post.is_over():
                return False
            if not self._is_alone:
                yield READABLE, LOOK_SECONDS
            self._receive()
        if self._ack_every:
            yield from self._acknowledge(self._state[traffic.TAG])
        return True

    def _remaining(self) -> int:
        """All consumers together take the messages wanted."""
        if not self._wanted:
            return UNLIMITED
        return max(self._wanted - self._board.total(Column.CONSUMED), 0)

    # in ---------------------------------------------------------------------------------------------------------------

    def _walk(self, wanted: int) -> int:
        """Take at most `wanted` of the messages received; how many they were. Raises Refused."""
        state = self._state
        now = 0
        if self._is_timed:
            wanted = min(wanted, STAMPS_MAX)
            state[traffic.STAMPS] = 0
            now = time.monotonic_ns()
        before = state[traffic.MESSAGES]
        self._at = traffic.walk_deliveries(
            self._buffer, self._at, self._filled, wanted, state, self._stamps, self._expected, self._expected_from
        )
        if state[traffic.FAULT]:
            raise Refused(f"{self.client.target} sent what is no delivery")
        if self._is_timed:
            traffic.record_latencies(self._stamps, state[traffic.STAMPS], now, self._row.buckets)
        taken = state[traffic.MESSAGES] - before
        if taken:
            self._words[Column.CONSUMED] = state[traffic.MESSAGES]
            self._words[Column.DIFFERENT] = state[traffic.DIFFERENT]
            self._pace.did(taken)
        return taken

    def _receive(self) -> None:
        """Read more, if anything comes within the socket's patience; half a message moves to the front before."""
        if self._state[traffic.STOPPED_AT]:
            self._skip_method()
            return
        left = self._filled - self._at
        if self._at:
            self._buffer[:left] = self._buffer[self._at : self._filled]
            self._at, self._filled = 0, left
        if left == len(self._buffer):
            raise Refused(f"{self.client.target} sent a frame that is too large")
        try:
            count = self.socket.recv_into(self._view[left:], 0, self._receive_flags)
        except BlockingIOError:
            return
        except OSError as fault:
            raise Closed(f"{self.client.target} broke the connection: {fault.strerror}") from fault
        if not count:
            raise Closed(f"{self.client.target} closed the connection")
        self._filled += count

    def _skip_method(self) -> None:
        """Pass over the method the walk stopped at, if it is one that may come. Raises Refused for all others."""
        size = get32(self._buffer, self._at + 3)
        if self._state[traffic.STOPPED_AT] != _GET_EMPTY:
            self.client.take(bytes(self._view[self._at + 7 : self._at + 7 + size]))
        self._at += size + 8
        self._state[traffic.STOPPED_AT] = 0

    # acknowledgements -------------------------------------------------------------------------------------------------

    def _acknowledge(self, tag: int) -> Turns:
        """As many acknowledgements as one for every `ack_every` messages makes."""
        due = (tag - self._acknowledged) // self._ack_every
        while due:
            count = min(due, ACKS_AT_ONCE)
            first = self._acknowledged + self._ack_every
            size_bytes = traffic.number_acks(self._acks, count, first, self._ack_every)
            yield from self._send(self._acks, size_bytes)
            self._acknowledged += count * self._ack_every
            due -= count

    def _acknowledge_rest(self) -> Turns:
        """What was counted does not go back to the queue."""
        tag = self._state[traffic.TAG]
        if self._ack_every and tag > self._acknowledged:
            self._acknowledged = tag
            frame = _ack(tag, multiple=True)
            yield from self._send(frame, len(frame))

    def _send(self, request: bytes | bytearray, size_bytes: int) -> Turns:
        position = 0
        deadline = 0.0
        with memoryview(request) as view:
            while position < size_bytes:
                try:
                    position += self.socket.send(view[position:size_bytes], socket.MSG_DONTWAIT)
                except BlockingIOError:
                    if self._post.is_over():
                        deadline = deadline or time.monotonic() + REST_SECONDS_MAX
                        if time.monotonic() > deadline:
                            return
                    yield WRITABLE, LOOK_SECONDS
                except OSError as fault:
                    raise Closed(f"{self.client.target} broke the connection: {fault.strerror}") from fault


def _ack(tag: int, *, multiple: bool) -> bytes:
    return methods.frame(CHANNEL, commands.Basic.Ack(tag, multiple))
