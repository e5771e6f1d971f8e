"""Stored records come out as the frames a client expects, byte for byte what the publisher sent in."""

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands

from ipc.limits import FRAME_BYTES_MIN, LARGE_BODY_BYTES
from ipc.wire.amqp import frames, methods
from shards.protocols.amqp.framing import DeliveryFraming, StoredRecord, body_frames, get_ok, returned
from shards.store.reader import Span
from shards.store.record import encode
from tests.protocols.conversation import Content, parse
from tests.protocols.framed import split

ADDRESS = b"\x04news\x05a.b.c"


def header(size_bytes: int) -> bytes:
    return b"\x00\x3c\x00\x00" + size_bytes.to_bytes(8, "big") + b"\x10\x00\x02"


def span(*bodies: bytes, redelivered: bool = False, before: int = 0) -> Span:
    records = b"".join(encode(5, 1, 0, ADDRESS, header(len(body)), body) for body in bodies)
    buffer = bytearray(b"?" * before + records + b"behind")
    return Span(buffer, before, before + len(records), 1 << 32, redelivered=redelivered)


def framed(
    given: Span, *, first_tag: int = 1, count: int = 1000, room: int = 1 << 30, frame_max: int = 4096
) -> bytearray:
    outbox = bytearray()
    DeliveryFraming(3, b"ctag", frame_max).run(given, outbox, first_tag, count, room, array("Q"))
    return outbox


@given(st.lists(st.binary(max_size=20_000), max_size=5), st.sampled_from([4096, 4097, 131072]), st.integers(1, 2**60))
def test_a_run_of_records_becomes_deliveries(bodies: list[bytes], frame_max: int, first_tag: int) -> None:
    heard = list(parse(bytes(framed(span(*bodies), first_tag=first_tag, frame_max=frame_max)), frame_max))

    assert [channel for channel, _message in heard] == [3] * len(bodies)
    for number, (body, (_channel, message)) in enumerate(zip(bodies, heard, strict=True)):
        assert isinstance(message, Content)
        assert message.body == body
        assert message.header == header(len(body))
        assert dict(message.method) == {
            "consumer_tag": "ctag",
            "delivery_tag": first_tag + number,
            "redelivered": False,
            "exchange": "news",
            "routing_key": "a.b.c",
        }


@pytest.mark.parametrize(
    ("size_bytes", "pieces"),
    [(0, []), (1, [1]), (4087, [4087]), (4088, [4088]), (4089, [4088, 1]), (3 * 4088, [4088] * 3)],
)
def test_a_body_is_cut_at_frame_max(size_bytes: int, pieces: list[int]) -> None:
    body = b"x" * size_bytes

    delivered = split(bytes(framed(span(body))), FRAME_BYTES_MIN)
    assert [len(payload) for kind, _channel, payload in delivered if kind == frames.BODY] == pieces
    assert body_frames(3, body, FRAME_BYTES_MIN) == b"".join(
        frames.pack(kind, channel, payload) for kind, channel, payload in delivered if kind == frames.BODY
    )


def test_positions_are_told_and_the_place_to_go_on() -> None:
    given_span = span(b"one", b"two", b"three", before=10)
    framing, positions = DeliveryFraming(1, b"", 4096), array("Q")

    end = framing.run(given_span, bytearray(), 1, 2, 1 << 30, positions)

    assert list(positions) == [(1 << 32) + 10, (1 << 32) + 10 + (end - 10) // 2]
    assert StoredRecord(Span(given_span.buffer, end, given_span.end, 0)).body(given_span) == b"three"


def test_a_run_stops_once_the_room_is_used() -> None:
    bodies = [b"x" * 100] * 10

    assert len(list(parse(bytes(framed(span(*bodies), room=1)), 4096))) == 1
    assert len(list(parse(bytes(framed(span(*bodies), room=400)), 4096))) == 3
    assert framed(span(*bodies), room=0) == b""


def test_a_run_stops_before_a_large_body() -> None:
    assert len(list(parse(bytes(framed(span(b"a", b"x" * LARGE_BODY_BYTES, b"b"))), 4096))) == 1


def test_a_large_body_is_announced_and_follows_later() -> None:
    given_span, outbox = span(b"x" * LARGE_BODY_BYTES, redelivered=True), bytearray()

    DeliveryFraming(3, b"ctag", 4096).begin(StoredRecord(given_span), outbox, 9)

    (method_kind, _, method), (header_kind, _, content_header) = split(bytes(outbox), 4096)
    assert (method_kind, header_kind) == (frames.METHOD, frames.HEADER)
    deliver = methods.decode(method)
    assert isinstance(deliver, commands.Basic.Deliver)
    assert (deliver.delivery_tag, deliver.redelivered) == (9, True)
    assert content_header == header(LARGE_BODY_BYTES)


@pytest.mark.parametrize("redelivered", [True, False])
def test_redelivery_is_told(redelivered: bool) -> None:
    ((_channel, message),) = parse(bytes(framed(span(b"x", redelivered=redelivered))), 4096)

    assert message.method.redelivered is redelivered


def test_a_message_that_was_asked_for_is_framed_with_how_many_are_left() -> None:
    record = StoredRecord(span(b"", redelivered=True))

    ((_channel, message),) = parse(get_ok(4, record, 12, 345), 4096)

    assert dict(message.method) == {
        "delivery_tag": 12,
        "redelivered": True,
        "exchange": "news",
        "routing_key": "a.b.c",
        "message_count": 345,
    }


def test_a_returned_message_says_why() -> None:
    wire = returned(4, 312, b"NO_ROUTE", ADDRESS, header(2)) + body_frames(4, b"ab", 4096)

    ((_channel, message),) = parse(wire, 4096)

    assert dict(message.method) == {
        "reply_code": 312,
        "reply_text": "NO_ROUTE",
        "exchange": "news",
        "routing_key": "a.b.c",
    }
    assert message.body == b"ab"
