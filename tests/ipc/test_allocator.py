"""What the allocator keeps and gives back: after a password check, and between a shard's turns."""

import os
import subprocess
import sys
from pathlib import Path

from ipc.allocator import environment
from ipc.limits import MIB

CHECK_PASSWORDS = """
import trio
from ipc.memory_reading import read_memory
from ipc.settings import UserSettings
from runtime.auth.passwords import hash_password, verify
from ipc.allocator import return_large_blocks

async def main():
    before = read_memory().rss
    for _ in range(3):
        await trio.to_thread.run_sync(verify, password_hash, "secret", UserSettings())
    print(read_memory().rss - before)

return_large_blocks()
password_hash = hash_password("secret", UserSettings())
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

SURVIVE = """
import gc
from ipc.allocator import allocated_bytes, trim_allocator
from ipc.memory_reading import read_memory

trim_allocator()
before, allocated = read_memory().private, allocated_bytes()
spike = [[number] for number in range(400_000)]
peak, allocated_peak = read_memory().private, allocated_bytes()
spike = spike[::1000]
gc.collect()
trim_allocator()
print(peak - before, read_memory().private - before, allocated_peak - allocated, allocated_bytes() - allocated)
"""

SCATTER = """
import random
from ipc.allocator import renew_cache, trim_allocator
from ipc.memory_reading import read_memory

sizes = range(0, 992, 16)
before = read_memory().private
spike = [bytes(size) for _ in range(500) for size in sizes]
kept = [bytes(100)]
random.Random(5).shuffle(spike)
spike.clear()
trim_allocator()
if RENEWS:
    renew_cache()
    trim_allocator()
print(read_memory().private - before)
"""

FORK = """
import os
from ipc.allocator import fill_holes, trim_allocator
from ipc.memory_reading import read_memory

kept = [bytes(600) for _ in range(20_000)][::2]
trim_allocator()
filled = fill_holes() if FILLS else 0
if not os.fork():
    before = read_memory().private
    spike = [bytes(500) for _ in range(10_000)]
    del spike
    trim_allocator()
    print(filled, read_memory().private - before, flush=True)
    os._exit(0)
os.wait()
"""


def run(script: str, **added: str) -> list[int]:
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])} | added,
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


def test_with_the_librarys_allocator_a_few_survivors_do_not_keep_a_spike() -> None:
    peak, left, allocated_peak, allocated_left = run(SURVIVE, **environment("libc"))

    assert peak > 20 * MIB
    assert left < peak * 0.15
    assert allocated_peak > 20 * MIB
    assert allocated_left < allocated_peak * 0.05


def test_what_a_thread_keeps_of_freed_blocks_keeps_no_pages_of_a_spike() -> None:
    (left,) = run(SCATTER.replace("RENEWS", "True"), **environment("libc"))
    (left_otherwise,) = run(SCATTER.replace("RENEWS", "False"), **environment("libc"))

    assert left < MIB // 4
    assert left_otherwise > left + MIB // 4


def test_with_the_interpreters_allocator_peaks_are_noticed_as_well() -> None:
    _, _, allocated_peak, allocated_left = run(SURVIVE, **environment("python"))

    assert allocated_peak > 20 * MIB
    assert allocated_left < allocated_peak * 0.05


def test_what_is_forked_after_holes_were_filled_leaves_shared_pages_alone() -> None:
    filled, copied = run(FORK.replace("FILLS", "True"), **environment("libc"))
    _, copied_otherwise = run(FORK.replace("FILLS", "False"), **environment("libc"))

    assert filled > 4 * MIB
    assert copied < MIB
    assert copied_otherwise > 4 * MIB
