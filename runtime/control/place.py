"""Where the broker's own sockets are, and who gets at them: in the data directory, for the broker's user alone.

A socket's path may have 107 bytes, a data directory's any number: so both ends name it below a descriptor of the
directory, `/proc/self/fd/NUMBER/control.sock`.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from ipc.limits import CONTROL_BACKLOG

MODE: Final = 0o600


def listen(path: Path) -> socket.socket:
    """Make the socket; the data lock is ours, so whatever lies there was left by a broker that was killed.

    Raises OSError.
    """
    with suppress(FileNotFoundError):
        path.unlink()
    end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(end.fileno(), MODE)  # the file gets it in the moment it comes into being
        with _short_name(path) as name:
            end.bind(name)
        end.listen(CONTROL_BACKLOG)
    except BaseException:
        end.close()
        raise
    return end


def connect(path: Path, *, seconds: float) -> socket.socket:
    """The other end, with this time-out.

    Raises OSError; when nobody is there, FileNotFoundError or ConnectionRefusedError.
    """
    end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        end.settimeout(seconds)
        with _short_name(path) as name:
            end.connect(name)
    except BaseException:
        end.close()
        raise
    return end


def remove(path: Path) -> None:
    """Nobody listens any more."""
    with suppress(OSError):
        path.unlink()


@contextmanager
def _short_name(path: Path) -> Iterator[str]:
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
