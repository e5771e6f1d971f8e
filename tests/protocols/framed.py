"""Bytes from the broker as frames, for tests that look below methods and messages."""

from ipc.wire.amqp import frames


def split(wire: bytes, frame_max: int) -> list[tuple[int, int, bytes]]:
    """Every frame as (kind, channel, payload); one cut short or beyond `frame_max` fails the test."""
    found = []
    position = 0
    while position < len(wire):
        frame = frames.scan(wire, position, frame_max)
        assert frame is not None, "half a frame"
        assert frame.end + 1 - position <= frame_max, "too large a frame"
        found.append((frame.kind, frame.channel, wire[frame.start : frame.end]))
        position = frame.end + 1
    return found
