"""Writes the directory that every later version must be able to read.

`python -m tests.store.golden.write_format_2 PATH`

Released directories beside this file are never written again; a new format gets a directory and a writer of its own.
"""

import sys
from array import array
from pathlib import Path
from typing import Final

from ipc.settings import StoreSettings
from shards.store.files import DiskFiles
from shards.store.journal import Journal
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


QUEUE: Final = 7


def write(directory: Path) -> None:
    """A queue and a journal, ended suddenly.

    Of 40 messages 30 are in two segments: one of three blocks with settled offsets, a settled range and a return, one
    whole. Of the 10 in the journal two are settled, and so is one of the segment's, which only the journal says.
    """
    files = GoldenFiles()
    journal = Journal(files, str(directory / "journal"))
    settings = StoreSettings(segment_bytes_max=64 * 1024)
    store = MessageStore(
        files, str(directory / "queues" / str(QUEUE)), settings, durable=True, journal=journal, store=QUEUE
    )
    for number in range(30):
        store.append(message(number))
        if number in (9, 19):
            store.flush()
    store.flush()
    taken = [position for position, _ in take(store)]
    store.settle_many(array("Q", [taken[3], taken[1]]))
    store.settle_run(taken[8], taken[12], 5)
    store.note_return(taken[5])
    store.requeue(taken[5])
    store.flush()
    for number in range(30, 40):
        store.append(message(number))
    late = [position for position, _ in take(store)][-10:]
    store.settle_many(array("Q", [late[0], late[4], taken[14]]))
    store.note()
    journal.write()
    files.close()


def message(number: int) -> bytes:
    body = b"golden message %d" % number
    if number == 20:
        body = b"a large golden message ".ljust(64 * 1024, b".")
    return encode(1_700_000_000_000 + number, PERSISTENT, number % 10, ADDRESS, HEADER, body)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
