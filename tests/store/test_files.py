"""The contract of `Files`, kept by the disk and by its simulated twin alike."""

import errno
import os
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

import pytest

from shards.store.copying import Piece
from shards.store.files import SYNCED_ONE_BY_ONE_MAX, DiskFiles, Files
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


def test_a_detached_file_is_written_and_replaced(files: Files, directory: str) -> None:
    path = f"{directory}/a"
    files.write(path, 0, [b"before"], sync=False)
    files.detach(path).write(6, [b" and", b" after"])
    assert files.read(path, 0, 100) == b"before and after"

    file = files.detach(path)
    file.replace([b"an", b"other"])
    file.write(7, [b" one"])

    assert files.read(path, 0, 100) == b"another one"
    assert files.list(directory) == ["a"]


def test_a_detached_file_that_is_missing_is_made(files: Files, directory: str) -> None:
    files.detach(f"{directory}/a").write(0, [b"new"])

    assert files.read(f"{directory}/a", 0, 100) == b"new"


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


# copies ---------------------------------------------------------------------------------------------------------------


class Copied:
    """A copy of some files in `directory` that was begun."""

    def __init__(self, files: Files, directory: str, *pieces: tuple[str, int], is_final: bool = False) -> None:
        self.files = files
        self.root = str(PurePosixPath(directory).parent)
        self.target = f"{self.root} copied"
        self.aside = f"{self.root} aside"
        files.make_directory(self.target, sync=True)
        self.copying = files.begin_copy(self.root, self.target, self.aside)
        self.copying.gather(directory, (Piece(f"{directory}/{name}", end, is_final) for name, end in pieces))
        if pieces:
            self.copying.cut()

    def run(self) -> "Copied":
        self.counted = self.copying.run(lambda: None)
        self.copying.end()
        return self

    def content(self, name: str) -> bytes:
        return self.files.read(f"{self.target}/1/{name}", 0, 1 << 20)


def test_a_copy_ends_where_its_piece_did(files: Files, directory: str) -> None:
    files.write(f"{directory}/a", 0, [b"before"], sync=False)
    files.write(f"{directory}/b", 0, [b"whole"], sync=False)
    copied = Copied(files, directory, ("a", 6), ("b", 5))
    files.write(f"{directory}/a", 6, [b" and after"], sync=False)

    copied.run()

    assert (copied.content("a"), copied.content("b")) == (b"before", b"whole")
    assert copied.counted[:2] == (2, 11)


@pytest.mark.parametrize("is_final", [False, True])
def test_what_loses_its_name_is_copied_all_the_same(files: Files, directory: str, is_final: bool) -> None:
    for name in ("unlinked", "renamed", "replaced", "in a tree"):
        files.write(f"{directory}/{name}", 0, [name.encode()], sync=False)
    copied = Copied(
        files,
        directory,
        ("unlinked", 8),
        ("renamed", 7),
        ("replaced", 8),
        ("in a tree", 9),
        is_final=is_final,
    )
    files.unlink(f"{directory}/unlinked")
    files.rename(f"{directory}/renamed", f"{directory}/elsewhere")
    files.unlink(f"{directory}/replaced")
    files.write(f"{directory}/replaced", 0, [b"somebody else's"], sync=False)
    files.unlink(f"{directory}/replaced")
    files.remove_tree(directory)
    files.make_directory(directory, sync=True)
    files.write(f"{directory}/replaced", 0, [b"another one's"], sync=False)

    copied.run()

    for name in ("unlinked", "renamed", "replaced", "in a tree"):
        assert copied.content(name) == name.encode()
    assert files.list(copied.aside) == []
    assert files.list(directory) == ["replaced"]


def test_what_was_copied_or_not_asked_for_goes_at_once(files: Files, directory: str) -> None:
    for name in ("a", "other"):
        files.write(f"{directory}/{name}", 0, [b"x"], sync=False)
    copied = Copied(files, directory, ("a", 1))
    files.unlink(f"{directory}/other")
    copied.copying.run(lambda: None)
    files.unlink(f"{directory}/a")

    assert files.list(copied.aside) == []
    assert files.list(directory) == []


def test_a_copy_that_is_stopped_keeps_nothing(files: Files, directory: str) -> None:
    files.write(f"{directory}/a", 0, [b"x"], sync=False)
    files.write(f"{directory}/b", 0, [b"x"], sync=False)
    copied = Copied(files, directory, ("a", 1), ("b", 1))
    files.unlink(f"{directory}/a")

    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        copied.copying.run(stop)
    copied.copying.end()
    files.unlink(f"{directory}/b")

    assert files.list(copied.aside) == []


def test_a_copy_of_what_is_shorter_than_it_was_is_refused(files: Files, directory: str) -> None:
    files.write(f"{directory}/a", 0, [b"long"], sync=False)
    copied = Copied(files, directory, ("a", 4))
    files.allocate(f"{directory}/a", 2)

    with pytest.raises(OSError, match="is shorter than it was"):
        copied.copying.run(lambda: None)


