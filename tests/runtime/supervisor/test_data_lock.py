"""Whose a data directory is, and what it must look like to be used."""

import fcntl
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipc.data_directory import FORMAT_LINE, DataDirectory
from ipc.errors import ExitCode, StartRefused
from runtime.supervisor.data_lock import DataLock, owner


@pytest.fixture
def paths(tmp_path: Path) -> DataDirectory:
    return DataDirectory(tmp_path / "data")


def refusal(paths: DataDirectory, *, patience_seconds: float = 0.0) -> StartRefused:
    with pytest.raises(StartRefused) as caught:
        DataLock.take(paths, patience_seconds=patience_seconds)
    assert str(paths.root) in str(caught.value)
    return caught.value


def content(paths: DataDirectory) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in paths.root.iterdir()}


def test_a_missing_directory_is_made_for_us_alone(paths: DataDirectory) -> None:
    with DataLock.take(paths):
        assert content(paths) == {"format": FORMAT_LINE.encode(), "lock": b""}
        assert paths.root.stat().st_mode & 0o777 == 0o700


def test_our_own_directory_is_taken_again(paths: DataDirectory) -> None:
    DataLock.take(paths).close()

    DataLock.take(paths).close()


def test_an_interrupted_first_start_leaves_a_directory_that_can_be_taken(paths: DataDirectory) -> None:
    paths.root.mkdir()
    for name in ("lock", "format.new", "probe"):
        (paths.root / name).write_text("half")
    (paths.root / "lost+found").mkdir()

    DataLock.take(paths).close()

    assert paths.format.read_text() == FORMAT_LINE


def test_a_directory_of_something_else_is_left_as_it_is(paths: DataDirectory) -> None:
    paths.root.mkdir()
    (paths.root / "thesis.tex").write_text("mine")

    refused = refusal(paths)

    assert refused.exit_code is ExitCode.DATA_DIRECTORY_UNUSABLE
    assert "thesis.tex" in str(refused)
    assert content(paths) == {"thesis.tex": b"mine"}


@pytest.mark.parametrize(
    ("line", "words"),
    [("ebbmq data format 3\n", "format 3"), ("", "''"), ("v0\n" * 1000, "v0"), ("ebbmq data format 1", "format line")],
)
def test_another_format_is_left_as_it_is(paths: DataDirectory, line: str, words: str) -> None:
    paths.root.mkdir()
    paths.format.write_text(line)

    refused = refusal(paths)

    assert refused.exit_code is ExitCode.FORMAT_UNKNOWN
    assert words in str(refused)
    assert content(paths) == {"format": line.encode()}


def test_an_older_format_becomes_the_current_one(paths: DataDirectory) -> None:
    paths.root.mkdir()
    paths.format.write_text("ebbmq data format 1\n")

    DataLock.take(paths).close()

    assert paths.format.read_text() == FORMAT_LINE


def test_a_file_is_no_directory(paths: DataDirectory) -> None:
    paths.root.write_text("mine")

    refused = refusal(paths)

    assert refused.exit_code is ExitCode.DATA_DIRECTORY_UNUSABLE
    assert str(refused).endswith("cannot be used: it is not a directory")
    assert paths.root.read_text() == "mine"


def test_a_file_system_without_room_is_refused_and_nothing_half_written_stays(paths: DataDirectory) -> None:
    """A limit on the size of files refuses like a full disk: with an OSError in the middle of a write."""
    paths.root.mkdir()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    former = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        refused = refusal(paths)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, former)

    assert refused.exit_code is ExitCode.DATA_DIRECTORY_UNUSABLE
    assert content(paths) == {"lock": b""}


def test_a_read_only_file_system_is_refused(tmp_path: Path) -> None:
    """In a mount namespace of its own, because no mode keeps root from writing."""
    script = (
        f"mount -t tmpfs tmpfs {tmp_path} && mkdir {tmp_path}/data && mount -o remount,ro {tmp_path} && "
        f"exec {sys.executable} -c '"
        "from ipc.data_directory import DataDirectory\n"
        "from runtime.supervisor.data_lock import DataLock\n"
        f'DataLock.take(DataDirectory("{tmp_path}/data"))\''
    )
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        check=False,
    )
    if "StartRefused" not in done.stderr:
        pytest.skip(f"no mount namespace here: {done.stderr.strip()}")

    assert "cannot be used: Read-only file system" in done.stderr


# in use ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def taken(paths: DataDirectory) -> Iterator[DataLock]:
    with DataLock.take(paths) as lock:
        lock.sign()
        yield lock


def test_a_directory_in_use_names_the_process(taken: DataLock) -> None:
    refused = refusal(taken.paths, patience_seconds=60)

    assert refused.exit_code is ExitCode.DATA_DIRECTORY_IN_USE
    assert str(refused).endswith(f"is in use by process {os.getpid()}")


def test_the_owner_is_found_while_it_lives_and_only_then(paths: DataDirectory) -> None:
    with DataLock.take(paths) as lock:
        lock.sign()
        assert owner(paths) == os.getpid()

    assert owner(paths) is None


def test_a_number_that_another_process_has_by_now_is_no_owner(paths: DataDirectory) -> None:
    DataLock.take(paths).close()
    paths.lock.write_text("1\n")

    assert owner(paths) is None


def test_heirs_of_a_dead_owner_are_waited_for_only_so_long(paths: DataDirectory) -> None:
    with DataLock.take(paths) as lock:  # unsigned, like a lock whose owner was killed
        assert fcntl.fcntl(lock.descriptor, fcntl.F_GETFD) & fcntl.FD_CLOEXEC

        refused = refusal(paths, patience_seconds=0.1)

    assert refused.exit_code is ExitCode.DATA_DIRECTORY_IN_USE
    assert str(refused).endswith("is in use by processes that a former supervisor left behind")


def test_a_lock_passed_on_lasts_until_the_heir_ends(paths: DataDirectory) -> None:
    with DataLock.take(paths) as lock:
        heir = subprocess.Popen(["sleep", "0.3"], pass_fds=[lock.descriptor])

    with DataLock.take(paths, patience_seconds=10):
        assert heir.wait(10) == 0
