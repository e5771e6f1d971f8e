"""A publisher: prebuilt messages in writes as large as confirm window, rate and count allow.

It writes without blocking and reads only what must be read: confirms, and the reasons for being thrown out.
"""

import socket
import time
from collections.abc import Sequence
from typing import Final

from pamqp import commands

from ipc.wire.amqp import traffic
from ipc.wire.raw import get32
from runtime.cli.perf.board import Column, Row
from runtime.cli.perf.client import Client, Closed, Greeting, Refused, close_all, open_client, set_patience
from runtime.cli.perf.crew import Post
from runtime.cli.perf.load import Load, portion_of, share_of
from runtime.cli.perf.messages import Chunk, body_of, encode_message, encode_properties
from runtime.cli.perf.pace import Pace
from runtime.cli.perf.turns import EITHER, READABLE, Turns, take_turns, wake_precisely

CHUNK_BYTES: Final = 256 * 1024
TIMED_CHUNK_BYTES: Final = 16 * 1024  # messages of one chunk bear the same time
# What waits in the kernel counts as published. It would take 4 MiB, with 50 publishers seconds of a broker's work.
SEND_BUFFER_BYTES: Final = 256 * 1024
RECEIVE_BYTES: Final = 64 * 1024
WRITES_UNHEARD_MAX: Final = 16  # between looks for what the broker may object to
LOOK_SECONDS: Final = 0.1  # the longest wait before looking whether it is over
REST_SECONDS_MAX: Final = 2.0  # for the rest of a message, and the confirms of all, once it is over


class Publishers:
    """Those of `load.publishers` that share a process, by number."""

    def __init__(self, load: Load, greeting: Greeting, numbers: Sequence[int]) -> None:
        self._load = load
        self._greeting = greeting
        self._numbers = numbers

    def __call__(self, post: Post) -> None:
        clients = [open_client(self._greeting) for _ in self._numbers]
        streams = [
            self._stream(client, post, row, number)
            for client, row, number in zip(clients, post.rows, self._numbers, strict=True)
        ]
        if self._load.publish_rate:
            wake_precisely()
        post.await_start()
        take_turns(streams)
        if post.is_over():
            post.note_end()
        close_all(clients)
        post.note_end()  # what was published to its end has now been taken in to its end

    def _stream(self, client: Client, post: Post, row: Row, number: int) -> "_Stream":
        load = self._load
        if load.unconfirmed_max:
            client.call(commands.Confirm.Select, commands.Confirm.SelectOk)
        wanted = portion_of(load.publish_count, number, load.publishers)
        if load.publish_count and not wanted:
            wanted = -1
        set_patience(client.socket, LOOK_SECONDS)
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        chunk = _chunk(load, number, client.frame_max)
        return _Stream(load, client, chunk, post, row, wanted, is_alone=len(self._numbers) == 1)


def _chunk(load: Load, number: int, frame_max: int) -> Chunk:
    body = body_of(load.size_bytes)
    header = encode_properties(len(body), load.properties, is_persistent=load.is_persistent)
    queues = share_of(load.queues, number, load.publishers)
    kinds = [encode_message(load.exchange, load.key_of(queue), header, body, frame_max) for queue in queues]
    size_bytes_max = TIMED_CHUNK_BYTES if load.is_timed else CHUNK_BYTES
    return Chunk(kinds, len(body), frame_max, size_bytes_max=size_bytes_max)


