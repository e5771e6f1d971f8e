"""A file system of its own for a broker's data, small enough to be filled to the last byte."""

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

_FILLER_BLOCK_BYTES: Final = 64 * 1024


@contextmanager
def loop_disk(place: Path, *, megabytes: int) -> Iterator[Path]:
    """The same on a file system that disks have, in a file beside `place`.

    tmpfs is no model of it in one respect: to read what was never written of a map takes room, and without any it is
    SIGBUS.
    """
    place.mkdir()
    image = place.with_suffix(".image")
    with image.open("wb") as file:
        file.truncate(megabytes << 20)
    for command in (["mkfs.ext4", "-q", str(image)], ["mount", "-o", "loop", str(image), str(place)]):
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError as fault:
            pytest.skip(f"no {fault.filename} to make a small file system with")
        if done.returncode:
            pytest.skip(f"cannot mount a small file system: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@contextmanager
def small_disk(place: Path, *, megabytes: int) -> Iterator[Path]:
    """Mounted at `place`; skips the test where that is not permitted."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(place)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path) -> Path:
    """To the last byte; the file that has to be removed to make room again."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file:
        size = _FILLER_BLOCK_BYTES
        while size:
            try:
                if file.write(os.urandom(size)) == size:
                    continue
            except OSError as full:
                if full.errno != errno.ENOSPC:
                    raise
            size //= 2
    return filler
