"""What only the kernel can show: a writer killed in the middle, and a disk that ends in the middle of a write."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ipc.limits import KIB
from ipc.settings import StoreSettings
from shards.store.files import DiskFiles
from shards.store.message_store import MessageStore
from shards.store.recovery import RecoveryReport
from tests.store.messages import take

ROOT = Path(__file__).parents[2]
SETTINGS = StoreSettings(segment_bytes_max=256 * KIB)

WRITER = """
import sys
from array import array
from ipc.settings import StoreSettings
from shards.store.files import DiskFiles
from shards.store.message_store import MessageStore
from tests.store.messages import record, take

store = MessageStore(DiskFiles(64), sys.argv[1], StoreSettings(segment_bytes_max=256 * 1024), durable=True)
written = settled = 0
while True:
    for _ in range(50):
        store.append(record(b"%d:" % written + bytes(written % 700)))
        written += 1
    taken = [position for position, _ in take(store, 30)]
    store.settle_run(taken[0], taken[-1], len(taken))
    settled += len(taken)
    store.flush()
    print(written, settled, flush=True)
"""

FILLER = """
import errno, resource, sys
from ipc.settings import StoreSettings
from shards.store.files import DiskFiles
from shards.store.message_store import MessageStore
from tests.store.messages import record

resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
store = MessageStore(DiskFiles(64), sys.argv[1], StoreSettings(), durable=True)
refused = 0
for number in range(1000):
    store.append(record(b"%d:" % number + bytes(700)))
    try:
        store.flush()
    except OSError as fault:
        assert fault.errno == errno.EFBIG, fault
        refused += 1
assert refused > 100, refused
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
store.flush()
"""


def numbers_in(directory: str) -> tuple[list[int], RecoveryReport]:
    report = RecoveryReport()
    store = MessageStore.recover(DiskFiles(64), directory, SETTINGS, report)
    assert store is not None
    return [int(body.partition(b":")[0]) for _, body in take(store)], report


@pytest.mark.process
@pytest.mark.parametrize("milliseconds", [30, 70, 150, 300])
def test_a_killed_writer_loses_nothing_it_had_flushed(tmp_path: Path, milliseconds: int) -> None:
    directory = str(tmp_path / "1")
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, directory], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        said = writer.stdout.readline()
        time.sleep(milliseconds / 1000)
        os.kill(writer.pid, signal.SIGKILL)
        lines = (said + writer.stdout.read()).splitlines(keepends=True)
    written, settled = map(int, [line for line in lines if line.endswith("\n")][-1].split())

    found, report = numbers_in(directory)

    # The turn that was cut short may be there or not, its messages and its acks each.
    assert found == list(range(found[0], found[-1] + 1))
    assert settled <= found[0] <= settled + 30
    assert written - 1 <= found[-1] <= written + 49
    assert report.segments_damaged == 0


@pytest.mark.process
@pytest.mark.parametrize("file_bytes_max", [30_000, 200_000])
def test_a_disk_that_ends_in_the_middle_of_a_write_loses_nothing(tmp_path: Path, file_bytes_max: int) -> None:
    directory = str(tmp_path / "1")

    subprocess.run([sys.executable, "-c", FILLER, directory, str(file_bytes_max)], cwd=ROOT, check=True, timeout=60)

    found, report = numbers_in(directory)
    assert found == list(range(1000))
    assert report.is_clean
