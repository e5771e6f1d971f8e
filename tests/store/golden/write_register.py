"""Writes a vhost's queues and register as an end in order leaves them, which every later version must be able to read.

`python -m tests.store.golden.write_register PATH`
"""

import sys
from array import array
from pathlib import Path
from typing import Final

from ipc.settings import StoreSettings
from shards.store.message_store import MessageStore
from shards.store.register import Register
from tests.store.golden.write_format_2 import GoldenFiles, message
from tests.store.messages import take

PLAIN: Final = 7
RETURNED: Final = 9


def write(directory: Path) -> None:
    """Two queues, closed: 30 messages in three segments, three of them settled; and two that came back."""
    files = GoldenFiles()
    settings = StoreSettings(segment_bytes_max=64 * 1024)
    stores = {
        number: MessageStore(files, str(directory / "queues" / str(number)), settings, durable=True, store=number)
        for number in (PLAIN, RETURNED)
    }
    for number in range(30):
        stores[PLAIN].append(message(number))
    for number in range(2):
        stores[RETURNED].append(message(number))
    for store in stores.values():
        store.flush()
    taken = [position for position, _ in take(stores[PLAIN])]
    stores[PLAIN].settle_many(array("Q", [taken[0], taken[2], taken[5]]))
    for position in [*taken[1:2], *taken[3:5], *taken[6:]]:
        stores[PLAIN].requeue(position)
    for position, _ in take(stores[RETURNED]):
        stores[RETURNED].note_return(position)
        stores[RETURNED].requeue(position)
    for store in stores.values():
        store.close()
    Register(files, str(directory / "segments"), tuple).close(
        facts for store in stores.values() for facts in store.facts()
    )
    files.close()


if __name__ == "__main__":
    write(Path(sys.argv[1]))
