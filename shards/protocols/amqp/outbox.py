"""What a client has not been sent yet: one buffer, and behind it a large body that is brought in piece by piece.

```
buffer (sent from its front) │ body: channel, map of the message, how far │ behind: frames written since
```
While a large body is under way nothing else is delivered, so there is never more than one, and frames of the same
channel cannot get between its pieces.
"""

import sys
from typing import Final

from ipc.limits import FRAME_OVERHEAD_BYTES, LARGE_BODY_BYTES
from ipc.wire.amqp import frames
from shards.store.body_map import BodyMap
from shards.store.half_done import no_way_back

_PIECE_BYTES: Final = 256 * 1024  # brought in at a time, once the buffer has run low


class Outbox:
    """Bytes for one client; `high` and `low` are the water marks between which delivery stops and resumes."""

    __slots__ = ("_behind", "_body", "_body_at", "_body_channel", "_frame_max", "_high", "_low", "buffer")

    def __init__(self, *, high: int, low: int, frame_max: int) -> None:
        self.buffer = bytearray()
        self._high = high
        self._low = min(low, high - 1)  # a buffer without room is never low, or nobody would notice that room comes
        self._frame_max = frame_max
        self._behind: bytearray | None = None
        self._body: BodyMap | None = None
        self._body_at = 0
        self._body_channel = 0

    @property
    def size_bytes(self) -> int:
        """Of memory, with a large body that is under way unless it lies in a file."""
        size_bytes = sys.getsizeof(self.buffer)
        if self._behind is not None:
            size_bytes += sys.getsizeof(self._behind)
        if self._body is not None:
            size_bytes += self._body.copied_bytes
        return size_bytes

    @property
    def pending_bytes(self) -> int:
        """Frames that have not been sent; of a large body what has been brought in."""
        return len(self.buffer) + (len(self._behind) if self._behind is not None else 0)

    @property
    def is_clogged(self) -> bool:
        """Whether replies have brought it beyond what deliveries ever could: the client asks and does not read."""
        return self.pending_bytes > 2 * (self._high + LARGE_BODY_BYTES)

    @property
    def room_bytes(self) -> int:
        """What deliveries may still add; nothing while a large body is under way."""
        return 0 if self._body is not None else self._high - len(self.buffer)

    @property
    def is_low(self) -> bool:
        return self._body is None and len(self.buffer) <= self._low

    @property
    def is_empty(self) -> bool:
        return not self.buffer and self._body is None

    def write(self, data: bytes) -> None:
        if self._behind is not None:
            self._behind += data
        else:
            self.buffer += data

    def begin_body(self, channel: int, body: BodyMap) -> None:
        """Send `body` in frames after everything written so far; the map is closed when all of it was brought in."""
        assert self._body is None
        self._body = body
        self._body_at = 0
        self._body_channel = channel
        self._behind = bytearray()
        self._refill()

    def take_back(self, written_bytes: int) -> None:
        """Nothing is sent of a message that could not be written as a whole; `buffer` had so many bytes before it."""
        with no_way_back:
            body, self._body, self._behind = self._body, None, None
            if body is not None:
                body.close()
            del self.buffer[written_bytes:]

    def sent(self, count: int) -> None:
        """The first `count` bytes of `buffer` are the kernel's now."""
        del self.buffer[:count]
        if self._body is not None and len(self.buffer) <= self._low:
            self._refill()

    def _refill(self) -> None:
        body = self._body
        assert body is not None
        piece_max = min(self._frame_max - FRAME_OVERHEAD_BYTES, _PIECE_BYTES)
        end = min(body.size_bytes, self._body_at + _PIECE_BYTES)
        while self._body_at < end:
            piece = body.piece(self._body_at, min(piece_max, body.size_bytes - self._body_at))
            self.buffer += frames.pack(frames.BODY, self._body_channel, piece)
            self._body_at += len(piece)
        if self._body_at == body.size_bytes:
            self._finish_body()

    def _finish_body(self) -> None:
        body, self._body = self._body, None
        behind, self._behind = self._behind, None
        if body is not None:
            body.close()
        if behind:
            self.buffer += behind

    def discard(self) -> None:
        """The client is gone, and nobody will read this."""
        self._finish_body()
        self.buffer.clear()  # whoever still refers to it keeps nothing
        self.buffer = bytearray()
