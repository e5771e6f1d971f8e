"""The contract of `Files`, kept by the disk and by its simulated twin alike."""

import errno
from pathlib import Path

import pytest

from shards.store.files import DiskFiles, Files
from tests.simulation.simulated_files import SimulatedFiles


@pytest.fixture(params=["disk", "simulated"])
def files(request: pytest.FixtureRequest) -> Files:
    return DiskFiles(descriptors_open_max=4, maps_open_max=2) if request.param == "disk" else SimulatedFiles()


@pytest.fixture
def directory(files: Files, tmp_path: Path) -> str:
    path = str(tmp_path / "queues" / "1")
    files.make_directory(path, sync=True)
    return path


def test_a_directory_may_be_made_twice(files: Files, directory: str) -> None:
    files.make_directory(directory, sync=True)

    assert files.list(directory) == []


def test_a_created_file_is_zeros(files: Files, directory: str) -> None:
    files.create(f"{directory}/a", 100, sync=True)

    assert files.size(f"{directory}/a") == 100
    assert files.read(f"{directory}/a", 0, 200) == bytes(100)


def test_creating_never_touches_what_is_there(files: Files, directory: str) -> None:
    files.write(f"{directory}/a", 0, [b"precious"], sync=False)

    with pytest.raises(FileExistsError):
        files.create(f"{directory}/a", 100, sync=True)

    assert files.read(f"{directory}/a", 0, 100) == b"precious"


def test_parts_land_one_behind_the_other(files: Files, directory: str) -> None:
    files.write(f"{directory}/a", 2, [b"ab", bytearray(b"cd"), memoryview(b"ef")], sync=True)

    assert files.read(f"{directory}/a", 0, 100) == b"\0\0abcdef"


def test_more_parts_than_one_call_to_the_kernel_takes_are_written(files: Files, directory: str) -> None:
    parts = [b"%4d" % number for number in range(3000)]

    files.write(f"{directory}/a", 0, parts, sync=False)

    assert files.read(f"{directory}/a", 0, 20_000) == b"".join(parts)


def test_a_map_shows_later_writes(files: Files, directory: str) -> None:
    files.create(f"{directory}/a", 8192, sync=False)
    mapped = files.map(f"{directory}/a", 8192)

    files.write(f"{directory}/a", 5000, [b"later"], sync=False)

    assert mapped[5000:5005] == b"later"


def test_a_map_grows_with_its_file(files: Files, directory: str) -> None:
    files.create(f"{directory}/a", 4096, sync=False)
    files.map(f"{directory}/a", 4096)

    files.allocate(f"{directory}/a", 8192)

    assert len(files.map(f"{directory}/a", 8192)) == 8192


def test_a_map_never_reaches_beyond_a_file_that_was_cut(files: Files, directory: str) -> None:
    files.create(f"{directory}/a", 65536, sync=False)
    files.map(f"{directory}/a", 65536)

    files.allocate(f"{directory}/a", 4096)

    assert len(files.map(f"{directory}/a", 4096)) == 4096


def test_a_map_outlives_its_file(files: Files, directory: str) -> None:
    files.write(f"{directory}/a", 0, [b"still here"], sync=False)
    mapped = files.map(f"{directory}/a", 10)

    files.unlink(f"{directory}/a")

    assert mapped[:] == b"still here"


def test_more_files_than_may_be_open_can_be_used(files: Files, directory: str) -> None:
    for number in range(20):
        files.write(f"{directory}/{number}", 0, [b"%d" % number], sync=True)
        files.map(f"{directory}/{number}", 1)

    files.take_unsynced().run()

    assert [files.read(f"{directory}/{number}", 0, 9) for number in range(20)] == [b"%d" % n for n in range(20)]


def test_released_pages_come_back_with_their_content(files: Files, directory: str) -> None:
    files.write(f"{directory}/a", 0, [b"x" * 100_000], sync=True)
    mapped = files.map(f"{directory}/a", 100_000)

    files.release(f"{directory}/a")()

    assert mapped[:] == b"x" * 100_000


def test_a_file_unlinked_before_its_pages_are_dropped_is_no_error(files: Files, directory: str) -> None:
    files.write(f"{directory}/a", 0, [b"x"], sync=True)
    drop = files.release(f"{directory}/a")

    files.unlink(f"{directory}/a")

    drop()


