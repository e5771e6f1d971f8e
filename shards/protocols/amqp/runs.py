"""The loops over messages: publishes into records, records into deliveries, acknowledgements into tags.

Hot module. Each function does many messages a call and makes no object for any of them; whatever is special ends its
run, and the caller takes care of it. The types of its compiled twin stand in `runs.pxd`.
"""

from array import array
from typing import Final

import cython

from ipc.limits import LARGE_BODY_BYTES
from ipc.wire.raw import Buffer

if not cython.compiled:
    from ipc.wire.raw import (
        add,
        add8,
        add32le,
        add64,
        add_all,
        add_head,
        add_number,
        get16le,
        get32,
        get32le,
        get64,
        same,
    )

# What the loops compare with; compiled, these are C numbers.
_OVERHEAD: Final = 8
_PREFIX: Final = 7
_FRAME_END: Final = 0xCE
_METHOD_FRAME: Final = 1
_HEADER_FRAME: Final = 2
_BODY_FRAME: Final = 3
_ACK_FRAME: Final = 21  # prefix 7, class u16, method u16, delivery tag u64, flags u8, end octet
_ACK_INDEX: Final = 60 << 16 | 80
_RECORD_HEAD: Final = 20
_LARGE: Final = LARGE_BODY_BYTES


def take_publishes(
    view: Buffer,
    position: int,
    method: bytes,
    header_lead: bytes,
    properties: bytes,
    body_lead: bytes,
    record_rest: bytes,
    body_max: int,
    tail: bytearray,
    tail_max: int,
) -> tuple[int, int]:
    """Append the records of publishes that follow each other in `view[position:]`; where that ends, and how many.

    All of a run are alike but for their bodies: `method` is their whole method frame, `header_lead` frame prefix, class
    and weight of their headers, `properties` what follows the body size (end octet included), `body_lead` type and
    channel of their body frames. `record_rest` is what comes between length and body size in their records: the rest of
    the record's head, the address, class and weight. The run ends where `tail` would exceed `tail_max` bytes.
    """
    end = len(view)
    method_bytes = len(method)
    lead_bytes = len(header_lead)
    properties_bytes = len(properties)
    # Length 4, the constant part, body size 8 and properties without their end octet; then the body.
    record_bytes = 4 + len(record_rest) + 8 + properties_bytes - 1
    room = tail_max - len(tail)
    count = 0
    while same(view, position, method):
        header_at = position + method_bytes
        size_at = header_at + lead_bytes
        body_at = size_at + 8 + properties_bytes
        if body_at > end or not same(view, header_at, header_lead) or not same(view, size_at + 8, properties):
            break
        size = get64(view, size_at)
        if size > body_max:
            break
        room -= record_bytes + size
        if room < 0:
            break
        after = body_at
        if size:
            after = body_at + size + _OVERHEAD
            if (
                after > end
                or not same(view, body_at, body_lead)
                or get32(view, body_at + 3) != size
                or view[after - 1] != _FRAME_END
            ):
                break
        before = len(tail)
        try:
            add32le(tail, record_bytes + size)
            add_all(tail, record_rest)
            add(tail, view, size_at, body_at - 1)
            if size:
                add(tail, view, body_at + _PREFIX, after - 1)
        except MemoryError:
            del tail[before:]  # a record is there as a whole, or not at all
            break
        position = after
        count += 1
    return position, count


def frame_deliveries(
    buffer: Buffer,
    at: int,
    end: int,
    outbox: bytearray,
    outbox_max: int,
    channel: int,
    method: bytes,
    redelivered: bool,
    tag: int,
    last_tag: int,
    body_max: int,
    base: int,
    positions: "array[int]",
) -> int:
    """Frame the records in `buffer[at:end]` as deliveries with tags from `tag` to before `last_tag`; where it stopped.

    Stops when `outbox` has reached `outbox_max` bytes and before a large body. `method` is class, method and consumer
    tag; `positions` gets `base` plus the index of each record taken.
    """
    method_bytes = len(method) + 9
    while at < end and tag < last_tag and len(outbox) < outbox_max:
        record_bytes = get32le(buffer, at)
        header_bytes = get32le(buffer, at + 4)
        address = at + _RECORD_HEAD
        address_bytes = get16le(buffer, at + 8)
        header = address + address_bytes
        body = header + header_bytes
        after = at + record_bytes
        if after - body >= _LARGE or body > after:
            break
        before = len(outbox)
        try:
            add_head(outbox, _METHOD_FRAME, channel, method_bytes + address_bytes)
            add_all(outbox, method)
            add64(outbox, tag)
            add8(outbox, redelivered)
            add(outbox, buffer, address, header)
            add8(outbox, _FRAME_END)
            add_head(outbox, _HEADER_FRAME, channel, header_bytes)
            add(outbox, buffer, header, body)
            add8(outbox, _FRAME_END)
            while body < after:
                piece = after - body
                if piece > body_max:
                    piece = body_max
                add_head(outbox, _BODY_FRAME, channel, piece)
                add(outbox, buffer, body, body + piece)
                add8(outbox, _FRAME_END)
                body += piece
            add_number(positions, base + at)
        except MemoryError:
            del outbox[before:]  # a message is sent as a whole, or not at all
            break
        tag += 1
        at = after
    return at


def take_acknowledgements(view: Buffer, position: int, channel: int, tags: "array[int]") -> int:
    """Collect the tags of single `basic.ack` frames on `channel` that follow each other; where the first other begins.

    One with `multiple` ends the run, too.
    """
    end = len(view)
    while end - position >= _ACK_FRAME:
        if (
            get32(view, position) >> 8 != _METHOD_FRAME << 16 | channel
            or get32(view, position + 3) != _ACK_FRAME - _OVERHEAD
            or get32(view, position + 7) != _ACK_INDEX
            or view[position + 19] != 0
            or view[position + 20] != _FRAME_END
        ):
            break
        add_number(tags, get64(view, position + 11))
        position += _ACK_FRAME
    return position
