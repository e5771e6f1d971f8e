"""Messages for store tests, and the ways a test looks at a store."""

from shards.store.message_store import MessageStore
from shards.store.reader import Span
from shards.store.record import decode, decode_run, encode

ADDRESS = b"\x00\x04jobs"
HEADER = bytes.fromhex("003c0000000000000000001010000200")


def record(body: bytes | int, timestamp: int = 1) -> bytes:
    return encode(timestamp, 1, 0, ADDRESS, HEADER, body if isinstance(body, bytes) else b"%d" % body)


def bodies(span: Span) -> list[bytes]:
    return [message.body for message in decode_run(span.buffer, span.start, span.end)]


def positions(span: Span) -> list[int]:
    found = []
    index = span.start
    while index < span.end:
        found.append(span.base + index)
        index += int.from_bytes(span.buffer[index : index + 4], "little")
    return found


def take(store: MessageStore, count: int = 1 << 30) -> list[tuple[int, bytes]]:
    """Have up to `count` messages handed out: position and body of each."""
    taken: list[tuple[int, bytes]] = []
    while len(taken) < count and (span := store.next_span()) is not None:
        handed_out = list(zip(positions(span), bodies(span), strict=True))[: count - len(taken)]
        last = handed_out[-1][0] - span.base
        end = last + int.from_bytes(span.buffer[last : last + 4], "little")
        store.advance(len(handed_out), end)
        taken += handed_out
    return taken


def body_at(store: MessageStore, position: int) -> bytes:
    span = store.read(position)
    assert span.base + span.start == position
    return decode(span.buffer, span.start).body
