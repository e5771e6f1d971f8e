"""Messages with numbers: a publisher that knows how many were confirmed, a consumer that knows which it got how often.

A body begins with its number in its queue, eight bytes, and goes on with a text by which the consumer sees that it is
whole. Each of them has a connection and a thread of its own; nobody else uses their queue.
"""

import select
import struct
import threading
import time
from typing import Final

from msgspec import Struct
from pamqp import body, commands, frame, header

from bench.wire import Unexpected, Wire
from ipc.wire.amqp import traffic
from runtime.cli.perf.pace import Pace

PATIENCE_SECONDS: Final = 120.0  # for a broker that makes publishers wait, and for answers

_NUMBER: Final = struct.Struct(">Q")
_TEXT: Final = b"ebb and flow, "
_PIECE_BYTES: Final = 64_000  # of a body, in one frame
_BURST_BYTES: Final = 64_000
_WINDOW_BYTES: Final = 4_000_000  # unconfirmed
_WINDOW_MESSAGES: Final = 1_000
_PREFETCH: Final = 500
_RECEIVE_BYTES: Final = 1 << 18  # several of our frames
_TAKEN_AT_ONCE: Final = 100
_LOOK_SECONDS: Final = 0.02
_ACK: Final = struct.Struct(">BHIHHQBB")


class Verdict(Struct, frozen=True):
    """What was promised against what came, in messages."""

    confirmed: int
    unconfirmed: int  # published, and refused or never answered
    missing: int  # confirmed and never delivered
    repeated: int  # delivered once more than that
    damaged: int
    unknown: int  # delivered and never published

    @property
    def is_kept(self) -> bool:
        wrong = (self.unconfirmed, self.missing, self.repeated, self.damaged, self.unknown)
        return self.confirmed > 0 and not any(wrong)

    @classmethod
    def of(cls, publisher: "Publisher", consumer: "Consumer") -> "Verdict":
        known = [number for number in consumer.numbers if number < publisher.published]
        distinct = len(set(known))
        return cls(
            confirmed=publisher.confirmed,
            unconfirmed=publisher.published - publisher.confirmed,
            missing=max(0, publisher.confirmed - distinct),
            repeated=len(known) - distinct,
            damaged=consumer.damaged,
            unknown=len(consumer.numbers) - len(known),
        )


class _Client:
    """A connection, and a thread that runs `_converse` until it returns."""

    def __init__(self, port: int, vhost: str, queue: str) -> None:
        self.fault: BaseException | None = None
        self.queue = queue
        self._wire = Wire(port, vhost=vhost, seconds=PATIENCE_SECONDS)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._buffer = bytearray(_RECEIVE_BYTES)
        self._filled = 0

    def start(self) -> None:
        self._thread.start()

    def end(self, seconds_max: float) -> None:
        """Wait for its end, and close; `fault` says if it did not come, or how it came."""
        self._thread.join(seconds_max)
        if self._thread.is_alive():
            self.fault = self.fault or TimeoutError(f"did not end within {seconds_max:.0f} s")
        self._wire.close()

    def _run(self) -> None:
        try:
            self._converse()
        except BaseException as fault:  # noqa: BLE001 - whoever joins is told
            self.fault = fault

    def _converse(self) -> None:
        raise NotImplementedError

    def _receive(self, seconds: float) -> bool:
        """Whether something came within this time; it stands in the buffer then."""
        ready, _, _ = select.select([self._wire.socket], [], [], seconds)
        if not ready:
            return False
        count = self._wire.socket.recv_into(memoryview(self._buffer)[self._filled :])
        if not count:
            raise Unexpected("the broker closed the connection")
        self._filled += count
        return True

    def _used(self, at: int, state: traffic.Words) -> None:
        """Drop what was understood up to here."""
        if state[traffic.FAULT] or state[traffic.STOPPED_AT]:
            raise Unexpected(f"the broker sent something else: method {state[traffic.STOPPED_AT]:#x}")
        self._buffer[: self._filled - at] = self._buffer[at : self._filled]
        self._filled -= at


