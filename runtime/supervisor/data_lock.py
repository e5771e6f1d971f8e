"""Makes sure that a data directory is ours, readable, writable, of a format we know, and in nobody else's hands.

The lock is a `flock` on DATA/lock, and its descriptor is handed down to the shards: they may outlive a killed
supervisor while they flush, and as long as one of them does, no other supervisor may touch their files.
"""

import fcntl
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from ipc.data_directory import FORMAT_LINE, FORMAT_LINES_READ, FORMAT_VERSION, DataDirectory
from ipc.errors import ExitCode, StartRefused
from ipc.limits import KIB

FORMAT_PREFIX: Final = FORMAT_LINE.removesuffix(f"{FORMAT_VERSION}\n")
FORMAT_BYTES_MAX: Final = 256  # more is no format line of any version
NEW_SUFFIX: Final = ".new"
PROBE_NAME: Final = "probe"
PROBE_BYTES: Final = 64 * KIB  # with less room than this no queue can start a segment
# What an interrupted first start, or the file system itself, leaves in a directory that is still free.
NOT_FOREIGN: Final = frozenset({"lock", "lost+found", "format" + NEW_SUFFIX, PROBE_NAME})
PID_BYTES_MAX: Final = 20
POLL_SECONDS: Final = 0.05
DIRECTORY_MODE: Final = 0o700  # queues hold other people's messages


class DataLock:
    """A prepared data directory that is ours until `close()` and, as far as shards inherited it, until they end."""

    def __init__(self, paths: DataDirectory, descriptor: int) -> None:
        self.paths = paths
        self.descriptor = descriptor

    @classmethod
    def take(cls, paths: DataDirectory, *, patience_seconds: float = 0.0) -> Self:
        """Create or check the directory and lock it.

        `patience_seconds` bounds the wait for shards of a supervisor that was killed; a living one is never waited for.
        Raises StartRefused (DATA_DIRECTORY_UNUSABLE, DATA_DIRECTORY_IN_USE, FORMAT_UNKNOWN).
        """
        try:
            _create(paths.root)
            _check_format(paths)
            lock = cls(paths, _locked(paths, patience_seconds))
            try:
                _probe(paths.root)
                _check_format(paths)
                _write_format(paths)
            except BaseException:
                lock.close()
                raise
        except OSError as fault:
            raise _unusable(paths, fault.strerror or str(fault)) from fault
        return lock

    @classmethod
    def take_empty(cls, paths: DataDirectory) -> Self:
        """Create the directory, or find it empty, and lock it; `declare` makes a data directory of it.

        Raises StartRefused (DATA_DIRECTORY_UNUSABLE, DATA_DIRECTORY_IN_USE).
        """
        try:
            _create(paths.root)
            if not paths.lock.exists():
                _refuse_content(paths)  # before there is anything of ours in what may be somebody else's
            lock = cls(paths, _locked(paths, 0.0))
            try:
                _refuse_content(paths)
                _probe(paths.root)
            except BaseException:
                lock.close()
                raise
        except OSError as fault:
            raise _unusable(paths, fault.strerror or str(fault)) from fault
        return lock

    def declare(self) -> None:
        """What there is now is a data directory. Raises OSError."""
        _write_format(self.paths)

    def sign(self) -> None:
        """Write our pid into the lock file, so that commands find the broker. Raises StartRefused."""
        try:
            signature = f"{os.getpid()}\n".encode()
            os.ftruncate(self.descriptor, os.pwrite(self.descriptor, signature, 0))
        except OSError as fault:
            raise _unusable(self.paths, fault.strerror or str(fault)) from fault

    def close(self) -> None:
        os.close(self.descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def owner(paths: DataDirectory) -> int | None:
    """The pid of the supervisor that uses the directory; None if there is none.

    The file may still name a process that was killed, whose number somebody else has by now: only a process that has
    the lock file open is meant.
    """
    try:
        pid = int(paths.lock.read_bytes()[:PID_BYTES_MAX])
        lock = paths.lock.stat()
        descriptors = os.listdir(f"/proc/{pid}/fd")
    except (OSError, ValueError):
        return None
    return pid if any(_is_open(f"/proc/{pid}/fd/{descriptor}", lock) for descriptor in descriptors) else None


def _is_open(descriptor: str, file: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(descriptor), file)
    except OSError:  # closed since it was listed
        return False


def _create(root: Path) -> None:
    try:
        root.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise NotADirectoryError(0, "it is not a directory") from None


def _check_format(paths: DataDirectory) -> None:
    """Refuse what another version, or another program, wrote. An empty directory is free."""
    try:
        with paths.format.open("rb") as file:
            line = file.read(FORMAT_BYTES_MAX).decode("ascii", "replace")
    except FileNotFoundError:
        foreign = sorted(set(os.listdir(paths.root)) - NOT_FOREIGN)
        if foreign:
            raise _unusable(paths, f"it is no data directory of EbbMQ, but holds {foreign[0]!r}") from None
        return
    if line == FORMAT_LINE or line in FORMAT_LINES_READ:
        return
    version = line.removeprefix(FORMAT_PREFIX).strip()
    if line == f"{FORMAT_PREFIX}{version}\n" and version.isdecimal():
        known = f"has format {version}, and this version of EbbMQ knows formats up to {FORMAT_VERSION} only"
        raise StartRefused(ExitCode.FORMAT_UNKNOWN, f"data directory {paths.root} {known}")
    raise StartRefused(ExitCode.FORMAT_UNKNOWN, f"{paths.format} is not a format line of EbbMQ: {line[:40]!r}")


def _refuse_content(paths: DataDirectory) -> None:
    present = sorted(set(os.listdir(paths.root)) - NOT_FOREIGN)
    if present:
        raise _unusable(paths, f"it is not empty, but holds {present[0]!r}")


def _write_format(paths: DataDirectory) -> None:
    """Sign a directory that is empty or of an older format; a rename, so that the file is whole, whatever happens."""
    if paths.format.exists() and paths.format.read_text(encoding="ascii") == FORMAT_LINE:
        return
    new = paths.format.with_name(paths.format.name + NEW_SUFFIX)
    with new.open("w", encoding="ascii") as file:
        file.write(FORMAT_LINE)
        file.flush()
        os.fsync(file.fileno())
    new.rename(paths.format)
    folder = os.open(paths.root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _locked(paths: DataDirectory, patience_seconds: float) -> int:
    descriptor = os.open(paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _wait_for_lock(paths, descriptor, time.monotonic() + patience_seconds)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _wait_for_lock(paths: DataDirectory, descriptor: int, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            _refuse_owner(paths, patient=time.monotonic() < deadline)
        time.sleep(POLL_SECONDS)


def _refuse_owner(paths: DataDirectory, *, patient: bool) -> None:
    """Somebody holds the lock: no use in waiting for a living supervisor, nor for anybody past the deadline."""
    pid = owner(paths)
    if pid is not None:
        whom = f"process {pid}"
    elif patient:
        return
    else:
        whom = "processes that a former supervisor left behind"
    raise StartRefused(ExitCode.DATA_DIRECTORY_IN_USE, f"data directory {paths.root} is in use by {whom}")


def _probe(root: Path) -> None:
    """Write and sync a little: a file system that is full or read-only may still let an existing file be opened."""
    probe = root / PROBE_NAME
    try:
        with probe.open("wb") as file:
            file.write(bytes(PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    finally:
        probe.unlink(missing_ok=True)


def _unusable(paths: DataDirectory, reason: str) -> StartRefused:
    return StartRefused(ExitCode.DATA_DIRECTORY_UNUSABLE, f"data directory {paths.root} cannot be used: {reason}")
