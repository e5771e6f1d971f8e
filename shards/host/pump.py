"""The pump: one task that moves bytes between all sockets of the shard and its connections.

```
wait ─► receive from every ready socket ─► finish the turn (deliver, flush) ─► begin a round ─► send every outbox
```
No task, stream or buffer per connection: measured with an echo server this is as fast as uvloop from 50 connections on.
One shared buffer takes what each socket has; input that is not a whole frame yet waits in its connection. What a turn
has for a client, however many small frames that is, leaves in one call.

Who publishes is held back while messages stand ready for consumers with room, or consumers are busy with what they were
sent; `restraint.py` says how far. While memory is short, messages that have begun to come are finished one after the
other: what has come of them stands in memory, and is all that publishers can still make grow.
"""

import socket
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import structlog
import trio

from ipc.errors import ConnectionRefusal
from ipc.limits import (
    DRAINING_MS_MAX,
    EFFORT_WORTH_BYTES,
    FINISHING_MS_MAX,
    RECEIVE_BYTES_OF_TURN,
    RECEIVE_BYTES_PER_TURN,
    RESTRAINED_BYTES_MAX,
    SHORT_BYTES_PER_TURN,
    UNREADABLE_RETRY_MS,
)
from ipc.messages.commands import Level
from ipc.reactor import GONE, HUNG_UP, READABLE, WRITABLE, Reactor
from shards.compaction.compactable import Compactable, Freed, ShrinkPolicy, Step
from shards.host.alarm import Alarm
from shards.host.bell import Bell
from shards.host.checkpointer import Checkpointer
from shards.host.deadlines import Deadlines
from shards.host.peer import Peer
from shards.host.restraint import Restraint
from shards.host.syncer import Syncer
from shards.model.turn import Sender, Shortage, Turn
from shards.protocols.amqp.connection import CLOSE_PATIENCE_MS, Connection, ConnectionState

_FRAME_MAX_FIRST: Final = 128 * 1024
_PEER_BYTES: Final = 400  # of a peer, its socket object and its keys (measured)
_BUFFER_BYTES: Final = RECEIVE_BYTES_PER_TURN + _FRAME_MAX_FIRST


