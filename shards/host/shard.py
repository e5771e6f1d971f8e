"""One shard process: it owns virtual hosts and everything in them, on one event loop.

```
Hello ─► Start ─► (OpenVHost ─► VHostOpened)* ─► clients, compaction, … ─► Drain or end of file ─► Drained
```
"""

import contextlib
import gc
import os
import secrets
import socket
import sys
import time
from collections.abc import Iterable, Sequence

import structlog
import trio

from ipc.allocator import keep_large_blocks
from ipc.data_directory import DataDirectory
from ipc.errors import ConnectionRefusal, ExitCode
from ipc.limits import ACCOUNT_KEPT_SECONDS
from ipc.link import Link, LinkClosed
from ipc.log import configure_logging
from ipc.messages.commands import Alarms, AskInventory, Compact, Question, ShardCommand, Start
from ipc.messages.fingerprint import fingerprint
from ipc.messages.reports import Drained, Hello, Reclaimed, StorageBlocked
from ipc.reactor import Reactor
from ipc.settings import Settings
from shards.compaction.compactable import Compactable
from shards.host.accountant import Accountant
from shards.host.alarm import Alarm
from shards.host.answering import answers
from shards.host.backups import Backups
from shards.host.bell import Bell
from shards.host.checkpointer import Checkpointer
from shards.host.clock import BrokerClock
from shards.host.compactor import Compactor
from shards.host.control import SHUTTING_DOWN, obey
from shards.host.deadlines import Deadlines
from shards.host.idle_trim import IdleTrim
from shards.host.pump import Pump
from shards.host.sampler import sample_for_ever
from shards.host.stocktaking import take_stock
from shards.host.syncer import Syncer
from shards.host.worker import SyncFailed
from shards.model.turn import Shortage, Turn
from shards.model.vhosts import VHosts
from shards.protocols.amqp.connection import Connection
from shards.store.files import DiskFiles
from shards.store.half_done import HalfDone

_GRACE_SECONDS = 1.0  # of a drain, kept for writing after the last client has gone


