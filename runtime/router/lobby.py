"""Where clients wait until they are let in: one task accepts them, reads what they say and answers at once if it can.

```
listener ─► guest ─ bytes ─► negotiation ─ wish ─► granted from memory ─────────────────────► its shard
                                             └──► a password to check, a shard to wait for, ─► a task of its own
                                                  a refusal to be heard
```
Most clients come back with credentials that were checked a moment ago and want a vhost that is open; those never cost a
task. However many negotiate, their number is bounded, and so is the time each may take.
"""

import errno
import socket
from collections.abc import Callable, Iterable
from typing import Any, Final

import structlog
import trio

from ipc.limits import ACCEPTS_PER_TURN, DESCRIPTORS_SHORT_SECONDS, GUESTS_LOOK_SECONDS
from ipc.reactor import READABLE, Reactor
from ipc.settings import Settings
from ipc.wire.amqp.negotiation import Enter, Negotiation, State, Wish
from runtime.owner import Owner
from runtime.router.handshake import Handshake, hear
from runtime.router.offers import offer
from runtime.router.peer import Peer, PeerGone

_log: Final[structlog.stdlib.BoundLogger] = structlog.get_logger("router")

_EXHAUSTED: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


class Guest:
    """A client that negotiates, and until when it may."""

    __slots__ = ("deadline", "negotiation", "peer", "unsent")

    def __init__(self, peer: Peer, negotiation: Negotiation, deadline: float) -> None:
        self.peer = peer
        self.negotiation = negotiation
        self.deadline = deadline
        self.unsent = b""  # what the kernel would not take at once

    def answer(self) -> bool:
        """Send what the negotiation has to say; whether all of it is under way. Raises PeerGone."""
        output = self.negotiation.take_output()
        self.unsent = output[self.peer.send_now(output) :] if output else b""
        return not self.unsent


