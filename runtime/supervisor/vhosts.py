"""Keeps what is open in step with what the directory says: vhosts come, go and move while the broker runs."""

import sqlite3
from typing import Final

import structlog
import trio
from structlog.typing import FilteringBoundLogger

from ipc.data_directory import DataDirectory
from ipc.messages.commands import Permissions, PermissionsChanged, RulesChanged
from ipc.messages.rules import NO_RULES, Rules
from runtime.auth.directory import Directory, DirectoryRefusal, VHost
from runtime.decisions.placement import shard_of
from runtime.owner import Owner
from runtime.roster import Roster
from runtime.supervisor import vhost_files
from runtime.supervisor.fleet import Fleet

_log: Final[FilteringBoundLogger] = structlog.get_logger("supervisor")

PermissionTable = dict[tuple[str, str], Permissions]


class VHosts(Owner):
    """The vhosts as they were when the directory was last looked at."""

    COLLECTIONS = ("_permissions", "_rules", "_seen")

    def __init__(self, paths: DataDirectory, directory: Directory, roster: Roster, shards: int) -> None:
        self._paths = paths
        self._directory = directory
        self._roster = roster
        self._shards = shards
        self._seen: dict[str, VHost] = {}
        self._permissions: PermissionTable = {}
        self._rules: dict[str, Rules] = {}

    def place_all(self) -> None:
        """Before any shard starts: decide who gets what, finish interrupted deletions. Raises OSError."""
        self._permissions = self._permission_table()
        self._rules = self._rule_table()
        vhost_files.prepare(self._paths)
        for vhost in self._directory.vhosts():
            self._store_place(vhost)
            self._place(vhost)
        vhost_files.finish_removals(self._paths)
        for orphan in vhost_files.orphans(self._paths, {vhost.number for vhost in self._seen.values()}):
            _log.warning("files of a vhost that is not in the directory", path=str(orphan))

    async def follow(self, fleet: Fleet) -> None:
        """After the directory was read again: close what was deleted or moved, open what is new, tell what changed."""
        wanted = {vhost.name: vhost for vhost in self._directory.vhosts()}
        for former in list(self._seen.values()):
            vhost = wanted.get(former.name)
            if vhost is None or vhost.number != former.number:
                await self._delete(former, fleet)
            elif self._target(vhost) != self._roster.place_of(vhost.name):
                await self._close(former, fleet, is_moving=True)
        for vhost in wanted.values():
            if vhost.name not in self._seen:
                await trio.to_thread.run_sync(self._store_place, vhost)
                self._place(vhost)
                await fleet[self._target(vhost)].open_vhost(vhost.name)
        await self._tell_rules(fleet)
        await self._tell_permissions(fleet)

    def _target(self, vhost: VHost) -> int:
        return shard_of(vhost.name, vhost.shard, self._shards)

    def _place(self, vhost: VHost) -> None:
        self._seen[vhost.name] = vhost
        self._roster.place(vhost.name, self._target(vhost))

    def _store_place(self, vhost: VHost) -> None:
        """Blocks on the disk. Where it cannot be stored, the vhost is served all the same: hashing is repeatable."""
        shard = self._target(vhost)
        if vhost.shard == shard:
            return
        if vhost.pinned:
            _log.warning(
                "vhost is pinned to a shard that does not exist", vhost=vhost.name, pin=vhost.shard, shard=shard
            )
            return
        try:
            self._directory.place(vhost.name, shard)
        except (sqlite3.Error, DirectoryRefusal) as fault:
            _log.error("placement cannot be stored", vhost=vhost.name, shard=shard, reason=str(fault))

    async def _close(self, vhost: VHost, fleet: Fleet, *, is_moving: bool = False) -> bool:
        """True when nobody has its files open any more; only then is it forgotten."""
        place = self._roster.place_of(vhost.name)
        self._roster.forget(vhost.name, is_moving=is_moving)
        if place is not None and not await fleet[place].close_vhost(vhost.name):
            _log.error("vhost does not close", vhost=vhost.name, shard=place)
            self._roster.forget(vhost.name)
            return False
        del self._seen[vhost.name]
        return True

    async def _delete(self, vhost: VHost, fleet: Fleet) -> None:
        if not await self._close(vhost, fleet):
            return
        try:
            await trio.to_thread.run_sync(vhost_files.remove, self._paths, vhost.number)
        except OSError as fault:
            _log.error("files of a deleted vhost stay", vhost=vhost.name, number=vhost.number, reason=str(fault))
        else:
            _log.info("vhost deleted", vhost=vhost.name)

    async def _tell_rules(self, fleet: Fleet) -> None:
        """A vhost that was opened meanwhile came with these rules; hearing them twice does no harm."""
        before, self._rules = self._rules, self._rule_table()
        for vhost in before.keys() | self._rules.keys():
            rules = self._rules.get(vhost, NO_RULES)
            place = self._roster.place_of(vhost)
            if place is not None and rules != before.get(vhost, NO_RULES):
                await fleet[place].tell(RulesChanged(vhost, rules))

    async def _tell_permissions(self, fleet: Fleet) -> None:
        before, self._permissions = self._permissions, self._permission_table()
        for user, vhost in before.keys() | self._permissions.keys():
            permissions = self._permissions.get((user, vhost))
            place = self._roster.place_of(vhost)
            if place is not None and permissions != before.get((user, vhost)):
                await fleet[place].tell(PermissionsChanged(user, vhost, permissions))

    def _permission_table(self) -> PermissionTable:
        return {(user, vhost): permissions for user, vhost, permissions in self._directory.permissions()}

    def _rule_table(self) -> dict[str, Rules]:
        return {vhost.name: self._directory.rules(vhost.name) for vhost in self._directory.vhosts()}