def test_a_forgotten_file_opens_again(files: Files, directory: str) -> None:
    files.write(f"{directory}/a", 0, [b"x"], sync=False)

    files.forget(f"{directory}/a")

    assert files.map(f"{directory}/a", 1)[:] == b"x"


def test_renaming_moves_the_content(files: Files, directory: str) -> None:
    files.write(f"{directory}/a", 0, [b"x"], sync=False)

    files.rename(f"{directory}/a", f"{directory}/b")

    assert files.list(directory) == ["b"]
    assert files.read(f"{directory}/b", 0, 9) == b"x"


def test_unlinking_what_is_gone_is_fine(files: Files, directory: str) -> None:
    files.write(f"{directory}/a", 0, [b"x"], sync=True)

    files.unlink(f"{directory}/a")
    files.unlink(f"{directory}/a")

    assert files.list(directory) == []
    files.take_unsynced().run()


def test_a_file_unlinked_while_a_batch_waits_is_fine(files: Files, directory: str) -> None:
    files.write(f"{directory}/a", 0, [b"x"], sync=True)
    batch = files.take_unsynced()

    files.unlink(f"{directory}/a")

    batch.run()


def test_only_what_asked_for_it_is_in_a_batch(files: Files, directory: str) -> None:
    files.take_unsynced().run()

    files.write(f"{directory}/a", 0, [b"x"], sync=False)
    assert not files.take_unsynced()

    files.write(f"{directory}/a", 1, [b"y"], sync=True)
    assert files.take_unsynced()
    assert not files.take_unsynced()


def test_a_removed_tree_is_gone(files: Files, directory: str) -> None:
    files.write(f"{directory}/a", 0, [b"x"], sync=True)

    files.remove_tree(directory)
    files.remove_tree(directory)

    assert files.list(directory) == []
    files.take_unsynced().run()


def test_a_missing_file_is_an_error_where_it_must_exist(files: Files, directory: str) -> None:
    for use in (files.size, lambda path: files.map(path, 1), lambda path: files.read(path, 0, 1)):
        with pytest.raises(OSError) as refused:
            use(f"{directory}/missing")
        assert refused.value.errno == errno.ENOENT


def test_a_missing_directory_has_no_names(files: Files, directory: str) -> None:
    assert files.list(f"{directory}/missing") == []
    with pytest.raises(FileNotFoundError):
        files.write(f"{directory}/missing/a", 0, [b"x"], sync=True)


def test_the_disk_keeps_no_more_open_than_allowed(tmp_path: Path) -> None:
    files = DiskFiles(descriptors_open_max=4, maps_open_max=2)
    for number in range(20):
        files.write(f"{tmp_path}/{number}", 0, [b"x"], sync=True)
        files.map(f"{tmp_path}/{number}", 1)

    assert files.descriptors_open <= 4
    assert files.maps_open <= 2


def test_a_descriptor_evicted_while_a_batch_waits_stays_open_for_it(tmp_path: Path) -> None:
    files = DiskFiles(descriptors_open_max=2)
    files.write(f"{tmp_path}/a", 0, [b"x"], sync=True)
    batch = files.take_unsynced()
    for number in range(10):
        files.write(f"{tmp_path}/{number}", 0, [b"x"], sync=False)

    batch.run()


def test_a_power_failure_takes_only_what_was_not_synced() -> None:
    for seed in range(50):
        files = SimulatedFiles(seed)
        files.make_directory("/q", sync=True)
        files.write("/q/a", 0, [b"safe"], sync=True)
        files.take_unsynced().run()
        files.write("/q/a", 4, [b"unsafe"], sync=True)
        files.write("/q/b", 0, [b"unsafe"], sync=True)

        after = files.power_failure()

        assert after.content("/q/a")[:4] == b"safe"


def test_a_refused_write_may_be_repeated() -> None:
    files = SimulatedFiles()
    files.make_directory("/q", sync=True)
    files.write("/q/a", 0, [b"1"], sync=True)
    files.refuse(0)

    with pytest.raises(OSError):
        files.write("/q/a", 1, [b"23"], sync=True)
    files.write("/q/a", 1, [b"23"], sync=True)

    assert files.content("/q/a") == b"123"
