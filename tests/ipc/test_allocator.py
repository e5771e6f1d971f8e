"""What the allocator keeps and gives back: after a password check, and between a shard's turns."""

import os
import subprocess
import sys
from pathlib import Path

CHECK_PASSWORDS = """
import trio
from ipc.memory_reading import read_memory
from runtime.auth.passwords import hash_password, verify
from ipc.allocator import return_large_blocks

async def main():
    before = read_memory().rss
    for _ in range(3):
        await trio.to_thread.run_sync(verify, password_hash, "secret")
    print(read_memory().rss - before)

return_large_blocks()
password_hash = hash_password("secret")
trio.run(main)
"""


REUSE_BUFFERS = """
import resource
from ipc.allocator import keep_large_blocks, trim_allocator
from ipc.memory_reading import read_memory

def fill():
    buffer = bytearray()
    for _ in range(1024):
        buffer += piece

keep_large_blocks()
piece = bytes(8192)
before = read_memory().rss
fill()
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    fill()
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
trim_allocator()
print(faults, read_memory().rss - before)
"""


def run(script: str) -> list[int]:
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )
    return [int(number) for number in done.stdout.split()]


def test_a_password_check_leaves_no_memory_behind() -> None:
    """Without `return_large_blocks` it is 20 MiB."""
    (grown_bytes,) = run(CHECK_PASSWORDS)

    assert grown_bytes < 2 * 1024 * 1024


def test_a_buffer_that_grows_again_and_again_is_faulted_in_once_and_goes_back_when_trimmed() -> None:
    """Without `keep_large_blocks` ten buffers of 8 MiB are more than 20,000 faults."""
    faults, kept_bytes = run(REUSE_BUFFERS)

    assert faults < 4_000
    assert kept_bytes < 2 * 1024 * 1024
