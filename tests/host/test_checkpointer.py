"""Checkpoints hold nobody up: what waits for the disk waits in a thread, and the rest is done in slices."""

import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from ipc.limits import KIB
from ipc.reactor import READABLE, Reactor
from shards.host.bell import Bell
from shards.host.checkpointer import Checkpointer
from shards.model.turn import Turn
from shards.store import register as registers
from shards.store.blocks import Buffer
from shards.store.files import DetachedFile, DiskFiles, DiskSyncBatch
from shards.store.journal import Checkpoint, Journal
from shards.store.register import Register, SegmentFacts

MANY = 20_000
WRITTEN_AT_ONCE_MAX = 4 * KIB


class _Threads:
    """Who is who."""

    def __init__(self) -> None:
        self._loop = threading.get_ident()

    def refuse_on_the_loop(self, what: str) -> None:
        if threading.get_ident() == self._loop:
            raise AssertionError(f"the loop {what}")


class _Batch(DiskSyncBatch):
    threads: _Threads

    def run(self) -> None:
        self.threads.refuse_on_the_loop("syncs")
        super().run()


class _Detached:
    def __init__(self, file: DetachedFile, threads: _Threads) -> None:
        self._file = file
        self._threads = threads

    def write(self, offset: int, parts: Sequence[Buffer]) -> None:
        self._threads.refuse_on_the_loop("writes to a file that is a thread's")
        self._file.write(offset, parts)

    def replace(self, parts: Sequence[Buffer]) -> None:
        self._threads.refuse_on_the_loop("replaces a file")
        self._file.replace(parts)


class ImpatientFiles(DiskFiles):
    """Refuses syncs and large writes to the thread of the loop."""

    def __init__(self) -> None:
        super().__init__(64)
        self.threads = _Threads()

    def write(self, path: str, offset: int, parts: Sequence[Buffer], *, sync: bool) -> None:
        if sum(map(len, parts)) > WRITTEN_AT_ONCE_MAX:
            self.threads.refuse_on_the_loop("writes much")
        super().write(path, offset, parts, sync=sync)

    def sync_batch(self, *paths: str, directories: Iterable[str] = ()) -> _Batch:
        batch = _Batch([(path, None) for path in paths], [])
        batch.threads = self.threads
        return batch

    def detach(self, path: str) -> DetachedFile:  # type: ignore[override]
        return _Detached(super().detach(path), self.threads)


class Sealed:
    """A segment of which nothing else is to be known."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.is_registered = False

    def facts(self, store: int) -> SegmentFacts:
        return SegmentFacts(store, self.number, 1, 4096, 3, 0, 0, 300, 0, 0, 1)


class Harness:
    """A journal with nothing in it, whose register is to know of many segments."""

    def __init__(self, directory: Path) -> None:
        self.files = ImpatientFiles()
        self.path = str(directory / "segments")
        self.segments: list[Sealed] = []
        self.register = Register(self.files, self.path, self._everything)
        self.journal = Journal(self.files, str(directory / "journal"), self.register)
        self.turn = Turn()
        self.bell = Bell()
        self.checkpointer = Checkpointer(self.turn, self.bell)

    def _everything(self) -> Iterator[Iterable[SegmentFacts]]:
        yield (segment.facts(1) for segment in self.segments if segment.is_registered)

    def seal(self, count: int) -> None:
        for _ in range(count):
            segment = Sealed(len(self.segments) + 1)
            self.segments.append(segment)
            self.register.sealed(1, segment)

    def checkpoint(self) -> int:
        """Turn until it has ended; how many turns there were."""
        self.turn.checkpoints[self.journal] = None
        reactor = Reactor()
        reactor.add(self.bell.descriptor, READABLE)
        turns = 0
        self.checkpointer.proceed()
        while not all(segment.is_registered for segment in self.segments):
            assert reactor.poll(10)
            self.bell.silence()
            self.checkpointer.proceed()
            turns += 1
        reactor.close()
        return turns

    def known(self) -> set[int]:
        return set(Register(self.files, self.path, tuple).load().get(1, {}))


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    harness = Harness(tmp_path)
    yield harness
    harness.bell.close()
    harness.files.close()


def test_what_a_register_is_to_know_is_gathered_between_turns_and_written_by_a_thread(harness: Harness) -> None:
    harness.seal(MANY)

    assert harness.checkpoint() > 3
    assert harness.known() == set(range(1, MANY + 1))


def test_a_register_that_is_too_long_is_written_anew_by_a_thread(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registers, "REGISTER_BYTES_MIN", 1)
    harness.seal(10)
    harness.checkpoint()
    harness.register._bytes_max = 1
    before = Path(harness.path).stat().st_ino

    harness.seal(3)
    harness.checkpoint()

    assert Path(harness.path).stat().st_ino != before
    assert harness.known() == set(range(1, 14))
    harness.seal(2)
    harness.checkpoint()
    assert harness.known() == set(range(1, 16))


def test_a_journal_that_is_closed_while_it_is_prepared_for_is_left_alone(harness: Harness) -> None:
    harness.seal(MANY)
    harness.turn.checkpoints[harness.journal] = None
    harness.checkpointer.proceed()

    harness.register.stop()
    harness.turn.close_journal(harness.journal)
    harness.checkpointer.proceed()

    assert not Path(harness.path).exists()


def test_a_register_is_not_written_any_more_once_it_was_stopped(harness: Harness) -> None:
    harness.seal(2)
    checkpoint = harness.journal.begin_checkpoint()

    harness.register.stop()
    _run(harness, checkpoint)

    assert not Path(harness.path).exists()
    assert not any(segment.is_registered for segment in harness.segments)


def test_what_could_not_be_written_is_with_the_next_checkpoint(harness: Harness) -> None:
    harness.seal(2)
    Path(harness.path).mkdir()
    _run(harness)
    assert not any(segment.is_registered for segment in harness.segments)

    Path(harness.path).rmdir()
    harness.seal(1)
    _run(harness)

    assert harness.known() == {1, 2, 3}
    assert all(segment.is_registered for segment in harness.segments)


def test_a_second_checkpoint_does_not_write_while_the_first_does(harness: Harness) -> None:
    harness.seal(2)
    first = harness.journal.begin_checkpoint()
    harness.seal(1)
    second = harness.journal.begin_checkpoint()
    for checkpoint in (first, second):
        _run(harness, checkpoint)

    assert harness.known() == {1, 2}
    _run(harness)
    assert harness.known() == {1, 2, 3}


def _run(harness: Harness, checkpoint: Checkpoint | None = None) -> None:
    checkpoint = harness.journal.begin_checkpoint() if checkpoint is None else checkpoint
    thread = threading.Thread(target=checkpoint.run)
    thread.start()
    thread.join()
    harness.journal.end_checkpoint()