class Publisher(_Client):
    """Sends persistent messages of `size` bytes, at most `rate` a second, until told to stop; then awaits confirms."""

    def __init__(self, port: int, vhost: str, queue: str, *, size: int, rate: float) -> None:
        super().__init__(port, vhost, queue)
        self.size = size
        self.published = 0
        self.confirmed = 0
        self.seconds_waited = 0.0  # at most, until the broker took what was being sent
        self._rate = rate
        self._settled = 0
        self._is_stopped = False
        self._state = traffic.new_words(traffic.STATE_WORDS)
        self._wire.declare(queue, durable=True)

    def stop(self) -> None:
        self._is_stopped = True

    def _converse(self) -> None:
        self._wire.send(commands.Confirm.Select())
        self._wire.await_frame("Confirm.SelectOk")
        before, after = _message(self.queue, self.size)
        length = len(before) + _NUMBER.size + len(after)
        count = max(1, min(_BURST_BYTES // length, round(self._rate * _LOOK_SECONDS)))
        burst = bytearray((before + bytes(_NUMBER.size) + after) * count)
        window = max(count, min(_WINDOW_MESSAGES, _WINDOW_BYTES // length))
        ring = bytearray(window + 1)
        pace = Pace(self._rate, time.monotonic_ns())
        while not self._is_stopped:
            now = time.monotonic_ns()
            if pace.allows(now) < count:
                self._hear(_LOOK_SECONDS / 4, ring)
            elif self.published - self._settled + count > window:
                self._hear(_LOOK_SECONDS, ring)
            else:
                for index in range(count):
                    _NUMBER.pack_into(burst, index * length + len(before), self.published + index)
                self.published += count
                self._wire.socket.sendall(burst)
                self.seconds_waited = max(self.seconds_waited, (time.monotonic_ns() - now) / 1e9)
                pace.did(count)
                self._hear(0, ring)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self._settled < self.published and time.monotonic() < deadline:
            self._hear(_LOOK_SECONDS, ring)

    def _hear(self, seconds: float, ring: bytearray) -> None:
        if self._receive(seconds):
            self._used(traffic.walk_confirms(self._buffer, 0, self._filled, self._state, ring), self._state)
            self._settled = self._state[traffic.TAG] + self._state[traffic.BEYOND]
            self.confirmed = self._settled - self._state[traffic.REFUSED]


class Consumer(_Client):
    """Takes and acknowledges at most `rate` a second, 0 for no limit, until it is told that nothing more will come."""

    def __init__(self, port: int, vhost: str, queue: str, *, size: int, rate: float) -> None:
        super().__init__(port, vhost, queue)
        self.numbers: list[int] = []  # of all messages that came, in order
        self._body = bytes(_NUMBER.size) + _text(size)
        self._pace = Pace(rate, time.monotonic_ns())
        self._is_over = False
        self._state = traffic.new_words(traffic.STATE_WORDS)

    @property
    def damaged(self) -> int:
        return self._state[traffic.DIFFERENT]

    def hurry(self) -> None:
        """No limit from now on."""
        self._pace = Pace(0, time.monotonic_ns())

    def stop(self) -> None:
        self._is_over = True

    def _converse(self) -> None:
        self._wire.send(commands.Basic.Qos(prefetch_count=_PREFETCH))
        self._wire.await_frame("Basic.QosOk")
        self._wire.send(commands.Basic.Consume(queue=self.queue, consumer_tag="numbered"))
        self._wire.await_frame("Basic.ConsumeOk")
        self._buffer[: len(self._wire.buffer)] = self._wire.buffer
        self._filled = len(self._wire.buffer)
        stamps = traffic.new_words(_TAKEN_AT_ONCE + 1)
        state = self._state
        while not self._is_over:
            now = time.monotonic_ns()
            allowed = min(self._pace.allows(now), _TAKEN_AT_ONCE)
            if allowed <= 0:
                time.sleep(min(self._pace.seconds_to_next(now), _LOOK_SECONDS))
                continue
            taken = state[traffic.MESSAGES]
            state[traffic.STAMPS] = 0
            at = traffic.walk_deliveries(
                self._buffer, 0, self._filled, allowed, state, stamps, self._body, _NUMBER.size
            )
            self._used(at, state)
            self.numbers += stamps[: state[traffic.STAMPS]]
            count = state[traffic.MESSAGES] - taken
            if count:
                self._pace.did(count)
                self._wire.socket.sendall(_ACK.pack(1, 1, 13, 60, 80, state[traffic.TAG], 1, 0xCE))
            else:
                self._receive(_LOOK_SECONDS)


def _message(queue: str, size: int) -> tuple[bytes, bytes]:
    """A persistent message to this queue as frames: what comes before its number, and what comes after it."""
    properties = commands.Basic.Properties(delivery_mode=2)
    content = bytes(_NUMBER.size) + _text(size)
    pieces = [content[at : at + _PIECE_BYTES] for at in range(0, size, _PIECE_BYTES)]
    frames = [frame.marshal(body.ContentBody(piece), 1) for piece in pieces]
    head = frame.marshal(commands.Basic.Publish(exchange="", routing_key=queue), 1)
    head += frame.marshal(header.ContentHeader(0, size, properties), 1)
    number_at = len(head) + len(frames[0]) - len(pieces[0]) - 1
    whole = head + b"".join(frames)
    return whole[:number_at], whole[number_at + _NUMBER.size :]


def _text(size: int) -> bytes:
    """A body's, after its number."""
    length = size - _NUMBER.size
    return (_TEXT * (length // len(_TEXT) + 1))[:length]
