"""What a client under load reads and writes, many messages a call: deliveries and confirms counted, publishes stamped.

Hot module: plain functions over buffers, made to be compiled. Interpreted it costs about a microsecond a delivery of
three frames; measured with `ebbmq perf`, which is its only user.

A walker reads `buffer[at:end]`, stops before the first frame that is cut off, and returns where; what it must remember
from one call to the next stands in `state`, a view of unsigned 64-bit words:

```
word        deliveries                              confirms
MESSAGES    whole messages counted                  -
TAG         delivery tag of the last of them        all tags up to here are settled
STOPPED_AT  class and method it did not understand; 0: it only ran out of frames or of messages wanted
FAULT       1: this is no AMQP, or not in this order
PHASE       kind of frame due, 0 at first           -
BODY        body size of the message under way      tags settled beyond TAG
LEFT        bytes of it still to come               tags settled by basic.nack
TAG_DUE     its delivery tag                        -
STAMPS      stamps put down, reset by the caller    -
DIFFERENT   bodies or pieces of them that differ   -
```
"""

import struct
from typing import Final

import cython

from ipc.wire.amqp import frames
from ipc.wire.raw import Buffer

if not cython.compiled:
    from ipc.wire.raw import get32, get64, same

Words = memoryview  # cast to "Q"

MESSAGES: Final = 0
TAG: Final = 1
STOPPED_AT: Final = 2
FAULT: Final = 3
PHASE: Final = 4
BODY: Final = 5
LEFT: Final = 6
TAG_DUE: Final = 7
STAMPS: Final = 8
DIFFERENT: Final = 9
STATE_WORDS: Final = 10

BEYOND: Final = BODY
REFUSED: Final = LEFT

STAMP_BYTES: Final = 8

# Latencies are counted in buckets: 128 to each power of two, so that a bucket is at most 0.8 % wide.
BUCKETS_EACH: Final = 128
BUCKETS: Final = 58 * BUCKETS_EACH

# What the loops compare with; compiled, these are C numbers.
_OVERHEAD: Final = 8
_METHOD: Final = frames.METHOD
_HEADER: Final = frames.HEADER
_BODY: Final = frames.BODY
_HEARTBEAT: Final = frames.HEARTBEAT
_END: Final = frames.END
_DELIVER: Final = 60 << 16 | 60
_GET_OK: Final = 60 << 16 | 71
_ACK: Final = 60 << 16 | 80
_NACK: Final = 60 << 16 | 120
_ACK_BYTES: Final = 13  # of either, without the frame around them
_ACK_FRAME_BYTES: Final = 21
_ACK_TAG_AT: Final = 11
_ACK_FLAGS_AT: Final = 19
_STAMP_BYTES: Final = STAMP_BYTES
_EACH: Final = BUCKETS_EACH


def new_words(count: int) -> Words:
    """`count` words, all 0."""
    return memoryview(bytearray(8 * count)).cast("Q")


def walk_deliveries(
    buffer: Buffer, at: int, end: int, wanted: int, state: Words, stamps: Words, expected: bytes, expected_from: int
) -> int:
    """Count messages delivered or got, at most `wanted` of them.

    With room in `stamps`, the first eight bytes of every body go there (it must have `wanted` + 1 words). With an
    `expected` body, every body is compared with it from `expected_from` on. What is not a delivery stops the walk.
    """
    taken = 0
    tag_at = 0  # of the message under way, if it began in this call
    done_at = 0  # of the last whole one
    phase = state[PHASE] or _METHOD
    body = state[BODY]
    left = state[LEFT]
    stamped = state[STAMPS]
    different = 0
    stamps_max = len(stamps)
    expected_bytes = len(expected)
    state[STOPPED_AT] = 0
    while taken < wanted and end - at >= _OVERHEAD:
        size = get32(buffer, at + 3)
        after = at + size + _OVERHEAD
        if after > end:
            break
        kind = buffer[at]
        if buffer[after - 1] != _END:
            state[FAULT] = 1
            break
        if kind == _BODY and phase == _BODY and size <= left:
            if left == body and stamped < stamps_max and size >= _STAMP_BYTES:
                stamps[stamped] = get64(buffer, at + 7)
                stamped += 1
            if expected_bytes and body == expected_bytes:
                different += differs(buffer, at + 7, size, body - left, expected, expected_from)
            left -= size
            if left == 0:
                phase = _METHOD
                taken += 1
                done_at = tag_at
        elif kind == _METHOD and size >= 4:
            index = get32(buffer, at + 7)
            if phase == _METHOD and index == _DELIVER and size >= 5:
                tag_at = at + 12 + buffer[at + 11]
            elif phase == _METHOD and index == _GET_OK:
                tag_at = at + 11
            else:
                state[STOPPED_AT] = index
                state[FAULT] = 1 if index == 0 else state[FAULT]
                break
            if tag_at + 8 >= after:
                state[FAULT] = 1
                break
            phase = _HEADER
        elif kind == _HEADER and phase == _HEADER and size >= 14:
            left = body = get64(buffer, at + 11)
            phase = _BODY
            if expected_bytes and body != expected_bytes:
                different += 1
            if left == 0:
                phase = _METHOD
                taken += 1
                done_at = tag_at
        elif kind != _HEARTBEAT:
            state[FAULT] = 1
            break
        at = after
    if taken:
        # The last one may have begun in an earlier call, and then its tag stands in the state.
        state[TAG] = get64(buffer, done_at) if done_at else state[TAG_DUE]
        state[MESSAGES] += taken
    if phase != _METHOD and tag_at:
        state[TAG_DUE] = get64(buffer, tag_at)
    state[DIFFERENT] += different
    state[PHASE] = phase
    state[BODY] = body
    state[LEFT] = left
    state[STAMPS] = stamped
    return at


