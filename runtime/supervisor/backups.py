"""Makes a backup of a running broker: the directory first, then each vhost by the shard that has it, the manifest last.

```
TARGET/
  directory.sqlite         as it was when the backup was begun; it says which vhosts there are
  vhosts/NUMBER/           each as it was at one moment after that
  manifest.json            what there is, with checksums: without it the backup is not complete
```
Laid out as a data directory without the file that makes it one: a broker must not be started on it by mistake.
"""

import shutil
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog
import trio
from msgspec import Struct
from structlog.typing import FilteringBoundLogger

from ipc.data_directory import DataDirectory
from ipc.limits import BACKUP_SECONDS_MAX, VHOST_PATIENCE_SECONDS
from ipc.messages.commands import BackUpVHost, StopBackup
from ipc.messages.reports import BackedUp
from runtime.auth.directory import Directory, VHost
from runtime.roster import Roster, VHostDown
from runtime.supervisor import manifest
from runtime.supervisor.fleet import Fleet
from runtime.supervisor.inquiries import Inquiries
from runtime.supervisor.manifest import Manifest, VHostEntry

_DIRECTORY_MODE: Final = 0o700  # queues hold other people's messages

_log: Final[FilteringBoundLogger] = structlog.get_logger("supervisor")


class BackupFailed(Exception):
    """There is no backup, and nothing is left of the attempt: one sentence for a person."""


class Advance(Struct):
    """How far a backup is."""

    vhosts: int = 0
    vhosts_done: int = 0


class Made(Struct, frozen=True):
    """A backup that is complete and on disk."""

    manifest: Manifest
    files_linked: int
    seconds: float
    cut_seconds_longest: float


class Backups:
    """One at a time."""

    def __init__(
        self, paths: DataDirectory, directory: Directory, roster: Roster, fleet: Fleet, inquiries: Inquiries
    ) -> None:
        self._paths = paths
        self._directory = directory
        self._roster = roster
        self._fleet = fleet
        self._inquiries = inquiries
        self._is_busy = False

    async def make(self, target: Path, advance: Advance) -> Made:
        """Into a directory that is new or empty. Raises BackupFailed; cancelled, it leaves nothing behind either."""
        if self._is_busy:
            raise BackupFailed("another backup is being made")
        self._is_busy = True
        try:
            is_new = await trio.to_thread.run_sync(_prepare, self._paths.root, target)
            try:
                made = await self._fill(target, advance)
            except BaseException:
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(_remove, target, is_new)
                raise
        except (BackupFailed, OSError, sqlite3.Error) as fault:
            _log.error("backup failed", target=str(target), reason=str(fault))
            raise fault if isinstance(fault, BackupFailed) else BackupFailed(str(fault)) from fault
        finally:
            self._is_busy = False
        _log.info(
            "backup made",
            target=str(target),
            vhosts=len(made.manifest.vhosts),
            files=len(made.manifest.files),
            bytes=made.manifest.bytes,
            files_linked=made.files_linked,
            seconds=round(made.seconds, 3),
        )
        return made

    async def _fill(self, target: Path, advance: Advance) -> Made:
        began_at, began = time.time(), trio.current_time()
        copy = DataDirectory(target)
        vhosts = await trio.to_thread.run_sync(self._directory.copy_to, copy.directory)
        advance.vhosts = len(vhosts)
        entries: list[VHostEntry] = []
        linked, longest = 0, 0.0
        for vhost in vhosts:
            done = await self._back_up(vhost, copy.vhost(vhost.number))
            entries.append(VHostEntry(vhost.number, vhost.name, datetime.fromtimestamp(done.cut_at, UTC)))
            linked += done.files_linked
            longest = max(longest, done.cut_seconds)
            advance.vhosts_done += 1
        written = await trio.to_thread.run_sync(
            manifest.write, target, tuple(entries), began_at, trio.from_thread.check_cancelled
        )
        return Made(written, linked, trio.current_time() - began, longest)

    async def _back_up(self, vhost: VHost, place: Path) -> BackedUp:
        try:
            await self._roster.owner_of(vhost.name, VHOST_PATIENCE_SECONDS)
        except VHostDown:
            raise BackupFailed(
                f"vhost '{vhost.name}' is not open, so there is nobody to copy it: see the log"
            ) from None
        shard = self._roster.place_of(vhost.name)
        assert shard is not None
        await trio.to_thread.run_sync(lambda: place.mkdir(_DIRECTORY_MODE, parents=True))
        async with self._stopping_when_cancelled(shard):
            gathered = await self._inquiries.ask(
                lambda number: BackUpVHost(number, vhost.name, str(place)), among=(shard,), seconds=BACKUP_SECONDS_MAX
            )
        reasons = [answer.failure for answer in gathered.answers if isinstance(answer, BackedUp)]
        reasons += gathered.silent.values()
        if any(reasons):
            raise BackupFailed(f"vhost '{vhost.name}' could not be copied by shard {shard}: {reasons[0]}")
        (done,) = gathered.answers
        assert isinstance(done, BackedUp)
        return done

    @asynccontextmanager
    async def _stopping_when_cancelled(self, shard: int) -> AsyncIterator[None]:
        """What the shard does is waited for even when nobody wants it any more: it is told, and answers soon."""
        is_done = False

        async def stop_when_cancelled() -> None:
            try:
                await trio.sleep_forever()
            finally:
                if not is_done:
                    with trio.CancelScope(shield=True):
                        await self._fleet[shard].tell(StopBackup())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop_when_cancelled)
            with trio.CancelScope(shield=True):
                yield
            is_done = True
            nursery.cancel_scope.cancel()


def _prepare(root: Path, target: Path) -> bool:
    """Whether the target was made; it is empty in any case. Raises BackupFailed and OSError."""
    if not target.is_absolute():
        raise BackupFailed(f"{target} is not an absolute path")
    resolved, data = target.resolve(), root.resolve()
    if resolved.is_relative_to(data) or data.is_relative_to(resolved):
        raise BackupFailed(f"{target} and the data directory {root} contain each other")
    try:
        target.mkdir(_DIRECTORY_MODE)
    except FileExistsError:
        if not target.is_dir():
            raise BackupFailed(f"{target} is not a directory") from None
        if any(target.iterdir()):
            raise BackupFailed(f"{target} is not empty") from None
        return False
    return True


def _remove(target: Path, is_new: bool) -> None:
    """What was begun; a directory that was there stays, as empty as it was."""
    for path in target.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    if is_new:
        target.rmdir()
