"""A large body that is sent piece by piece, straight from the map of its segment.

The map is kept alive by whoever refers to it, so the message may be settled, its segment unlinked and its queue deleted
while the client is still reading; the kernel keeps the pages until the last reference goes.
"""

from mmap import mmap


class BodyMap:
    """Bytes `start` to `end` of a segment's map; of an unwritten tail, which goes on changing, a copy."""

    __slots__ = ("_source", "_start", "size_bytes")

    def __init__(self, source: mmap | bytearray, start: int, end: int) -> None:
        self.size_bytes = end - start
        if isinstance(source, bytearray):
            self._source: mmap | bytes = bytes(source[start:end])
            self._start = 0
        else:
            self._source = source
            self._start = start

    @property
    def copied_bytes(self) -> int:
        """Of memory; what is mapped is the kernel's."""
        return len(self._source) if isinstance(self._source, bytes) else 0

    def piece(self, at: int, count: int) -> bytes:
        """A copy of `count` bytes from `at`."""
        start = self._start + at
        return self._source[start : start + count]

    def close(self) -> None:
        """Let go of the map."""
        self._source = b""
