"""Lines out of a stream of bytes that comes in pieces, none of them longer than agreed."""


class LineTooLong(Exception):
    """The other side sent more than `bytes_max` without an end of line."""


class Lines:
    """Keeps what has come of the line that is not whole yet."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._rest = bytearray()

    def feed(self, data: bytes | bytearray) -> list[bytes]:
        """The lines that are whole now, without their ends. Raises LineTooLong; then the stream has lost its place."""
        self._rest += data
        *lines, rest = bytes(self._rest).split(b"\n")
        self._rest = bytearray(rest)
        if len(rest) > self._bytes_max or any(len(line) > self._bytes_max for line in lines):
            raise LineTooLong
        return [line.removesuffix(b"\r") for line in lines]
