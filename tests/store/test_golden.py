"""Directories of released formats stay readable, and today's writer still writes the current one byte for byte."""

import shutil
from pathlib import Path

import pytest

from ipc.settings import StoreSettings
from shards.store.files import DiskFiles
from shards.store.message_store import MessageStore
from shards.store.record import PERSISTENT, Record, decode_run
from shards.store.recovery import RecoveryReport
from shards.store.register import Known, Register
from shards.store.replay import replay
from tests.store.golden import write_register
from tests.store.golden.write_format_2 import QUEUE, write
from tests.store.messages import ADDRESS, HEADER

GOLDEN = Path(__file__).parent / "golden"
SETTLED_1 = {1, 3, 8, 9, 10, 11, 12}
SETTLED_2 = SETTLED_1 | {14, 30, 34}
FIRST = 1_700_000_000_000


@pytest.fixture
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN / request.param, tmp_path / "copy"))


def read_all(store: MessageStore | None) -> list[Record]:
    assert store is not None
    records: list[Record] = []
    while (span := store.next_span()) is not None:
        found = decode_run(span.buffer, span.start, span.end)
        store.advance(len(found), span.end)
        records += found
    return records


def check(records: list[Record], numbers: list[int]) -> None:
    assert [record.timestamp - FIRST for record in records] == numbers
    for record in records:
        number = record.timestamp - FIRST
        assert record[1:5] == (PERSISTENT, number % 10, ADDRESS, HEADER)
        assert record.body.startswith(b"a large golden" if number == 20 else b"golden message %d" % number)


@pytest.mark.parametrize("directory", ["format-1"], indirect=True)
def test_format_1_is_read(directory: Path) -> None:
    report = RecoveryReport()
    store = MessageStore.recover(DiskFiles(16), str(directory), StoreSettings(), report)

    check(read_all(store), [number for number in range(30) if number not in SETTLED_1])
    assert report.is_clean


@pytest.mark.parametrize("directory", ["format-2"], indirect=True)
def test_format_2_is_read(directory: Path) -> None:
    report, files, queue = RecoveryReport(), DiskFiles(16), str(directory / "queues" / str(QUEUE))
    replay(files, str(directory / "journal"), {QUEUE: queue}.get, report)
    store = MessageStore.recover(files, queue, StoreSettings(), report)
    assert store is not None
    returns = store.returned_count

    check(read_all(store), [number for number in range(40) if number not in SETTLED_2])
    assert (returns, report.is_clean) == (1, True)


def test_format_2_is_still_what_is_written(tmp_path: Path) -> None:
    write(tmp_path)

    assert contents(tmp_path) == contents(GOLDEN / "format-2")


@pytest.mark.parametrize("directory", ["register-2"], indirect=True)
def test_a_register_of_format_2_is_read(directory: Path) -> None:
    report, files = RecoveryReport(), DiskFiles(16)
    register = Register(files, str(directory / "segments"), tuple)
    entries = register.load()
    register.begin()
    stores = {
        number: MessageStore.recover(
            files,
            str(directory / "queues" / str(number)),
            StoreSettings(),
            report,
            known=Known(entries[number], is_complete=True),
        )
        for number in (write_register.PLAIN, write_register.RETURNED)
    }
    plain, returned = stores.values()
    assert plain is not None and returned is not None

    assert (plain.ready_count, returned.ready_count, returned.returned_count) == (27, 2, 2)
    check(read_all(plain), [number for number in range(30) if number not in (0, 2, 5)])
    check(read_all(returned), [0, 1])
    assert report.is_clean


def test_a_register_of_format_2_is_still_what_is_written(tmp_path: Path) -> None:
    write_register.write(tmp_path)

    assert contents(tmp_path) == contents(GOLDEN / "register-2")


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}