class Shard(Compactable):
    """All parts of a shard, put together; the root of its compaction cascade."""

    def __init__(self, number: int, settings: Settings, link: Link[ShardCommand], data: DataDirectory) -> None:
        self.number = number
        self.settings = settings
        self.link = link
        self.data = data
        self.clock = BrokerClock()
        self.files = DiskFiles(settings.store.descriptors_open_max)
        self.turn = Turn()
        self.turn.now = self.clock()
        self.vhosts = VHosts(self.turn, self.files, settings.store, _fresh_name)
        self.bell = Bell()
        self.syncer = Syncer(self.turn, self.vhosts, self.files, self.bell, retry_seconds=settings.store.retry_seconds)
        self.deadlines = Deadlines(self.clock)
        self.alarm = Alarm(self.turn.agenda, self.bell, self.clock)
        self.compactor = Compactor(self, shard=number)
        self.accountant = Accountant(self)
        self.backups = Backups(self)
        self.started_at = time.monotonic()
        reactor = Reactor(spin_seconds=settings.pump.spin_microseconds / 1e6)
        reactor.heed(link.fileno())
        self.pump = Pump(
            self.turn,
            self.syncer,
            Checkpointer(self.turn, self.bell),
            reactor,
            self.bell,
            self.clock,
            self.deadlines,
            self.alarm,
            on_storage_error=self._storage_failed,
        )
        self.idle_trim = IdleTrim(
            self.compactor, reactor, lambda: self.settings.compaction, self.clock, self._report_reclaimed
        )
        self._nursery: trio.Nursery | None = None
        self._log = structlog.get_logger("shard")

    def children(self) -> Iterable[Compactable]:
        return (self.vhosts, self.pump, self.files)

    async def run(self) -> None:
        """Serve until told to drain. Raises SyncFailed when the disk can no longer be trusted."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self.pump.run)
            nursery.start_soon(self.alarm.run)
            nursery.start_soon(self.idle_trim.run)
            nursery.start_soon(sample_for_ever, self.vhosts, self.clock)
            nursery.start_soon(self.deadlines.run, self.pump.tick, self.bell.ring)
            await self._drain(await obey(self))
            nursery.cancel_scope.cancel()

    def compact(self, command: Compact) -> None:
        """Run a pass beside everything else and report it."""
        assert self._nursery is not None
        self._nursery.start_soon(self._run_pass, command)

    async def _run_pass(self, command: Compact) -> None:
        reclaimed = await self.compactor.run_pass(command, self.settings.compaction, now=self.clock())
        await self._report_reclaimed(reclaimed)

    async def _report_reclaimed(self, reclaimed: Reclaimed) -> None:
        self.bell.ring()
        with contextlib.suppress(LinkClosed):
            await self.link.send(reclaimed)

    def answer(self, question: Question) -> None:
        """Answer beside everything else."""
        assert self._nursery is not None
        self._nursery.start_soon(self._answer, question)

    async def _answer(self, question: Question) -> None:
        with contextlib.suppress(LinkClosed):
            for answer in await answers(self, question):
                await self.link.send(answer)
        await trio.sleep(2 * ACCOUNT_KEPT_SECONDS)
        self.accountant.forget()

    def take_stock(self, question: AskInventory) -> None:
        """The same for the management process, as long as that takes."""
        assert self._nursery is not None
        self._nursery.start_soon(self._take_stock, question)

    async def _take_stock(self, question: AskInventory) -> None:
        with contextlib.suppress(LinkClosed):
            async for piece in take_stock(self, question):
                await self.link.send(piece)

    def change_settings(self, settings: Settings) -> None:
        self.settings = settings
        main = settings.main
        configure_logging(main.log_level, main.log_format, shard=self.number, path=main.log_file)
        for vhost in self.vhosts.change_settings(settings.store):
            self._log.warning(
                "vhost keeps its durability until it is opened again", vhost=vhost.name, durability=vhost.durability
            )

    # what publishers wait for -----------------------------------------------------------------------------------------

    def change_alarms(self, alarms: Alarms) -> None:
        """The supervisor sees these raised and no others."""
        for shortage, is_raised in ((Shortage.MEMORY, alarms.memory), (Shortage.DISK, alarms.disk)):
            change = self.turn.block if is_raised else self.turn.unblock
            change(shortage)
        self.bell.ring()

    def _storage_failed(self, fault: OSError) -> None:
        if self.turn.is_storage_blocked:
            return
        self.turn.block(Shortage.WRITES)
        assert self._nursery is not None
        self._nursery.start_soon(self._retry_storage, str(fault))

    async def _retry_storage(self, reason: str) -> None:
        """Publishers wait from here until a write succeeds again; what was taken in stays in memory, unconfirmed."""
        self._log.error("storage refuses writes, publishers wait", reason=reason)
        await self._report_storage(reason)
        while self.turn.is_storage_blocked:
            await trio.sleep(self.settings.store.retry_seconds)
            with contextlib.suppress(OSError):
                self.turn.retry()
            self.bell.ring()  # a checkpoint may be wanted now, which makes room
        self._log.info("storage takes writes again")
        self.bell.ring()
        await self._report_storage("")

    async def _report_storage(self, reason: str) -> None:
        with contextlib.suppress(LinkClosed):
            await self.link.send(StorageBlocked(self.number, reason))

    # the end ----------------------------------------------------------------------------------------------------------

    async def _drain(self, seconds: float) -> None:
        clients = len(self.pump.connections)
        self._log.info("draining", clients=clients, seconds=seconds)
        self.backups.stop()
        await self.close_clients(self.pump.connections, SHUTTING_DOWN, max(0.0, seconds - _GRACE_SECONDS))
        self.pump.turn()
        with trio.move_on_after(_GRACE_SECONDS) as grace:
            await self.syncer.quiet()
        if grace.cancelled_caught:
            self._log.critical("the disk does not answer, vhosts are left as they are")
            return
        for name in self.vhosts.names():
            self.close_vhost(name)
        await trio.to_thread.run_sync(self.files.take_unsynced().run)
        self.files.close()
        with contextlib.suppress(LinkClosed):
            await self.link.send(Drained(self.number, clients))

    def close_vhost(self, name: str) -> None:
        """Write and close one vhost; what the disk refuses is told, and was confirmed to nobody."""
        try:
            for queue, fault in self.vhosts.close(name):
                self._log.error("queue could not be written", vhost=name, queue=queue.name, reason=str(fault))
        except OSError as fault:
            self._log.error("definitions could not be written", vhost=name, reason=str(fault))

    async def close_clients(
        self, connections: Sequence[Connection], refusal: ConnectionRefusal, seconds: float
    ) -> None:
        """Tell clients to go and wait for them, at most `seconds`; who is still there then is dropped."""
        now = self.clock()
        for connection in connections:
            self.pump.close_client(connection, refusal, now)
        self.bell.ring()
        with trio.move_on_after(seconds):
            for connection in connections:
                while self.pump.serves(connection):
                    await self.pump.departure()
        self.pump.drop(connections)


def _fresh_name() -> str:
    return secrets.token_urlsafe(16)


async def _main(end: socket.socket, number: int) -> int:
    link: Link[ShardCommand] = Link(end, ShardCommand)
    try:
        await link.send(Hello(fingerprint(), "shard", os.getpid()))
        start, descriptors = await link.receive()
    except LinkClosed:
        return ExitCode.OK
    assert isinstance(start, Start)
    settings = start.settings
    copies = socket.socket(fileno=descriptors[0]) if descriptors else None
    main = settings.main
    configure_logging(main.log_level, main.log_format, shard=number, path=main.log_file, copies=copies)
    shard = Shard(number, settings, link, DataDirectory(start.data_directory))
    gc.collect()
    gc.freeze()
    code = ExitCode.OK
    try:
        await shard.run()
    except* (HalfDone, MemoryError):
        structlog.get_logger("shard").critical("shard ends: memory ran out in the middle of a change")
        code = ExitCode.FAILED
    except* SyncFailed as failed:
        structlog.get_logger("shard").critical("shard ends: the disk failed", reason=str(failed.exceptions[0]))
        code = ExitCode.FAILED
    return code


def main(end: socket.socket, number: int) -> None:
    """Run shard `number`, which talks over `end`, in this process; does not return."""
    keep_large_blocks()
    code = trio.run(_main, end, number)
    sys.stderr.flush()
    os._exit(code)  # not through the template's own clean-up, which is not ours