def differs(buffer: Buffer, at: int, size: int, offset: int, expected: bytes, expected_from: int) -> int:
    """1 if a piece of a body, `offset` bytes into it, is not what is expected there, else 0."""
    first = max(offset, expected_from)
    if first >= offset + size or same(buffer, at + first - offset, expected[first : offset + size]):
        return 0
    return 1


def walk_confirms(buffer: Buffer, at: int, end: int, state: Words, ring: bytearray) -> int:
    """Take basic.ack and basic.nack of a publisher with at most `len(ring)` messages unconfirmed.

    Confirms come in any order; `ring` marks the tags settled ahead of their turn. Settled are `state[TAG]` +
    `state[BEYOND]` messages, `state[REFUSED]` of them by basic.nack.
    """
    room = len(ring)
    low = state[TAG]
    beyond = state[BEYOND]
    refused = state[REFUSED]
    state[STOPPED_AT] = 0
    while end - at >= _OVERHEAD:
        size = get32(buffer, at + 3)
        after = at + size + _OVERHEAD
        if after > end:
            break
        kind = buffer[at]
        if buffer[after - 1] != _END:
            state[FAULT] = 1
            break
        if kind == _METHOD and size >= 4:
            index = get32(buffer, at + 7)
            if (index != _ACK and index != _NACK) or size != _ACK_BYTES:
                state[STOPPED_AT] = index
                state[FAULT] = 1 if index == 0 else state[FAULT]
                break
            tag = get64(buffer, at + _ACK_TAG_AT)
            before = low + beyond
            if tag > low + room:
                state[FAULT] = 1
                break
            if buffer[at + _ACK_FLAGS_AT] & 1:
                while low < tag and beyond:
                    low += 1
                    beyond -= ring[low % room]
                    ring[low % room] = 0
                if low < tag:
                    low = tag
            elif tag > low and ring[tag % room] == 0:
                ring[tag % room] = 1
                beyond += 1
            while beyond and ring[(low + 1) % room]:
                low += 1
                ring[low % room] = 0
                beyond -= 1
            if index == _NACK:
                refused += low + beyond - before
        elif kind != _HEARTBEAT:
            state[FAULT] = 1
            break
        at = after
    state[TAG] = low
    state[BEYOND] = beyond
    state[REFUSED] = refused
    return at


if not cython.compiled:
    _64 = struct.Struct(">Q")

    def put64(target: bytearray, at: int, value: int) -> None:
        _64.pack_into(target, at, value)


def stamp(chunk: bytearray, starts: Words, first: int, last: int, now: int) -> None:
    """Put the time into messages `first` to before `last` of a chunk; `starts`: where their bodies begin."""
    for number in range(first, last):
        put64(chunk, starts[number], now)


def number_acks(acks: bytearray, count: int, tag: int, every: int) -> int:
    """Put `tag`, `tag` + `every` … into the first `count` of a row of basic.ack frames; their size in bytes."""
    at = _ACK_TAG_AT
    for _ in range(count):
        put64(acks, at, tag)
        at += _ACK_FRAME_BYTES
        tag += every
    return count * _ACK_FRAME_BYTES


def record_latencies(stamps: Words, count: int, now: int, buckets: Words) -> None:
    """Count how long ago each stamp is; a clock that is behind its stamp counts as no time at all."""
    last = len(buckets) - 1
    for number in range(count):
        stamped = stamps[number]
        value = now - stamped if now > stamped else 0
        shift = 0
        while value >= 65536:
            value >>= 8
            shift += 8
        while value >= 2 * _EACH:
            value >>= 1
            shift += 1
        bucket = shift * _EACH + value
        if bucket > last:
            bucket = last
        buckets[bucket] += 1


def bucket_floor(bucket: int) -> int:
    """The least value that is counted in this bucket."""
    if bucket < 2 * BUCKETS_EACH:
        return bucket
    shift = bucket // BUCKETS_EACH - 1
    return (bucket - shift * BUCKETS_EACH) << shift