class Lobby(Owner):
    """All listeners and everyone who negotiates."""

    COLLECTIONS = ("_doors", "_guests")

    def __init__(self, handshake: Handshake, settings_source: Callable[[], Settings], nursery: trio.Nursery) -> None:
        self._handshake = handshake
        self._settings_source = settings_source
        self._nursery = nursery
        self._reactor = Reactor()
        self._doors: dict[int, socket.socket] = {}
        self._guests: dict[int, Guest] = {}  # by descriptor, in the order they came
        self._conducted = 0  # who is looked after by a task
        self._shut: tuple[tuple[socket.socket, Any], ...] = ()  # doors that nobody may come in by, and their addresses
        self._is_full = False
        self._is_exhausted = False

    def owned(self) -> Iterable[Owner]:
        return (self._handshake,)

    async def run(self, listeners: Iterable[trio.SocketListener]) -> None:
        """Until cancelled; then nobody negotiates any more."""
        try:
            for listener in listeners:
                self._open_door(listener.socket)
            lingers = False
            while True:
                await self._reactor.wait(has_work=False, lingers=lingers)
                self._reactor.poll()
                lingers = bool(self._reactor.ready)
                self._serve_ready()
                if self._is_exhausted:
                    await trio.sleep(DESCRIPTORS_SHORT_SECONDS)
        finally:
            self._reactor.close()
            for door in self._doors.values():
                door.close()
            for guest in self._guests.values():
                guest.peer.close()

    async def see_off(self) -> None:
        """Send away who has stayed too long, until cancelled."""
        while True:
            await trio.sleep(GUESTS_LOOK_SECONDS)
            while self._guests:
                guest = next(iter(self._guests.values()))
                if guest.deadline > trio.current_time():
                    break
                self._log_late()
                self._dismiss(guest)

    # doors ------------------------------------------------------------------------------------------------------------

    @property
    def is_shut(self) -> bool:
        """Nobody new may come."""
        return bool(self._shut)

    def shut(self) -> None:
        """Refuse whoever comes from now on; who is here already goes on, and the ports stay ours."""
        if self._shut:
            return
        self._shut = tuple((door, door.getsockname()) for door in self._doors.values())
        for door, _where in self._shut:
            self._reactor.remove(door.fileno())  # a socket that listens no more would be ready for ever
            door.shutdown(socket.SHUT_RD)

    def reopen(self) -> None:
        """Let clients come again. Raises OSError; doors that could not be opened can be tried again."""
        while self._shut:
            door, where = self._shut[0]
            try:
                door.bind(where)  # the kernel kept the port only if it was asked for by its number
            except OSError as fault:
                if fault.errno != errno.EINVAL:
                    raise
            door.listen(self._settings_source().amqp.backlog)
            self._reactor.add(door.fileno(), READABLE)
            self._shut = self._shut[1:]

    # coming in --------------------------------------------------------------------------------------------------------

    def _open_door(self, listening: trio.socket.SocketType) -> None:
        # trio's accept() costs a stream and a checkpoint a connection; a twin of the socket takes them in bunches.
        door = socket.fromfd(listening.fileno(), listening.family, listening.type)
        door.setblocking(False)  # noqa: FBT003 - the socket's own signature
        self._doors[door.fileno()] = door
        self._reactor.add(door.fileno(), READABLE)

    def _serve_ready(self) -> None:
        ready, self._reactor.ready = self._reactor.ready, {}
        for descriptor in ready:
            guest = self._guests.get(descriptor)
            if guest is not None:
                self._serve(guest)
            elif descriptor in self._doors:
                self._accept_waiting(self._doors[descriptor])

    def _accept_waiting(self, door: socket.socket) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            try:
                accepted, _address = door.accept()
            except BlockingIOError:
                break
            except OSError as fault:
                if fault.errno not in _EXHAUSTED:
                    continue  # accept(2) passes on what went wrong with a connection that is already over
                if not self._is_exhausted:
                    _log.error("cannot accept connections", reason=fault.strerror, negotiating=self._half_open)
                self._is_exhausted = True
                return
            self._admit(accepted)
        self._is_exhausted = False

    @property
    def _half_open(self) -> int:
        return len(self._guests) + self._conducted

    def _admit(self, accepted: socket.socket) -> None:
        amqp = self._settings_source().amqp
        if self._half_open >= amqp.half_open_max:
            accepted.close()
            if not self._is_full:
                _log.warning("too many clients negotiate, new ones are dropped", half_open_max=amqp.half_open_max)
            self._is_full = True
            return
        accepted.setblocking(False)  # noqa: FBT003 - the socket's own signature
        try:
            peer = Peer(accepted)
        except PeerGone:
            accepted.close()
            return
        guest = Guest(peer, Negotiation(offer(amqp)), trio.current_time() + amqp.negotiation_seconds)
        self._guests[peer.fileno()] = guest
        self._reactor.add(peer.fileno(), READABLE)
        self._serve(guest)  # the first bytes often come with the connection

    # while they are here ----------------------------------------------------------------------------------------------

    def _serve(self, guest: Guest) -> None:
        try:
            received = guest.peer.receive_now()
            if received:
                self._advance(guest, hear(guest.peer, guest.negotiation, received))
        except PeerGone:
            _log.debug("client left while negotiating")
            self._dismiss(guest)
        except Exception:  # noqa: BLE001 - not the client's fault but ours; its siblings live
            _log.exception("negotiation failed")
            self._dismiss(guest)

    def _advance(self, guest: Guest, wish: Wish | None) -> None:
        """Answer and grant from memory; what has to be waited for is left to a task."""
        peer, negotiation = guest.peer, guest.negotiation
        while negotiation.state not in (State.CLOSING, State.CLOSED) and guest.answer():
            if wish is None:
                return
            if isinstance(wish, Enter):
                if self._handshake.enter_now(peer, negotiation, wish):
                    self._dismiss(guest)
                    return
                break
            user = self._handshake.recall(peer, wish)
            if user is None:
                break
            wish = negotiation.accept(user.name, user.tags)
        self._forget(guest)
        self._nursery.start_soon(self._conduct, guest, wish)

    async def _conduct(self, guest: Guest, wish: Wish | None) -> None:
        """What has to be waited for."""
        self._conducted += 1
        try:
            with trio.move_on_at(guest.deadline) as budget:
                await self._handshake.conduct(guest.peer, guest.negotiation, wish, guest.unsent)
            if budget.cancelled_caught:
                self._log_late()
        except PeerGone:
            _log.debug("client left while negotiating")
        except Exception:  # noqa: BLE001 - not the client's fault but ours; its siblings live
            _log.exception("negotiation failed")
        finally:
            self._conducted -= 1
            guest.peer.close()
            self._left()

    def _dismiss(self, guest: Guest) -> None:
        self._forget(guest)
        guest.peer.close()
        self._left()

    def _forget(self, guest: Guest) -> None:
        del self._guests[guest.peer.fileno()]
        self._reactor.remove(guest.peer.fileno())

    def _left(self) -> None:
        # Half empty, so that a flood at the limit is not logged connection by connection.
        if self._half_open * 2 <= self._settings_source().amqp.half_open_max:
            self._is_full = False

    def _log_late(self) -> None:
        _log.info("client took too long to negotiate", seconds=self._settings_source().amqp.negotiation_seconds)
