"""The supervisor's commands, one function each: the table below is all a shard can be told."""

import os
import socket
import sqlite3
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import structlog
import trio

from ipc.errors import ConnectionRefusal, ReplyCode, StartRefused
from ipc.link import LinkClosed
from ipc.messages.commands import (
    AdoptClient,
    AlarmsChanged,
    AskInventory,
    CloseVHost,
    Command,
    Compact,
    Drain,
    OpenVHost,
    PermissionsChanged,
    Probe,
    Question,
    RulesChanged,
    SettingsChanged,
    StopBackup,
)
from ipc.messages.reports import Listening, VHostClosed, VHostFailed, VHostOpened
from shards.host.answering import QUESTIONS
from shards.protocols.amqp.connection import Connection

if TYPE_CHECKING:
    from shards.host.shard import Shard

_LOG = structlog.get_logger("shard.control")

SHUTTING_DOWN: Final = ConnectionRefusal(ReplyCode.CONNECTION_FORCED, "broker is shutting down")
VHOST_CLOSED: Final = ConnectionRefusal(ReplyCode.CONNECTION_FORCED, "vhost is closed")


async def obey(shard: "Shard") -> float:
    """Carry commands out until told to drain, or until the supervisor is gone; the seconds left for draining."""
    while True:
        try:
            command, descriptors = await shard.link.receive()
            if isinstance(command, Drain):
                return command.seconds
            await _COMMANDS[type(command)](shard, command, descriptors)
        except LinkClosed:  # also when it ends before it has heard what became of its command
            _LOG.warning("supervisor is gone, draining")
            return shard.settings.main.drain_seconds


async def _open_vhost(shard: "Shard", command: OpenVHost, descriptors: list[int]) -> None:
    started = time.monotonic()
    try:
        vhost, report = shard.vhosts.open(command.name, command.directory, command.rules)
    except (OSError, StartRefused, sqlite3.Error) as fault:
        damaged = not isinstance(fault, OSError)
        await shard.link.send(VHostFailed(command.name, str(fault), damaged))
        return
    shard.bell.ring()  # what recovered may have something due
    await shard.link.send(
        VHostOpened(
            name=command.name,
            queues=sum(1 for _ in vhost.queues()),
            messages=report.messages,
            bytes_cut=report.bytes_cut,
            acks_pruned=report.acks_pruned,
            segments_damaged=report.segments_damaged,
            seconds=time.monotonic() - started,
        )
    )


async def _close_vhost(shard: "Shard", command: CloseVHost, descriptors: list[int]) -> None:
    vhost = shard.vhosts.find(command.name)
    if vhost is not None:
        await shard.close_clients(
            [connection for connection in shard.pump.connections if connection.vhost is vhost],
            VHOST_CLOSED,
            shard.settings.main.drain_seconds,
        )
        await shard.syncer.quiet()  # which may be writing its definitions right now
        shard.close_vhost(command.name)
    await shard.link.send(VHostClosed(command.name))


async def _adopt(shard: "Shard", command: AdoptClient, descriptors: list[int]) -> None:
    if not descriptors:
        return
    for extra in descriptors[1:]:
        os.close(extra)
    taken = socket.socket(fileno=descriptors[0])
    client = command.client
    vhost = shard.vhosts.find(client.vhost)
    if vhost is None:
        # It was closed between the router's decision and now; the client reconnects and is told properly.
        taken.close()
        return
    now = shard.clock()
    refusal = vhost.refusal_to(client.user)
    connection = Connection(
        client,
        vhost,
        shard.vhosts.access(client.user, client.vhost, client.permissions),
        shard.turn,
        shard.settings.connection,
        message_bytes_max=shard.settings.amqp.message_bytes_max,
        now=now,
        refusal=refusal,
    )
    if refusal is None:
        vhost.connections[connection] = None
    shard.pump.adopt(taken, connection, now)


async def _change_permissions(shard: "Shard", command: PermissionsChanged, descriptors: list[int]) -> None:
    shard.vhosts.change_access(command.user, command.vhost, command.permissions)


async def _change_rules(shard: "Shard", command: RulesChanged, descriptors: list[int]) -> None:
    """Whoever is let in by a later command finds the change everywhere; everybody else is served between its steps."""
    vhost = shard.vhosts.find(command.vhost)
    if vhost is None:
        return
    for _step in vhost.change_rules(command.rules, shard.clock()):
        shard.bell.ring()
        await trio.lowlevel.checkpoint()
    shard.bell.ring()


async def _change_settings(shard: "Shard", command: SettingsChanged, descriptors: list[int]) -> None:
    shard.change_settings(command.settings)


async def _change_alarms(shard: "Shard", command: AlarmsChanged, descriptors: list[int]) -> None:
    shard.change_alarms(command.alarms)


async def _compact(shard: "Shard", command: Compact, descriptors: list[int]) -> None:
    shard.compact(command)


async def _answer(shard: "Shard", question: Question, descriptors: list[int]) -> None:
    shard.answer(question)


async def _stop_backup(shard: "Shard", command: StopBackup, descriptors: list[int]) -> None:
    shard.backups.stop()


async def _take_stock(shard: "Shard", question: AskInventory, descriptors: list[int]) -> None:
    shard.take_stock(question)


async def _listen(shard: "Shard", command: Probe, descriptors: list[int]) -> None:
    await shard.link.send(Listening())


_COMMANDS: Final[dict[type[Command], Callable[["Shard", Any, list[int]], Awaitable[None]]]] = {
    OpenVHost: _open_vhost,
    CloseVHost: _close_vhost,
    AdoptClient: _adopt,
    PermissionsChanged: _change_permissions,
    RulesChanged: _change_rules,
    SettingsChanged: _change_settings,
    AlarmsChanged: _change_alarms,
    Compact: _compact,
    **dict.fromkeys(QUESTIONS, _answer),
    StopBackup: _stop_backup,
    AskInventory: _take_stock,
    Probe: _listen,
}
