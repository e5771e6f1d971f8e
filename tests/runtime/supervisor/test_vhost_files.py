"""What a deleted vhost leaves on disk goes, even if the broker was interrupted; nothing else does."""

from pathlib import Path

import pytest

from ipc.data_directory import DataDirectory
from runtime.supervisor import vhost_files


@pytest.fixture
def paths(tmp_path: Path) -> DataDirectory:
    made = DataDirectory(tmp_path)
    vhost_files.prepare(made)
    return made


def fill(directory: Path) -> None:
    (directory / "queues" / "1").mkdir(parents=True)
    (directory / "queues" / "1" / "0000000000.messages").write_bytes(b"m")


def test_a_deleted_vhost_leaves_nothing(paths: DataDirectory) -> None:
    fill(paths.vhost(1))
    fill(paths.vhost(2))

    vhost_files.remove(paths, 1)

    assert not paths.vhost(1).exists()
    assert paths.vhost(2).exists()


def test_a_vhost_that_never_had_files_can_be_removed(paths: DataDirectory) -> None:
    vhost_files.remove(paths, 1)


def test_an_interrupted_removal_is_finished(paths: DataDirectory) -> None:
    fill(paths.vhost(1).with_name("1.deleted"))
    fill(paths.vhost(2))

    vhost_files.finish_removals(paths)

    assert [path.name for path in paths.vhost(1).parent.iterdir()] == ["2"]


def test_files_of_an_unknown_vhost_are_found_and_kept(paths: DataDirectory) -> None:
    fill(paths.vhost(1))
    fill(paths.vhost(2))

    assert vhost_files.orphans(paths, {1}) == [paths.vhost(2)]
    assert paths.vhost(2).exists()