class Pump(Compactable):
    """Owns the clients' sockets; its deadlines are ticked by a task of their own."""

    COLLECTIONS = ("_draining", "_held", "_in_line", "_peers", "_senders")
    KIND = "sockets"

    def __init__(
        self,
        turn: Turn,
        syncer: Syncer,
        checkpointer: Checkpointer,
        reactor: Reactor,
        bell: Bell,
        clock: Callable[[], int],
        deadlines: Deadlines,
        alarm: Alarm,
        *,
        on_storage_error: Callable[[OSError], None],
        stopwatch: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`stopwatch` gives seconds, by which it is told what publishers take of the time."""
        self._turn = turn
        self._syncer = syncer
        self._checkpointer = checkpointer
        self._reactor = reactor
        self._bell = bell
        self._clock = clock
        self._deadlines = deadlines
        self._alarm = alarm
        self._on_storage_error = on_storage_error
        self._stopwatch = stopwatch
        self._peers: dict[int, Peer] = {}
        self._senders: dict[Sender, Peer] = {}
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._restraint = Restraint()
        self._held: dict[int, Peer] = {}  # publishers that nobody reads from for the moment, by descriptor
        self._in_line: dict[int, Peer] = {}  # the same of those who wait for `_finishing`, in their order
        self._finishing: Peer | None = None
        self._finishing_since = 0
        self._draining: dict[Peer, int] = {}  # full, and when they last took something; the longest ago first
        self._has_received = False  # in the last turn, so that more may be on its way
        self._tells_unreadable_at = 0
        self._departed = trio.Event()
        self._log = structlog.get_logger("shard.pump")
        reactor.add(bell.descriptor, READABLE)

    def children(self) -> Iterable[Compactable]:
        return (self._deadlines,)

    def holdings(self) -> Iterable[tuple[str, int]]:
        return (("receive buffer", len(self._buffer)), (self.KIND, _PEER_BYTES * len(self._peers)))

    def shrink(self, level: Level, policy: ShrinkPolicy) -> Iterator[Step]:
        """Also the shared buffer, which a client with large frames once made larger."""
        yield from super().shrink(level, policy)
        beyond_bytes = len(self._buffer) - _BUFFER_BYTES
        if beyond_bytes > 0:
            if not policy.is_dry:
                self._buffer = memoryview(bytearray(_BUFFER_BYTES))
            yield Freed("buffer", beyond_bytes)

    async def departure(self) -> None:
        """Returns when the next client has gone."""
        await self._departed.wait()

    def serves(self, connection: Connection) -> bool:
        return connection in self._senders

    @property
    def connections(self) -> list[Connection]:
        return [peer.connection for peer in self._peers.values()]

    @property
    def connection_count(self) -> int:
        return len(self._peers)

    @property
    def held_count(self) -> int:
        """Publishers that nobody reads from for the moment."""
        return len(self._held)

    def adopt(self, client: socket.socket, connection: Connection, now: int) -> None:
        """Serve this client from now on."""
        client.settimeout(0)
        peer = Peer(client, connection)
        self._peers[peer.descriptor] = peer
        self._senders[connection] = peer
        peer.interest = READABLE
        self._reactor.add(peer.descriptor, peer.interest)
        self._deadlines.set(peer, connection.tick(now))
        self._turn.resumable.append(connection)  # to begin with what the router has read already
        if self._reactor.is_asleep:
            self._bell.ring()

    async def run(self) -> None:
        """Turn until cancelled. Raises SyncFailed."""
        self._syncer.start()
        self._checkpointer.start()
        while True:
            lingers, self._has_received = self._has_received, False
            # Those who are held earn their way on by time, too.
            must_return = bool(self._held or self._in_line)
            await self._reactor.wait(has_work=self._turn.has_work, lingers=lingers, must_return=must_return)
            self.turn()

    # a turn -----------------------------------------------------------------------------------------------------------

    def turn(self) -> None:
        """One turn; see the module's docstring for its order. Raises SyncFailed."""
        now = self._turn.now = self._clock()
        self._receive_ready(now)
        self._syncer.proceed()
        self._resume(now)
        self._finish(now)
        self._syncer.proceed()
        self._checkpointer.proceed()
        self._send_all(now)
        self._account()
        self._alarm.set()

    def _receive_ready(self, now: int) -> None:
        """Serve ready sockets, each once before any a second time, until the turn has taken enough."""
        reactor = self._reactor
        if not reactor.ready:
            reactor.poll()
        is_restrained = self._is_restrained(now)
        if self._held and (self._restraint.may_take or not is_restrained):
            held, self._held = self._held, {}
            self._let_go_on(held.values())
        if self._in_line:
            self._move_line(now)
        ready, reactor.ready = reactor.ready, {}
        # Whoever is about to wait keeps what was read, and there may be thousands of them.
        room_bytes = SHORT_BYTES_PER_TURN if self._turn.shortages else RECEIVE_BYTES_PER_TURN
        left = RECEIVE_BYTES_OF_TURN
        for descriptor, events in ready.items():
            peer = self._peers.get(descriptor)
            if peer is None:
                self._hear(descriptor)
            elif left <= 0:
                reactor.ready[descriptor] = events  # goes first next time
            elif self._must_queue(peer, now) and not events & ~READABLE:
                self._in_line[descriptor] = peer
                self._watch(peer)
            elif is_restrained and peer.connection.publishes:
                left -= self._serve_publisher(peer, now, events, min(room_bytes, RESTRAINED_BYTES_MAX))
            else:
                left -= self._guarded(self._serve, peer, now, events, room_bytes)

    def _serve_publisher(self, peer: Peer, now: int, events: int, room_bytes: int) -> int:
        """The same for one whose input has to wait for consumers."""
        restraint = self._restraint
        if not restraint.may_take and not events & ~READABLE:
            self._held[peer.descriptor] = peer
            self._watch(peer)
            return 0
        began, published = self._stopwatch(), self._turn.published
        count = self._guarded(self._serve, peer, now, events, room_bytes)
        restraint.use(self._turn.published - published, self._stopwatch() - began)
        return count

    def _is_restrained(self, now: int) -> bool:
        """Whether consumers have enough to do, so that publishers may only bring what they have earned."""
        draining = self._draining
        while draining and now - draining[slowest := next(iter(draining))] > DRAINING_MS_MAX:
            del draining[slowest]  # not busy, but slow: what a queue is for
        return bool(draining) or self._turn.is_behind

    def _let_go_on(self, peers: Iterable[Peer]) -> None:
        """These are not held any more."""
        for peer in peers:
            self._watch(peer)
            self._reactor.ready[peer.descriptor] = self._reactor.ready.get(peer.descriptor, 0) | READABLE

    def _must_queue(self, peer: Peer, now: int) -> bool:
        """Whether memory is short, this one is in the middle of a message, and somebody else has to finish first."""
        if Shortage.MEMORY not in self._turn.shortages or not peer.connection.is_assembling:
            return False
        if self._finishing is None:
            self._finishing, self._finishing_since = peer, now
        return peer is not self._finishing

    def _move_line(self, now: int) -> None:
        """The next one's turn, once the one before has finished or had its time: it may never send the rest."""
        if Shortage.MEMORY not in self._turn.shortages:
            in_line, self._in_line = self._in_line, {}
            self._finishing = None
            self._let_go_on(in_line.values())
            return
        finishing = self._finishing
        is_over = finishing is None or not finishing.connection.is_assembling
        if is_over or now - self._finishing_since >= FINISHING_MS_MAX:
            descriptor = next(iter(self._in_line))
            self._finishing, self._finishing_since = self._in_line.pop(descriptor), now
            self._let_go_on((self._finishing,))

    def _hear(self, descriptor: int) -> None:
        if descriptor == self._bell.descriptor:
            self._bell.silence()

    def _serve(self, peer: Peer, now: int, events: int, room_bytes: int) -> int:
        if events & WRITABLE:
            self._send(peer, now)
        if peer.connection.wants_input:
            return self._receive(peer, now, room_bytes) if events & (READABLE | GONE) else 0
        if events & (GONE | HUNG_UP):
            self._drop(peer)
        return 0

    def _guarded(self, action: Callable[..., int], peer: Peer, now: int, *more: int) -> int:
        """A fault of ours in one connection is logged once, that client is closed, its siblings live."""
        try:
            return action(peer, now, *more)
        except (OSError, MemoryError) as fault:
            self._log.error("connection failed", connection=peer.connection.name, reason=str(fault) or "no memory")
        except Exception:  # noqa: BLE001 - the outermost loop of a client
            self._log.exception("connection failed", connection=peer.connection.name)
        self._drop(peer)
        return 0

    def _receive(self, peer: Peer, now: int, room_bytes: int) -> int:
        """Bytes taken from the socket, or what the effort they took is worth."""
        connection = peer.connection
        partial = connection.partial
        kept = len(partial)
        view = self._room_for(kept)
        view[:kept] = partial
        # Large frames come in growing pieces, or copying what there is of one would take longer than reading it.
        room_bytes = max(room_bytes, min(kept, RECEIVE_BYTES_PER_TURN))
        try:
            count = peer.socket.recv_into(view[kept : kept + room_bytes])
        except BlockingIOError:
            return 0
        except OSError:
            count = 0
        if not count:
            self._drop(peer)
            return 0
        self._has_received = True
        connection.receive(view[: kept + count], now)
        self._after_input(peer, now)
        return max(count, connection.effort * EFFORT_WORTH_BYTES)

    def _room_for(self, kept: int) -> memoryview:
        """The shared buffer, grown once when a connection negotiated larger frames than any before."""
        if len(self._buffer) < kept + RECEIVE_BYTES_PER_TURN:
            self._buffer = memoryview(bytearray(kept + RECEIVE_BYTES_PER_TURN))
        return self._buffer

    def _after_input(self, peer: Peer, now: int) -> None:
        if peer.connection.state is not ConnectionState.OPEN:
            peer.connection.touched()  # to be sent, or dropped, before the turn ends
            if not peer.is_leaving:
                peer.is_leaving = True
                self._deadlines.set(peer, now + CLOSE_PATIENCE_MS)
        self._watch(peer)

    def _resume(self, now: int) -> None:
        resumable, self._turn.resumable = self._turn.resumable, []
        left = RECEIVE_BYTES_OF_TURN
        for done, connection in enumerate(resumable):
            if left <= 0:
                self._turn.resumable[:0] = resumable[done:]  # go first next time
                break
            peer = self._senders.get(connection)
            if peer is not None:
                left -= self._guarded(self._go_on, peer, now)

    def _go_on(self, peer: Peer, now: int) -> int:
        """What the effort it took is worth, in bytes."""
        peer.connection.resume(now)
        self._after_input(peer, now)
        return peer.connection.effort * EFFORT_WORTH_BYTES

    def _finish(self, now: int) -> None:
        try:
            self._turn.finish(now)
        except OSError as refused:
            self._on_storage_error(refused)
        while self._turn.notices:
            event, fields, is_error = self._turn.notices.pop(0)
            (self._log.error if is_error else self._log.info)(event, **fields)
        if self._turn.unreadable and now >= self._tells_unreadable_at:
            # Whoever publishes has it tried again, and once in a while is enough to hear of it.
            self._tells_unreadable_at = now + UNREADABLE_RETRY_MS
            unreadable, self._turn.unreadable = self._turn.unreadable, {}
            for queue, reason in unreadable.items():
                self._log.error("queue cannot be read", queue=queue.name, reason=reason)

    def _send_all(self, now: int) -> None:
        unsent, self._turn.unsent = self._turn.unsent, []
        for connection in unsent:
            connection.is_listed = False
            peer = self._senders.get(connection)
            if peer is not None:
                self._guarded(self._send, peer, now)

    def _account(self) -> None:
        self._restraint.earn(self._turn.delivered, self._stopwatch())
        self._turn.published = self._turn.delivered = 0

    def _send(self, peer: Peer, now: int) -> int:
        """Bytes the kernel took."""
        connection = peer.connection
        outbox = connection.outbox
        total = 0
        peer.is_clogged = False
        try:
            while not outbox.is_empty:
                count = peer.socket.send(outbox.buffer)
                connection.sent(count, now)
                total += count
        except BlockingIOError:
            peer.is_clogged = True
        except OSError:
            self._drop(peer)
            return total
        if connection.state is ConnectionState.CLOSED and outbox.is_empty:
            self._drop(peer)
            return total
        if connection.state is ConnectionState.CLOSING:
            self._deadlines.set(peer, connection.tick(now))
        if total:
            self._draining.pop(peer, None)
            if peer.is_clogged:
                self._draining[peer] = now
        self._watch(peer)
        return total

    def _watch(self, peer: Peer) -> None:
        """Ask epoll for what this peer can use now, and only when that changed."""
        connection = peer.connection
        reads = connection.wants_input and peer.descriptor not in self._held and peer.descriptor not in self._in_line
        interest = (READABLE if reads else 0) | (WRITABLE if peer.is_clogged else 0)
        if not reads and connection in self._turn.blocked:
            # It may be blocked for hours, and clients that give up and come again must not pile up. What it wanted to
            # publish was promised to nobody.
            interest |= HUNG_UP
        if interest != peer.interest and peer.descriptor in self._peers:
            self._reactor.change(peer.descriptor, interest)
            peer.interest = interest

    def tick(self, peer: Peer, now: int) -> int:
        """A deadline of this peer has come; when the next one is, 0 for none."""
        if peer.descriptor in self._in_line:
            peer.connection.overlooked(now)
        due = peer.connection.tick(now)
        if peer.connection.state is ConnectionState.CLOSED:
            self._drop(peer)
            return 0
        return due

    def _drop(self, peer: Peer) -> None:
        if self._peers.pop(peer.descriptor, None) is None:
            return
        connection = peer.connection
        self._held.pop(peer.descriptor, None)
        self._in_line.pop(peer.descriptor, None)
        if self._finishing is peer:
            self._finishing = None
        self._draining.pop(peer, None)
        del self._senders[connection]
        connection.vhost.connections.pop(connection, None)
        self._reactor.remove(peer.descriptor)
        self._deadlines.clear(peer)
        peer.socket.close()
        try:
            connection.lost()
        except Exception:  # noqa: BLE001 - the outermost loop of a client
            self._log.exception("connection failed while it ended", connection=connection.name)
        self._departed.set()
        self._departed = trio.Event()
        if connection.closing_because:
            self._log.info("connection closed", connection=connection.name, reason=connection.closing_because)
        else:
            self._log.debug("connection ended", connection=connection.name)

    def close_client(self, connection: Connection, refusal: ConnectionRefusal, now: int) -> None:
        """Tell a client that it has to go, and why."""
        peer = self._senders.get(connection)
        if peer is not None:
            connection.close(refusal, now)
            self._after_input(peer, now)

    def drop(self, connections: Iterable[Connection]) -> None:
        """Close these clients' sockets, whatever is still unsent."""
        for connection in connections:
            peer = self._senders.get(connection)
            if peer is not None:
                self._drop(peer)

    def close(self) -> None:
        self.drop(self.connections)
        self._reactor.close()
