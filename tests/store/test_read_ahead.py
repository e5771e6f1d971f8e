"""Reading ahead: what is going to be read is in the page cache before it is read, and nothing that is wrong matters."""

import ctypes
import mmap
import os
from pathlib import Path
from threading import active_count

import pytest

from bench.page_cache import drop_cached
from shards.store.read_ahead import reading_ahead

STORES = 100
FILE_BYTES = 64 * 1024


def pages_in_cache(path: Path) -> int:
    size = path.stat().st_size
    with path.open("r+b") as file, mmap.mmap(file.fileno(), size) as mapped:
        pages = (ctypes.c_ubyte * (size // mmap.PAGESIZE))()
        libc = ctypes.CDLL(None, use_errno=True)
        start = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
        assert libc.mincore(ctypes.c_void_p(start), ctypes.c_size_t(size), pages) == 0, os.strerror(ctypes.get_errno())
        return sum(page & 1 for page in pages)


@pytest.fixture
def stores(tmp_path: Path) -> list[Path]:
    made = []
    for number in range(STORES):
        store = tmp_path / str(number)
        store.mkdir()
        for name in ("known", "unknown"):
            (store / name).write_bytes(os.urandom(FILE_BYTES))
        made.append(store)
    return made


def test_unknown_files_are_brought_and_of_known_ones_the_head(stores: list[Path]) -> None:
    files = [store / name for store in stores for name in ("known", "unknown")]
    for path in files:
        drop_cached([path])
    if any(map(pages_in_cache, files)):
        pytest.skip("this file system keeps what it is told to drop")
    threads = active_count()
    with reading_ahead({str(store): {"known"} for store in stores}):
        while any(not pages_in_cache(path) for path in files):
            os.sched_yield()
    assert active_count() == threads
    whole = FILE_BYTES // mmap.PAGESIZE
    assert all(pages_in_cache(store / "unknown") == whole for store in stores)
    assert all(0 < pages_in_cache(store / "known") < whole for store in stores)


def test_what_cannot_be_read_is_left_to_the_reader(stores: list[Path], tmp_path: Path) -> None:
    os.mkfifo(stores[0] / "pipe")
    (stores[1] / "link").symlink_to(tmp_path)
    with reading_ahead({str(tmp_path / "nowhere"): (), **{str(store): () for store in stores}}):
        pass  # and does not wait for anybody to write into the pipe


def test_threads_end_with_who_reads(stores: list[Path]) -> None:
    threads = active_count()
    with pytest.raises(OSError, match="disk"), reading_ahead({str(store): () for store in stores}):
        raise OSError("disk")
    assert active_count() == threads


def test_a_few_stores_are_read_as_they_are(stores: list[Path]) -> None:
    threads = active_count()
    with reading_ahead({str(stores[0]): ()}):
        assert active_count() == threads
