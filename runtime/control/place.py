"""Where the control socket is, and who gets at it: in the data directory, for the broker's user alone.

A socket's path may have 107 bytes, a data directory's any number: so both ends name it below a descriptor of the
directory, `/proc/self/fd/NUMBER/control.sock`.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from ipc.data_directory import DataDirectory
from ipc.limits import CONTROL_BACKLOG

MODE: Final = 0o600


def listen(paths: DataDirectory) -> socket.socket:
    """Make the socket; the data lock is ours, so whatever lies there was left by a broker that was killed.

    Raises OSError.
    """
    with suppress(FileNotFoundError):
        paths.control.unlink()
    end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(end.fileno(), MODE)  # the file gets it in the moment it comes into being
        with _short_name(paths) as name:
            end.bind(name)
        end.listen(CONTROL_BACKLOG)
    except BaseException:
        end.close()
        raise
    return end


def connect(paths: DataDirectory, *, seconds: float) -> socket.socket:
    """The other end, with this time-out.

    Raises OSError; when nobody is there, FileNotFoundError or ConnectionRefusedError.
    """
    end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        end.settimeout(seconds)
        with _short_name(paths) as name:
            end.connect(name)
    except BaseException:
        end.close()
        raise
    return end


def remove(paths: DataDirectory) -> None:
    """Nobody listens any more."""
    with suppress(OSError):
        paths.control.unlink()


@contextmanager
def _short_name(paths: DataDirectory) -> Iterator[str]:
    directory = os.open(paths.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{paths.control.name}"
    finally:
        os.close(directory)
