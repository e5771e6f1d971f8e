"""The accept loop: takes connections as they come, bounds how many negotiate at once, survives every one of them."""

import errno
import socket
from collections.abc import Callable, Sequence
from typing import Final

import structlog
import trio

from ipc.limits import ACCEPTS_PER_TURN, DESCRIPTORS_SHORT_SECONDS
from ipc.settings import Settings
from runtime.auth.directory import Directory
from runtime.auth.login import Logins
from runtime.roster import Roster
from runtime.router.handshake import Handshake
from runtime.router.listening import open_listeners
from runtime.router.peer import Peer, PeerGone

__all__ = ["open_listeners", "serve"]

_log: Final[structlog.stdlib.BoundLogger] = structlog.get_logger("router")

_EXHAUSTED: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


async def serve(
    listeners: Sequence[trio.SocketListener],
    roster: Roster,
    directory: Directory,
    settings_source: Callable[[], Settings],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Accept and hand over until cancelled; then the listeners are closed, and with them whoever still negotiates."""
    try:
        async with trio.open_nursery() as nursery:
            door = _Door(Handshake(roster, directory, Logins(directory), settings_source), settings_source, nursery)
            for listener in listeners:
                nursery.start_soon(door.accept_all, listener.socket)
            task_status.started()
    finally:
        for listener in listeners:
            listener.socket.close()


class _Door:
    """Counts who negotiates, over all listeners."""

    def __init__(self, handshake: Handshake, settings_source: Callable[[], Settings], nursery: trio.Nursery) -> None:
        self._handshake = handshake
        self._settings_source = settings_source
        self._nursery = nursery
        self._half_open = 0
        self._is_full = False

    async def accept_all(self, listener: trio.socket.SocketType) -> None:
        # trio's accept() costs a stream and a checkpoint a connection; a twin of the socket takes them in bunches.
        with socket.fromfd(listener.fileno(), listener.family, listener.type) as door:
            door.setblocking(False)  # noqa: FBT003 - the socket's own signature
            is_exhausted = False
            while True:
                await trio.lowlevel.wait_readable(door)
                try:
                    self._accept_waiting(door)
                    is_exhausted = False
                except OSError as fault:
                    if fault.errno not in _EXHAUSTED:
                        raise
                    if not is_exhausted:
                        _log.error("cannot accept connections", reason=fault.strerror, negotiating=self._half_open)
                    is_exhausted = True
                    await trio.sleep(DESCRIPTORS_SHORT_SECONDS)

    def _accept_waiting(self, door: socket.socket) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            try:
                accepted, _address = door.accept()
            except BlockingIOError:
                return
            except OSError as fault:
                if fault.errno in _EXHAUSTED:
                    raise
                continue  # accept(2) passes on what went wrong with a connection that is already over
            self._admit(accepted)

    def _admit(self, accepted: socket.socket) -> None:
        half_open_max = self._settings_source().amqp.half_open_max
        if self._half_open >= half_open_max:
            accepted.close()
            if not self._is_full:
                _log.warning("too many clients negotiate, new ones are dropped", half_open_max=half_open_max)
            self._is_full = True
            return
        accepted.setblocking(False)  # noqa: FBT003 - the socket's own signature
        self._half_open += 1
        self._nursery.start_soon(self._negotiate, accepted)

    async def _negotiate(self, accepted: socket.socket) -> None:
        try:
            with trio.move_on_after(self._settings_source().amqp.negotiation_seconds) as budget:
                await self._conduct(accepted)
            if budget.cancelled_caught:
                _log.info("client took too long to negotiate", seconds=self._settings_source().amqp.negotiation_seconds)
        except Exception:  # noqa: BLE001 - not the client's fault but ours; its siblings live
            _log.exception("negotiation failed")
        finally:
            accepted.close()
            self._half_open -= 1
            # Half empty, so that a flood at the limit is not logged connection by connection.
            if self._half_open * 2 <= self._settings_source().amqp.half_open_max:
                self._is_full = False

    async def _conduct(self, accepted: socket.socket) -> None:
        try:
            await self._handshake.conduct(Peer(accepted))
        except PeerGone:
            _log.debug("client left while negotiating")