class _Stream:
    """The loop of a publisher that is connected; `wanted` messages in all, 0 for no end, -1 for none.

    One that is alone in its process blocks where it waits for confirms.
    """

    def __init__(
        self, load: Load, client: Client, chunk: Chunk, post: Post, row: Row, wanted: int, *, is_alone: bool
    ) -> None:
        self.socket = client.socket
        self._client = client
        self._chunk = chunk
        self._post = post
        self._words = row.words
        self._wanted = wanted
        self._is_alone = is_alone
        self._rate = load.publish_rate
        self._is_timed = load.is_timed
        self._window = load.unconfirmed_max
        self._ring = bytearray(max(load.unconfirmed_max, 1))
        self._state = traffic.new_words(traffic.STATE_WORDS)
        self._received = bytearray(RECEIVE_BYTES)
        self._filled = 0
        self._published = 0
        self._writes = 0

    def run(self) -> Turns:
        post, chunk = self._post, self._chunk
        pace = Pace(self._rate, time.monotonic_ns())
        first = 0
        while not post.is_over():
            count = min(self._remaining(), chunk.count - first)
            if not count:
                break
            if self._window:
                count = min(count, self._window - self._unconfirmed())
                if not count:
                    yield from self._await_confirm()
                    continue
            if self._rate:
                now = time.monotonic_ns()
                count = min(count, pace.allows(now))
                if count <= 0:
                    yield from self._await(READABLE, min(pace.seconds_to_next(now), LOOK_SECONDS))
                    continue
                pace.did(count)
            if self._is_timed:
                traffic.stamp(chunk.data, chunk.starts, first, first + count, time.monotonic_ns())
            yield from self._send(first, count)
            first = (first + count) % chunk.count
        yield from self._await_confirms()

    def _remaining(self) -> int:
        if not self._wanted:
            return self._chunk.count
        return max(self._wanted - self._published, 0)

    # out --------------------------------------------------------------------------------------------------------------

    def _send(self, first: int, count: int) -> Turns:
        """Messages of the chunk, all of them unless it is over meanwhile, but never half a message."""
        chunk, words = self._chunk, self._words
        before = self._published - first
        position, end = chunk.begin(first), chunk.ends[first + count - 1]
        deadline = 0.0
        with memoryview(chunk.data) as view:
            while position < end:
                try:
                    position += self.socket.send(view[position:end], socket.MSG_DONTWAIT)
                except BlockingIOError:
                    yield from self._await(EITHER, LOOK_SECONDS)
                except OSError:
                    self._hear_why()
                if position < end:
                    self._published = before + chunk.whole(position)
                    words[Column.PUBLISHED] = self._published
                    if self._post.is_over():
                        end = chunk.ends[chunk.whole(position - 1)] if position else 0
                        deadline = deadline or time.monotonic() + REST_SECONDS_MAX
                        if time.monotonic() > deadline:
                            break
        self._published = before + chunk.whole(position)
        words[Column.PUBLISHED] = self._published
        if not self._is_alone:
            yield from self._await(EITHER, LOOK_SECONDS)  # the others' turn
        elif not self._window:
            self._writes += 1
            if self._writes % WRITES_UNHEARD_MAX == 0:
                self._receive(socket.MSG_DONTWAIT)

    def _await(self, events: int, seconds: float) -> Turns:
        """Until time has passed or one of the events has come, and read what there is."""
        is_readable = yield events, seconds
        if is_readable:
            self._receive(socket.MSG_DONTWAIT)

    # in ---------------------------------------------------------------------------------------------------------------

    def _unconfirmed(self) -> int:
        return self._published - self._state[traffic.TAG] - self._state[traffic.BEYOND]

    def _await_confirm(self) -> Turns:
        if self._is_alone:
            self._receive(0)
        else:
            yield from self._await(READABLE, LOOK_SECONDS)

    def _receive(self, flags: int) -> None:
        """Take in what there is; with no flags, wait for something."""
        try:
            with memoryview(self._received)[self._filled :] as room:
                count = self.socket.recv_into(room, 0, flags)
        except BlockingIOError:
            return
        except OSError as fault:
            raise Closed(f"{self._client.target} broke the connection: {fault.strerror}") from fault
        if not count:
            raise Closed(f"{self._client.target} closed the connection")
        self._filled += count
        self._walk()

    def _walk(self) -> None:
        state, received = self._state, self._received
        at = traffic.walk_confirms(received, 0, self._filled, state, self._ring)
        while state[traffic.STOPPED_AT]:
            size = get32(received, at + 3)
            self._client.take(bytes(received[at + 7 : at + 7 + size]))
            at = traffic.walk_confirms(received, at + size + 8, self._filled, state, self._ring)
        if state[traffic.FAULT] or self._filled - at == len(received):
            raise Refused(f"{self._client.target} sent what is no answer to a publisher")
        received[: self._filled - at] = received[at : self._filled]
        self._filled -= at
        self._words[Column.CONFIRMED] = state[traffic.TAG] + state[traffic.BEYOND] - state[traffic.REFUSED]
        self._words[Column.REFUSED] = state[traffic.REFUSED]

    def _await_confirms(self) -> Turns:
        """Of what was sent when there was no more to send; a run that is over has only a moment for them."""
        if not self._window:
            return
        deadline = 0.0
        while self._unconfirmed() > 0:
            if self._post.is_over():
                deadline = deadline or time.monotonic() + REST_SECONDS_MAX
                if time.monotonic() > deadline:
                    return
            yield from self._await_confirm()

    def _hear_why(self) -> None:
        """The broker broke off: what it said before that is worth more than the kernel's word. Raises Refused."""
        while True:
            before = self._filled
            self._receive(socket.MSG_DONTWAIT)
            if self._filled == before:
                raise Closed(f"{self._client.target} broke the connection")
