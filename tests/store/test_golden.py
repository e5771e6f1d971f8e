"""Directories of released formats stay readable, and today's writer still writes the current one byte for byte."""

import shutil
from pathlib import Path

import pytest

from ipc.settings import StoreSettings
from shards.store.files import DiskFiles
from shards.store.message_store import MessageStore
from shards.store.record import PERSISTENT, Record, decode_run
from shards.store.recovery import RecoveryReport
from tests.store.golden.write_format_1 import write
from tests.store.messages import ADDRESS, HEADER

GOLDEN = Path(__file__).parent / "golden" / "format-1"
SETTLED = {1, 3, 8, 9, 10, 11, 12}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN, tmp_path / "queue"))


def test_format_1_is_read(directory: Path) -> None:
    report = RecoveryReport()
    store = MessageStore.recover(DiskFiles(16), str(directory), StoreSettings(), report)
    assert store is not None
    records: list[Record] = []
    while (span := store.next_span()) is not None:
        found = decode_run(span.buffer, span.start, span.end)
        store.advance(len(found), span.end)
        records += found

    assert report.is_clean
    assert [record.timestamp - 1_700_000_000_000 for record in records] == [
        number for number in range(30) if number not in SETTLED
    ]
    for record in records:
        number = record.timestamp - 1_700_000_000_000
        assert (record.flags, record.priority, record.address, record.header) == (
            PERSISTENT,
            number % 10,
            ADDRESS,
            HEADER,
        )
        assert record.body.startswith(b"a large golden" if number == 20 else b"golden message %d" % number)


def test_format_1_is_still_what_is_written(tmp_path: Path) -> None:
    write(tmp_path / "queue")

    assert {path.name: path.read_bytes() for path in (tmp_path / "queue").iterdir()} == {
        path.name: path.read_bytes() for path in GOLDEN.iterdir()
    }
