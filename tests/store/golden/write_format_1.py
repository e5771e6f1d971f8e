"""Writes the directory that every later version must be able to read.

`python -m tests.store.golden.write_format_1 PATH`

The released directory beside this file is never written again; a new format gets a directory and a writer of its own.
"""

import sys
from array import array
from pathlib import Path

from ipc.settings import StoreSettings
from shards.store.files import DiskFiles
from shards.store.message_store import MessageStore
from shards.store.record import PERSISTENT, encode
from tests.store.messages import ADDRESS, HEADER, take


class GoldenFiles(DiskFiles):
    """The disk, with the same salts every time."""

    __slots__ = ("_salt",)

    def __init__(self) -> None:
        super().__init__(descriptors_open_max=16)
        self._salt = 0x0E6B0000

    def nonce(self) -> int:
        self._salt += 1
        return self._salt


def write(directory: Path) -> None:
    """Two segments: one of three blocks with settled offsets and a settled range, one whole."""
    store = MessageStore(GoldenFiles(), str(directory), StoreSettings(segment_bytes_max=64 * 1024), durable=True)
    for number in range(30):
        body = b"golden message %d" % number
        if number == 20:
            body = b"a large golden message ".ljust(64 * 1024, b".")
        store.append(encode(1_700_000_000_000 + number, PERSISTENT, number % 10, ADDRESS, HEADER, body))
        if number in (9, 19):
            store.flush()
    store.flush()
    taken = [position for position, _ in take(store)]
    store.settle_many(array("Q", [taken[3], taken[1]]))
    store.settle_run(taken[8], taken[12], 5)
    store.close()


if __name__ == "__main__":
    write(Path(sys.argv[1]))
