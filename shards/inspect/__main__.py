"""`python -m shards.inspect DIR [--verify] [--json] [--all] [--running]`: explain a data directory; nothing is written.

Exit codes are the broker's: 0 nothing is wrong, 12 a broker runs on it (and `--running` was not given), 13 it cannot be
read, 14 its format is unknown, 15 something is damaged.
"""

import argparse
import fcntl
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from ipc.data_directory import FORMAT_LINE, FORMAT_LINES_READ, DataDirectory
from ipc.errors import ExitCode, StartRefused
from shards.inspect.accounts import DirectoryAccount
from shards.inspect.databases import vhost_names
from shards.inspect.page import page
from shards.inspect.vhost import inspect_vhost


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        account = inspect(options.directory, verifies=options.verify, may_run=options.running)
    except StartRefused as refused:
        print(refused, file=sys.stderr)
        return refused.exit_code
    if options.json:
        print(msgspec.json.encode(account).decode())
    else:
        print(page(account, shows_all=options.all))
    return ExitCode.STORE_DAMAGED if account.is_damaged else ExitCode.OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m shards.inspect",
        description="Explain an EbbMQ data directory: what is in it, and what the next start will make of it. "
        "Nothing is written.",
    )
    parser.add_argument("directory", type=Path, metavar="DIR")
    parser.add_argument("--verify", action="store_true", help="read everything and compare every checksum")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("--all", action="store_true", help="every queue and remark, however many there are")
    parser.add_argument("--running", action="store_true", help="look even while a broker runs on it")
    return parser


def inspect(directory: Path, *, verifies: bool, may_run: bool = False) -> DirectoryAccount:
    """Raises StartRefused when it is none of ours, or in use without `may_run`."""
    paths = DataDirectory(directory)
    line = _format(paths)
    is_in_use = _is_locked(paths.lock)
    if is_in_use and not may_run:
        raise StartRefused(
            ExitCode.DATA_DIRECTORY_IN_USE,
            f"a broker runs on {paths.root}: what is read while it writes may look torn. --running looks anyway.",
        )
    account = DirectoryAccount(str(paths.root), line, is_in_use=is_in_use, is_verified=verifies)
    names = vhost_names(paths.directory)
    for number in sorted(int(path.name) for path in paths.vhost(0).parent.glob("*") if path.name.isdecimal()):
        name = names.get(number, f"without a name, number {number}")
        account.vhosts.append(inspect_vhost(paths.vhost(number), name, verifies=verifies))
    return account


def _format(paths: DataDirectory) -> str:
    try:
        line = paths.format.read_text(encoding="ascii", errors="replace")
    except OSError as fault:
        raise StartRefused(
            ExitCode.DATA_DIRECTORY_UNUSABLE, f"{paths.root} is no data directory of EbbMQ: {fault}"
        ) from fault
    if line not in (FORMAT_LINE, *FORMAT_LINES_READ):
        raise StartRefused(ExitCode.FORMAT_UNKNOWN, f"{paths.format} names a format this version does not know: {line}")
    return line.strip().removeprefix("ebbmq ")


def _is_locked(lock: Path) -> bool:
    """Whether a supervisor, or a shard that outlives it, holds it; asked for by trying, and let go at once."""
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


if __name__ == "__main__":
    sys.exit(main())
