"""The supervisor stays small after it has checked passwords."""

import os
import subprocess
import sys
from pathlib import Path

CHECK_PASSWORDS = """
import trio
from ipc.memory_reading import read_memory
from runtime.auth.passwords import hash_password, verify
from runtime.supervisor.allocator import return_large_blocks

async def main():
    before = read_memory().rss
    for _ in range(3):
        await trio.to_thread.run_sync(verify, password_hash, "secret")
    print(read_memory().rss - before)

return_large_blocks()
password_hash = hash_password("secret")
trio.run(main)
"""


def test_a_password_check_leaves_no_memory_behind() -> None:
    """Without `return_large_blocks` it is 20 MiB."""
    done = subprocess.run(
        [sys.executable, "-c", CHECK_PASSWORDS],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        check=True,
    )

    assert int(done.stdout) < 2 * 1024 * 1024