def test_a_copy_is_safe_from_a_power_failure(directory: str) -> None:
    for seed in range(20):
        files = SimulatedFiles(seed)
        files.make_directory(directory, sync=True)
        files.write(f"{directory}/a", 0, [b"unsynced"], sync=False)

        copied = Copied(files, directory, ("a", 8)).run()

        assert files.power_failure().content(f"{copied.target}/1/a") == b"unsynced"


def test_the_disk_links_what_is_final_and_copies_what_is_not(tmp_path: Path) -> None:
    files = DiskFiles(descriptors_open_max=4)
    directory = str(tmp_path / "queues" / "1")
    files.make_directory(directory, sync=True)
    files.write(f"{directory}/a", 0, [b"x"], sync=False)
    files.write(f"{directory}/b", 0, [b"x"], sync=False)

    final = Copied(files, directory, ("a", 1), is_final=True).run()
    other = Copied(files, directory, ("b", 1)).run()

    assert (final.counted.files_linked, other.counted.files_linked) == (1, 0)
    assert [os.stat(f"{directory}/{name}").st_nlink for name in "ab"] == [2, 1]


def test_the_disk_copies_what_it_cannot_link(tmp_path: Path) -> None:
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system")
    files = DiskFiles(descriptors_open_max=4)
    content = os.urandom(100_000)
    files.write(f"{tmp_path}/a", 0, [content], sync=False)

    with TemporaryDirectory(dir=memory) as target:
        copying = files.begin_copy(str(tmp_path), target, f"{tmp_path}/aside")
        copying.gather(str(tmp_path), [Piece(f"{tmp_path}/a", 70_000, is_final=True)])
        copying.cut()
        assert copying.run(lambda: None) == (1, 70_000, 0)

        assert Path(target, "a").read_bytes() == content[:70_000]


def test_a_file_that_cannot_be_kept_goes_and_takes_the_copy_with_it(tmp_path: Path) -> None:
    """Who deletes may need the room; a backup can be made again."""
    files = DiskFiles(descriptors_open_max=4)
    for name in "ab":
        files.write(f"{tmp_path}/{name}", 0, [b"x"], sync=False)
    (tmp_path / "no directory").write_bytes(b"")
    (tmp_path / "target").mkdir()
    copying = files.begin_copy(str(tmp_path), f"{tmp_path}/target", f"{tmp_path}/no directory")
    copying.gather(str(tmp_path), (Piece(f"{tmp_path}/{name}", 1, is_final=False) for name in "ab"))
    copying.cut()

    files.unlink(f"{tmp_path}/b")

    assert not (tmp_path / "b").exists()
    with pytest.raises(OSError) as refused:
        copying.run(lambda: None)
    assert refused.value.errno in (errno.EEXIST, errno.ENOTDIR)


def test_whatever_changes_while_a_copy_gathers_is_told(files: Files, directory: str) -> None:
    other = str(PurePosixPath(directory).with_name("2"))
    third = str(PurePosixPath(directory).with_name("3"))
    for place in (other, third):
        files.make_directory(place, sync=True)
        files.write(f"{place}/a", 0, [b"x"], sync=False)
    copying = files.begin_copy(str(PurePosixPath(directory).parent), "/elsewhere", "/aside")
    told = []
    for change in (
        lambda: files.write(f"{directory}/a", 0, [b"x"], sync=False),
        lambda: files.create(f"{directory}/b", 1, sync=False),
        lambda: files.allocate(f"{directory}/b", 2),
        lambda: files.unlink(f"{directory}/b"),
        lambda: files.rename(f"{directory}/a", f"{other}/b"),
        lambda: files.remove_tree(third),
        lambda: files.read(f"{other}/a", 0, 1),
    ):
        change()
        told.append({PurePosixPath(place).name for place in copying.take_changed()})

    assert told[:4] == [{"1"}, {"1"}, {"1"}, {"1"}]
    assert told[4] == {"1", "2"}
    assert "3" in told[5]
    assert told[6] == set()
    copying.end()


def test_what_was_gathered_again_counts_and_nothing_else_is_kept(files: Files, directory: str) -> None:
    for name in "abc":
        files.write(f"{directory}/{name}", 0, [name.encode()], sync=False)
    copied = Copied(files, directory)
    copied.copying.gather(directory, [Piece(f"{directory}/a", 1, False), Piece(f"{directory}/b", 1, False)])
    files.unlink(f"{directory}/a")
    copied.copying.gather(directory, [Piece(f"{directory}/b", 1, False), Piece(f"{directory}/c", 1, False)])
    copied.copying.cut()
    files.unlink(f"{directory}/b")

    copied.run()

    assert files.list(f"{copied.target}/1") == ["b", "c"]
    assert (copied.content("b"), copied.content("c")) == (b"b", b"c")


def test_a_batch_of_many_files_covers_them_whatever_has_gone_meanwhile(files: Files, directory: str) -> None:
    paths = [f"{directory}/{number}" for number in range(3 * SYNCED_ONE_BY_ONE_MAX)]
    for path in paths[1:]:
        files.write(path, 0, [b"x"], sync=False)
    batch = files.sync_batch(*paths)
    files.unlink(paths[-1])

    assert batch
    batch.run()
