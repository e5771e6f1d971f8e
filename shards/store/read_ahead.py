"""Before the files of many stores are looked at one after the other: the disk is asked for several at a time.

A store's directory, its files' inodes and their content are in three or four places of the disk, and each is waited
for. Some threads that do nothing else wait for several at once, ahead of who reads in earnest and meanwhile computes.
"""

import os
import resource
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from threading import Thread
from typing import Final

THREADS: Final = 8
_CONTENT_BYTES: Final = 1024 * 1024  # of each file: whoever reads on has the kernel read ahead
_HEAD_BYTES: Final = 4096
_TRIED: Final = 50  # directories; where none of so many had to be waited for, the rest is left alone
_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


@contextmanager
def reading_ahead(directories: Mapping[str, Collection[str]]) -> Iterator[None]:
    """Within, what is in these directories is brought into the page cache, in this order, unless it is there.

    With each directory go names of files in it of which only the head is going to be read. What cannot be read is left
    for who reads in earnest.
    """
    ahead = deque(directories.items() if len(directories) > _TRIED else ())
    threads = [Thread(target=_bring, args=(ahead,), name="read ahead") for _ in range(THREADS if ahead else 0)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ahead.clear()
        for thread in threads:
            thread.join()


def _bring(ahead: deque[tuple[str, Collection[str]]]) -> None:
    tried = 0
    while ahead and (tried < _TRIED or _has_waited_for_disk()):
        try:
            directory, heads = ahead.popleft()
        except IndexError:
            return  # another thread was faster
        tried += 1
        try:
            for name in os.listdir(directory):
                _bring_file(f"{directory}/{name}", _HEAD_BYTES if name in heads else _CONTENT_BYTES)
        except OSError:
            continue


def _bring_file(path: str, size_bytes: int) -> None:
    descriptor = os.open(path, _FLAGS)
    try:
        os.posix_fadvise(descriptor, 0, size_bytes, os.POSIX_FADV_WILLNEED)
    finally:
        os.close(descriptor)


def _has_waited_for_disk() -> bool:
    """Whether this thread ever had to: the kernel counts the blocks that it had read."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_inblock > 0
