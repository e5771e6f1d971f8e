"""The virtual hosts this shard owns, the rights of their users, and the way in for clients."""

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from functools import partial
from pathlib import Path

from ipc.data_directory import VHostDirectory
from ipc.errors import ExitCode, StartRefused
from ipc.messages.commands import Permissions
from ipc.messages.rules import NO_RULES, Rules
from ipc.settings import StoreSettings
from shards.compaction.compactable import Compactable
from shards.model.access import Access
from shards.model.cut import Cut
from shards.model.exchanges.registry import PREDECLARED
from shards.model.queues.queue import Queue
from shards.model.statistics import Sampling
from shards.model.turn import FreshName, Notice, Turn
from shards.model.vhost import VHost
from shards.model.waiting_room import WaitingRoom
from shards.store import unsynced
from shards.store.definitions import Change, Definitions, QueueDefinition
from shards.store.files import Files
from shards.store.recovery import RecoveryReport
from shards.store.register import Known
from shards.store.replay import replay
from shards.store.segment import segment_name
from shards.store.unsynced import UnsyncedFiles

_NOTHING = Permissions(configure="", write="", read="")


class VHosts(Compactable):
    """Everything a shard knows about brokers hangs below this."""

    COLLECTIONS = ("_accesses", "_definitions", "_vhosts")

    def __init__(self, turn: Turn, files: Files, settings: StoreSettings, fresh_name: FreshName) -> None:
        self._turn = turn
        self._files = files
        self._settings = settings
        self._fresh_name = fresh_name
        self._vhosts: dict[str, VHost] = {}
        self._definitions: dict[str, Definitions] = {}
        self._accesses: dict[tuple[str, str], Access] = {}
        self.sampling = Sampling()

    def children(self) -> Iterable[Compactable]:
        return (
            self._turn,
            self.sampling,
            *self._vhosts.values(),
            *self._accesses.values(),
            *self._definitions.values(),
        )

    def __len__(self) -> int:
        return len(self._vhosts)

    def find(self, name: str) -> VHost | None:
        return self._vhosts.get(name)

    def open(self, name: str, directory: str, rules: Rules = NO_RULES) -> tuple[VHost, RecoveryReport]:
        """Recover a vhost from its directory. Raises OSError and StartRefused, and then owns nothing of it."""
        paths = VHostDirectory(directory)
        for path in (paths.queues, paths.transient):
            self._files.make_directory(str(path), sync=True)
        self._files.remove_tree(str(paths.aside))
        self._files.remove_tree(str(paths.transient))
        self._files.make_directory(str(paths.transient), sync=True)
        self._refuse_if_bereft(paths)
        definitions = Definitions(str(paths.definitions))
        report = RecoveryReport()
        vhost = self._made(name, Path(directory), rules)
        try:
            stored = definitions.load()
            entries = vhost.storage.register.load()
            is_complete = vhost.storage.register.is_complete and not self._files.list(str(paths.journal))
            vhost.storage.register.begin()
            numbers = {queue.number for queue in stored.queues}
            queues = str(paths.queues)
            self._remove_orphans(paths.queues, set(map(str, numbers)))
            self._remove_orphans(
                paths.delayed, {str(exchange.number) for exchange in stored.exchanges} | PREDECLARED.keys()
            )
            with self._files.reading_ahead({} if is_complete else _to_be_read(queues, stored.queues, entries)):
                replay(
                    self._files,
                    str(paths.journal),
                    lambda number: f"{queues}/{number}" if number in numbers else None,
                    report,
                )
                if vhost.awaits_disk:
                    unsynced.catch_up(self._files, paths)
                else:
                    unsynced.mark(self._files, paths)
                vhost.restore(
                    stored.exchanges,
                    stored.queues,
                    stored.bindings,
                    report,
                    self._turn.now,
                    lambda number: Known(entries.pop(number, {}), is_complete),
                )
            # Numbers of deleted queues, and of segments in queues that are empty, are used again: what had them before
            # must not come back.
            self._files.sync_batch(directories=(str(paths.queues), str(paths.delayed))).run()
        except BaseException:
            definitions.close()
            raise
        self._vhosts[name] = vhost
        self._definitions[name] = definitions
        report.tell = partial(self._tell_damage, name)
        return vhost, report

    def _made(self, name: str, directory: Path, rules: Rules) -> VHost:
        awaits_disk = self._settings.durability_of(name) == "fsync"
        files = self._files if awaits_disk else UnsyncedFiles(self._files)
        return VHost(
            name, directory, files, self._settings, self._turn, self._fresh_name, rules, sampling=self.sampling
        )

    def _tell_damage(self, vhost: str, what: str) -> None:
        self._turn.notices.append(Notice("damaged file", {"vhost": vhost, "what": what}, is_error=True))

    def _refuse_if_bereft(self, paths: VHostDirectory) -> None:
        """Queues are made after the file that names them, so if it is gone they are not orphans: it was lost."""
        is_there = paths.definitions.exists() and paths.definitions.stat().st_size > 0
        bereft = [place for place in (paths.queues, paths.journal) if self._files.list(str(place))]
        if bereft and not is_there:
            raise StartRefused(
                ExitCode.STORE_DAMAGED,
                f"The definitions in {paths.definitions} are gone, and there are messages of queues in {bereft[0]}.",
            )

    def _remove_orphans(self, place: Path, known: Set[str]) -> None:
        # Of a queue or exchange whose declaration never reached the disk, or whose deletion did: nobody was promised
        # anything in it.
        for entry in self._files.list(str(place)):
            if entry not in known:
                self._files.remove_tree(str(place / entry))

    def close(self, name: str) -> list[tuple[Queue | WaitingRoom, OSError]]:
        """Give a vhost up; its connections have been closed before. What could not be written, as `VHost.close` says.

        Raises OSError when changed definitions cannot be committed, or a journal cannot be given up, which then is left
        for the next start; the vhost is closed all the same.
        """
        vhost = self._vhosts.pop(name)
        definitions = self._definitions.pop(name)
        try:
            return vhost.close()
        finally:
            self._part_with(definitions, vhost.take_changes())

    def _part_with(self, definitions: Definitions, changes: list[Change]) -> None:
        try:
            if changes:
                definitions.commit(changes)
        finally:
            definitions.close()

    def change_settings(self, settings: StoreSettings) -> list[VHost]:
        """For vhosts that are opened from now on; those open ones that would be opened with another durability."""
        self._settings = settings
        return [vhost for name, vhost in self._vhosts.items() if vhost.durability != settings.durability_of(name)]

    def begin_cut(self, name: str, target: Path) -> Cut | None:
        """To be prepared, and then made; None: the vhost is not here."""
        vhost = self._vhosts.get(name)
        return None if vhost is None else Cut(vhost, VHostDirectory(target), self._files)

    def make_cut(self, cut: Cut, committing: Callable[[Definitions], Sequence[Change]]) -> bool:
        """Note what the vhost is at this moment, between two turns; False: it was closed meanwhile.

        `committing`: changes of some definitions that were taken and not told to be committed. Raises OSError.
        """
        vhost = cut.vhost
        if self._vhosts.get(vhost.name) is not vhost:
            return False
        cut.make([*committing(self._definitions[vhost.name]), *vhost.changes])
        return True

    def names(self) -> list[str]:
        return list(self._vhosts)

    def take_changes(self) -> list[tuple[Definitions, list[Change]]]:
        """What has to be committed in the round that begins now."""
        return [
            (self._definitions[name], vhost.take_changes()) for name, vhost in self._vhosts.items() if vhost.changes
        ]

    def access(self, user: str, vhost: str, permissions: Permissions) -> Access:
        """One object for all connections of a user to a vhost, so that a change reaches them all."""
        access = self._accesses.get((user, vhost))
        if access is None:
            access = self._accesses[user, vhost] = Access(user, vhost, permissions)
        else:
            access.change(permissions)
        return access

    def change_access(self, user: str, vhost: str, permissions: Permissions | None) -> None:
        access = self._accesses.get((user, vhost))
        owner = self._vhosts.get(vhost)
        if access is not None:
            access.change(permissions or _NOTHING)
        if owner is not None:
            owner.revision += 1  # remembered routes were checked against the old rights


def _to_be_read(
    place: str, queues: Iterable[QueueDefinition], known: Mapping[int, Iterable[int]]
) -> dict[str, set[str]]:
    """Directories of queues, with those segments in each of which the register has all but the proof."""
    return {
        f"{place}/{queue.number}": {segment_name(number) for number in known.get(queue.number, ())} for queue in queues
    }
