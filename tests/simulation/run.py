"""One run: a list of steps, each with dice of its own, so that any of them can be left out and the others do the same.

Whoever reads a failing list needs no more: an action's name says what is done, its dice to what and how much.
"""

import errno
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

from msgspec import structs
from pamqp import commands

from ipc.limits import KIB, UNREADABLE_RETRY_MS, WRITE_BACK_MS
from ipc.messages.commands import Level
from ipc.settings import VHostStoreSettings
from shards.compaction.accounting import Account
from shards.compaction.cascade import cascade
from shards.compaction.compactable import ShrinkPolicy
from shards.compaction.shrink import RULES
from shards.host.worker import SyncFailed
from shards.model.turn import APPOINTMENT_MS
from shards.model.vhost import VHost
from shards.store.segment import DAMAGED_SUFFIX
from tests.protocols.conversation import content
from tests.simulation.delays import LATE, LATER, Delayed, Delays
from tests.simulation.exercised import Exercised, Tally
from tests.simulation.expectations import Commit, Copy, End, Expected, Terms, Violation
from tests.simulation.random_client import Mode, Published, RandomClient
from tests.simulation.simulated_files import SimulatedFiles, Stopped
from tests.simulation.simulated_shard import VHOSTS, SimulatedShard, body_of, contents, read_all
from tests.simulation.sliced_pass import SlicedPass
from tests.simulation.small_limits import (
    JOURNAL_FILES_MAX,
    JOURNAL_SPARE_FILES_MAX,
    LARGE_BYTES,
    STORE,
    TAIL_BYTES_KEPT_MAX,
)

QUEUES_MAX: Final = 6  # of each vhost
CLIENTS_MAX: Final = 5
FANOUT: Final = "all"
DELAY_MS_MAX: Final = 30_000  # by when all that waits is due, and looked at
SIZES: Final = (0, 0, 20, 20, 200, 1500, LARGE_BYTES + 100)
MEMORY_SLACK_BYTES: Final = 4 * KIB  # of each kind: the smallest tables are not worth a copy
CLOSE: Final = ShrinkPolicy(ratio=1.0, floor_bytes=0, release_bytes_max=1 << 30, cold_before=1 << 40)
_MEMORY: Final = Path("/dev/shm")


_ENDS: Final = {
    End.CLEAN: Exercised.CLEAN_RESTART,
    End.KILLED: Exercised.KILL,
    End.STOPPED: Exercised.STOP,
    End.POWER: Exercised.POWER_FAILURE,
}


class Step(NamedTuple):
    action: str
    dice: int


class NothingToDo(Exception):
    """There is nobody to do it, or nothing to do it to."""


class Run:
    """Everything at one moment of a run."""

    def __init__(self, seed: int) -> None:
        # SQLite syncs what it commits; where there is a file system in memory that costs nothing.
        self.directory = Path(tempfile.mkdtemp(dir=_MEMORY if _MEMORY.is_dir() else None))
        self.operations = 0
        self.tally: Tally = Tally()
        self.chance = Random(seed)
        self.store = STORE
        self.shard = SimulatedShard(self.directory, SimulatedFiles(seed, self.tally), self.store, 1_000_000)
        self.shard.open_all()
        self._journals = [f"{self.directory / (name.strip('/') or 'default') / 'journal'}/" for name in VHOSTS]
        self.queues: dict[str, dict[str, Expected]] = {name: {} for name in VHOSTS}
        self.deleted: list[tuple[str, Expected]] = []
        self.delays = {name: Delays(name) for name in VHOSTS}
        self.bound: dict[str, set[str]] = {name: set() for name in VHOSTS}  # to the fanout exchange
        self.clients: list[RandomClient] = []
        self.commits: list[Commit] = []
        self._number = 0
        for vhost in self.shard.each_vhost():
            self._declare_exchange(vhost)
        self._fresh = self._held()
        for vhost in self.shard.each_vhost():
            self._declare_delays(vhost)

    def _declare_exchange(self, vhost: VHost) -> None:
        client = RandomClient(self.shard, vhost, Mode.PLAIN)
        client.wire.say(commands.Exchange.Declare(exchange=FANOUT, exchange_type="fanout", durable=True))
        client.hang_up()

    def _declare_delays(self, vhost: VHost) -> None:
        client = RandomClient(self.shard, vhost, Mode.PLAIN)
        client.wire.say(
            commands.Exchange.Declare(
                exchange=LATER,
                exchange_type="x-delayed-message",
                durable=True,
                arguments={"x-delayed-type": "fanout"},
            )
        )
        client.wire.replies()
        client.wire.declare(LATE, durable=True)
        client.wire.say(commands.Queue.Bind(exchange=LATER, queue=LATE))
        client.hang_up()

    # choosing ---------------------------------------------------------------------------------------------------------

    def some_client(self, mode: Mode | None = None) -> RandomClient | None:
        able = [client for client in self.clients if client.may_speak and mode in (None, client.mode)]
        return self.chance.choice(able) if able else None

    def some_queue(self, client: RandomClient) -> Expected | None:
        queues = list(self.queues[client.vhost.name].values())
        return self.chance.choice(queues) if queues else None

    # clients ----------------------------------------------------------------------------------------------------------

    def connect(self) -> None:
        if len(self.clients) >= CLIENTS_MAX:
            raise NothingToDo
        vhost = self.chance.choice(self.shard.each_vhost())
        self.clients.append(RandomClient(self.shard, vhost, self.chance.choice(list(Mode))))

    def disconnect(self) -> None:
        if not self.clients:
            raise NothingToDo
        self.clients.pop(self.chance.randrange(len(self.clients))).hang_up()

    def declare(self) -> None:
        client = self.some_client()
        if client is None or len(self.queues[client.vhost.name]) >= QUEUES_MAX:
            raise NothingToDo
        queues = self.queues[client.vhost.name]
        free = [name for name in "abcdefgh" if name not in queues]
        name = self.chance.choice(free)
        terms = self._some_terms()
        if terms.drops and self.chance.random() < 0.5 and f"graves of {name}" not in queues:
            terms.graves = f"graves of {name}"
            if not self._declare(client, Expected(terms.graves, Terms(is_durable=True), 0)):
                return
        queue = Expected(name, terms, 0)
        if terms.graves:
            queues[terms.graves].buries = queue
        if self._declare(client, queue) and self.chance.random() < 0.5 and client.may_speak:
            self.bound[client.vhost.name].add(name)
            client.wire.say(commands.Queue.Bind(exchange=FANOUT, queue=name))

    def _some_terms(self) -> Terms:
        chance = self.chance
        terms = Terms(is_durable=chance.random() < 0.85)
        kind = chance.randrange(8)
        if kind == 0:
            terms.ttl = chance.choice((0, 300, 2000))
        elif kind == 1:
            terms.length_max = chance.randrange(5)
        elif kind == 2:
            terms.returns_max = chance.randrange(3)
        elif kind == 3:
            terms.priority_max = chance.randrange(1, 4)
        return terms

    def _declare(self, client: RandomClient, queue: Expected) -> bool:
        """Whether the client may go on."""
        self.queues[client.vhost.name][queue.name] = queue
        queue.number = client.vhost._number_next
        queue.is_unsynced = not client.vhost.awaits_disk
        client.declare(queue)
        client.hear()
        return client.may_speak

    def delete(self) -> None:
        client = self.some_client()
        queue = self.some_queue(client) if client is not None else None
        if client is None or queue is None or queue.buries is not None or queue.terms.graves:
            raise NothingToDo
        del self.queues[client.vhost.name][queue.name]
        self.bound[client.vhost.name].discard(queue.name)
        self.deleted.append((client.vhost.name, queue))
        client.delete(queue)

    def purge(self) -> None:
        client = self.some_client()
        queue = self.some_queue(client) if client is not None else None
        if client is None or queue is None:
            raise NothingToDo
        for copy in queue.ready():
            queue.leave(copy.number)
            if queue.buries is not None and copy.number in queue.buries.gone:
                queue.buries.gone[copy.number].is_purged = True
        client.wire.say(commands.Queue.Purge(queue=queue.name))

    def publish(self) -> None:
        client = self.some_client()
        if client is None or self.shard.is_blocked or not self.queues[client.vhost.name]:
            raise NothingToDo
        queue = self.some_queue(client)
        assert queue is not None
        is_fanout = self.chance.random() < 0.3
        data = b""
        is_persistent = self.chance.random() < 0.75
        priority = self.chance.randrange(5)
        size = self.chance.choice(SIZES)
        expiration = self.chance.choice((100, 1000)) if queue.terms.drops and self.chance.random() < 0.2 else None
        if is_fanout:
            expiration = None
        count = self.chance.choice((1, 1, 2, 5, 12))
        self.operations += count - 1
        for _ in range(count):
            self._number += 1
            properties = commands.Basic.Properties(
                delivery_mode=2 if is_persistent else 1,
                priority=priority,
                expiration=None if expiration is None else str(expiration),
            )
            data += content(
                FANOUT if is_fanout else "",
                "" if is_fanout else queue.name,
                body_of(self._number, size),
                properties=properties,
            )
            target = "" if is_fanout else queue.name
            is_large = size >= LARGE_BYTES
            published = Published(target, self._number, is_persistent, priority, expiration, is_large)
            if client.mode is Mode.TRANSACTIONS:
                client.pending.append(published)
            else:
                copies = self._route(client, published)
                client.expect_confirm([copy for target, copy in copies if target.terms.is_durable])
        client.wire.send(data)

    def _route(self, client: RandomClient, published: Published) -> list[tuple[Expected, Copy]]:
        """Where a message goes now."""
        vhost = client.vhost.name
        copies = []
        for name in sorted(self.bound[vhost]) if not published.queue else [published.queue]:
            queue = self.queues[vhost].get(name)
            if queue is not None:
                copies.append((queue, self._publish_to(queue, published)))
        return copies

    def _publish_to(self, queue: Expected, published: Published) -> Copy:
        lives = [each for each in (published.expiration, queue.terms.ttl) if each is not None]
        copy = Copy(
            published.number,
            published.is_persistent,
            min(published.priority, queue.terms.priority_max),
            self.shard.now + min(lives) if lives else None,
            published.is_large,
        )
        queue.publish(copy)
        queue.terms.has_expiring = queue.terms.has_expiring or copy.expires_at is not None
        return copy

    def delay(self) -> None:
        """Publish some that are to wait at an exchange."""
        client = self.some_client()
        if client is None or self.shard.is_blocked or client.mode is Mode.TRANSACTIONS:
            raise NothingToDo
        data = b""
        for _ in range(self.chance.choice((1, 1, 4))):
            self._number += 1
            size = self.chance.choice(SIZES)
            delay = self.chance.choice((1, 50, 600, 3000, 20_000))
            message = Delayed(
                self._number,
                is_persistent=self.chance.random() < 0.75,
                is_large=size >= LARGE_BYTES,
                due=self.shard.now + delay,
            )
            self.delays[client.vhost.name].publish(message)
            client.expect_confirm([message])
            properties = commands.Basic.Properties(
                delivery_mode=2 if message.is_persistent else 1, headers={"x-delay": delay}
            )
            data += content(LATER, "", body_of(self._number, size), properties=properties)
            self.tally[Exercised.DELAYED] += 1
        client.wire.send(data)

    def declare_choosy(self) -> None:
        """A queue that does not take the same message twice."""
        client = self.some_client()
        queues = {} if client is None else self.queues[client.vhost.name]
        free = [name for name in "ijkl" if name not in queues]
        if client is None or not free or len(queues) >= QUEUES_MAX:
            raise NothingToDo
        name = self.chance.choice(free)
        self._declare(client, Expected(name, Terms(remembered_max=self.chance.randrange(1, 4)), 0))

    def repeat(self) -> None:
        """Publish messages of which the queue may remember some."""
        client = self.some_client()
        queues = [] if client is None else list(self.queues[client.vhost.name].values())
        choosy = [queue for queue in queues if queue.terms.remembered_max]
        if client is None or not choosy or self.shard.is_blocked or client.mode is Mode.TRANSACTIONS:
            raise NothingToDo
        queue = self.chance.choice(choosy)
        data = b""
        for _ in range(self.chance.choice((1, 2, 5))):
            self._number += 1
            key = self.chance.choice("xyzvw")
            is_persistent = self.chance.random() < 0.75
            copies = []
            if queue.remembers.take(key, queue.terms.remembered_max):
                copies = [self._publish_to(queue, Published(queue.name, self._number, is_persistent, 0, None, False))]
            else:
                self.tally[Exercised.REPEATED] += 1
            client.expect_confirm(copies)
            properties = commands.Basic.Properties(
                delivery_mode=2 if is_persistent else 1, headers={"x-deduplication-header": key}
            )
            data += content("", queue.name, body_of(self._number, 20), properties=properties)
        client.wire.send(data)

    def commit(self) -> None:
        client = self.some_client(Mode.TRANSACTIONS)
        if client is None or self.shard.is_blocked:
            raise NothingToDo
        commit = client.commit = Commit(self.shard.simulated.refusals)
        pending, client.pending = client.pending, []
        for published in pending:  # which is routed when it is committed
            copies = self._route(client, published)
            commit.published += [(queue, copy) for queue, copy in copies if queue.terms.is_durable]
        settlements, client.pending_settlements = client.pending_settlements, {}
        for tag, goes in settlements.items():
            client.settle(tag, goes=goes)
        self.commits.append(commit)
        client.wire.say(commands.Tx.Commit())

    def rollback(self) -> None:
        client = self.some_client(Mode.TRANSACTIONS)
        if client is None:
            raise NothingToDo
        client.pending, client.pending_settlements = [], {}
        client.wire.say(commands.Tx.Rollback())

    def consume(self) -> None:
        client = self.some_client()
        queue = self.some_queue(client) if client is not None else None
        if client is None or queue is None or queue.buries is not None or len(client.consumes) >= 3:
            raise NothingToDo
        acks = self.chance.random() < 0.8
        tag = f"tag-{self.chance.randrange(10**9)}"
        client.prefetch = self.chance.choice((0, 1, 3, 10))
        client.wire.say(commands.Basic.Qos(prefetch_count=client.prefetch))
        client.hear()
        if client.may_speak:
            client.consume(queue, tag, acks=acks)

    def cancel(self) -> None:
        client = self.some_client()
        if client is None or not client.consumes:
            raise NothingToDo
        tag = self.chance.choice(sorted(client.consumes))
        client.wire.say(commands.Basic.Cancel(consumer_tag=tag))

    def get(self) -> None:
        client = self.some_client()
        queue = self.some_queue(client) if client is not None else None
        if client is None or queue is None or queue.buries is not None:
            raise NothingToDo
        client.get(queue, acks=self.chance.random() < 0.7)

    def settle(self) -> None:
        """Acknowledge, give back or reject, one or many."""
        able = [client for client in self.clients if client.may_speak and client.undecided()]
        if not able:
            raise NothingToDo
        client = self.chance.choice(able)
        free = client.undecided()
        tag = self.chance.choice(free)
        is_multiple = self.chance.random() < 0.3
        how = self.chance.choice(("ack", "ack", "ack", "requeue", "reject"))
        concerned = [each for each in free if each <= tag] if is_multiple else [tag]
        messages = [client.outstanding[each] for each in concerned]
        if client.mode is Mode.TRANSACTIONS:
            if any(client.outstanding[each][0].terms.graves for each in concerned):
                how = "ack"
            client.pending_settlements.update(dict.fromkeys(concerned, how != "requeue"))
        else:
            for each in concerned:
                self._settle(client, each, how)
        self.operations += len(concerned) - 1
        if how == "ack":
            client.wire.ack(tag, multiple=is_multiple)
        else:
            client.wire.nack(tag, multiple=is_multiple, requeue=how == "requeue")
        if how == "reject" and self.shard.is_unreadable:
            for queue, number in messages:
                self._is_back(client.vhost, queue, number)

    def _is_back(self, vhost: VHost, queue: Expected, number: int) -> None:
        """What was rejected and could not be read for the dead letters is in its queue again."""
        graves = self.queues[vhost.name].get(queue.terms.graves)
        if graves is None or queue.is_deleted or number not in queue.gone:
            return
        if not any(number in level for level in contents(vhost.queue(graves.name))):
            graves.never_came(number)
            queue.comes_back(number)

    def _settle(self, client: RandomClient, tag: int, how: str) -> None:
        queue, number = client.outstanding[tag]
        client.settle(tag, goes=how != "requeue")
        if how == "reject" and queue.terms.graves and not queue.is_deleted:
            gone = queue.gone[number]
            gone.is_buried = True
            self._bury(client.vhost.name, queue, gone.copy)

    def _bury(self, vhost: str, queue: Expected, copy: Copy) -> None:
        self.tally[Exercised.DEAD_LETTER] += 1
        graves = self.queues[vhost][queue.terms.graves]
        graves.publish(Copy(copy.number, copy.is_persistent))

    # time, memory, disk -----------------------------------------------------------------------------------------------

    def advance(self) -> None:
        self.shard.advance(self.chance.choice((1, 50, WRITE_BACK_MS, 3000)))

    def compact(self) -> None:
        """A pass, at once or between the turns to come, some of it without memory to copy anything."""
        shard = self.shard
        if shard.compaction is not None:
            shard.compaction.finish()
        policy = CLOSE
        if self.chance.random() < 0.3:
            chance = Random(self.chance.randrange(2**32))
            rules = {
                k: structs.replace(rule, copy=self._copy_sometimes(rule.copy, chance)) for k, rule in RULES.items()
            }
            policy = structs.replace(policy, rules=rules)
        steps = cascade(shard.vhosts, self.chance.choice(list(Level)), policy)
        shard.compaction = SlicedPass(steps, self.chance.randrange(2**32), self.tally)
        if self.chance.random() < 0.3:
            shard.compaction.finish()
            shard.compaction = None

    def _copy_sometimes(self, copy: Callable[[object], object], chance: Random) -> Callable[[object], object]:
        def without_memory(old: object) -> object:
            if chance.random() < 0.5:
                self.tally[Exercised.NO_MEMORY_FOR_A_COPY] += 1
                raise MemoryError
            return copy(old)

        return without_memory

    def slow_down(self) -> None:
        self.shard.is_slow = True

    def catch_up(self) -> None:
        self.shard.is_slow = False
        self.shard.proceed(ends=True)
        self.shard.finish_turn()

    def proceed(self) -> None:
        self.shard.proceed(ends=True)
        self.shard.finish_turn()

    def refuse(self) -> None:
        error = self.chance.choice((errno.ENOSPC, errno.EIO))
        for _ in range(self.chance.choice((1, 1, 3))):
            self.shard.simulated.refuse(self.chance.randrange(8), error)

    def blind(self) -> None:
        """One of the next reads fails."""
        self.shard.simulated.refuse_look(self.chance.randrange(4))

    def starve(self) -> None:
        """One of the next maps finds no memory."""
        self.shard.simulated.refuse_map(self.chance.randrange(3))

    def fill_up(self) -> None:
        self.shard.simulated.fill_up()

    def accept(self) -> None:
        self.shard.simulated.accept_everything()
        self.shard.retry_storage()

    def retry(self) -> None:
        if not self.shard.is_blocked:
            raise NothingToDo
        self.shard.retry_storage()

    def fail_sync(self) -> None:
        self.shard.simulated.sync_fault = OSError(errno.EIO, "failed sync")

    def stop_soon(self) -> None:
        self.shard.simulated.stop(self.chance.randrange(12))

    # ends -------------------------------------------------------------------------------------------------------------

    def kill(self) -> None:
        self.end(End.KILLED)

    def cut_power(self) -> None:
        self.end(End.POWER)

    def restart(self) -> None:
        """In order, with a disk that works."""
        shard = self.shard
        shard.simulated.accept_everything()
        shard.simulated.sync_fault = None
        shard.proceed(ends=True)  # a journal may be full until its checkpoint has ended
        if shard.is_blocked:
            shard.retry_storage()
        for client in list(self.clients):
            client.hang_up()
        self.check()
        shard.end_in_order()
        self.end(End.CLEAN)

    def switch(self) -> None:
        """From the next start on the second vhost waits for the disk, or does so no more."""
        is_synced = self.store.durability_of(VHOSTS[1]) == "fsync"
        own = VHostStoreSettings(durability="os" if is_synced else "fsync")
        self.store = structs.replace(STORE, vhosts={VHOSTS[1]: own})
        self.tally[Exercised.SWITCH] += 1
        if self.chance.random() < 0.5:
            self.restart()
        else:
            self.end(self.chance.choice((End.KILLED, End.POWER)))

    def end(self, end: End) -> None:
        """The process is gone; begin again, with a disk that may fail once more while it does."""
        self.tally[_ENDS[end]] += 1
        for commit in self.commits:
            # While a disk refuses, what makes room on it cannot wait; and without a journal nothing holds it together.
            commit.is_split = (
                commit.is_split
                or self.shard.simulated.refusals > commit.refusals
                or any(queue.is_unsynced for queue, _ in (*commit.published, *commit.settled))
            )
        self.shard.abandon()
        files = self.shard.simulated
        self.clients = []
        while True:
            files.random.seed(self.chance.randrange(2**32))
            ended, files = files, files.power_failure() if end is End.POWER else files.restart()
            ended.let_go()
            fault = self.chance.random()
            if fault < 0.2:
                files.stop(self.chance.randrange(30))
            elif fault < 0.3:
                files.refuse(self.chance.randrange(30), self.chance.choice((errno.ENOSPC, errno.EIO)))
            elif fault < 0.35:
                files.refuse_look(self.chance.randrange(60))
            shard = SimulatedShard(self.directory, files, self.store, self.shard.now)
            try:
                shard.open_all()
                shard.simulated.accept_everything()
                self._recovered(shard, end)
                return
            except Stopped:
                self.tally[Exercised.STOP_IN_RECOVERY] += 1
                shard.abandon()
            except OSError:
                self.tally[Exercised.REFUSAL_IN_RECOVERY] += 1
                shard.abandon()

    def _recovered(self, shard: SimulatedShard, end: End) -> None:
        self.shard = shard
        found: dict[Expected, list[list[int]]] = {}
        for vhost in shard.each_vhost():
            self._match(vhost, end, found)
        numbers = {queue: {number for level in levels for number in level} for queue, levels in found.items()}
        if end.is_sudden:
            for commit in self.commits:
                commit.check(numbers)
        self.commits = []
        self.tally[Exercised.AUDIT] += len(found)
        for queue, levels in found.items():
            # Dead letters may be told from those of nowhere only while their origin still remembers.
            if queue.buries is not None:
                queue.recovered(levels, end, shard.now, set())
        for vhost in shard.each_vhost():
            for queue in self.queues[vhost.name].values():
                if queue.buries is None:
                    graves = self.queues[vhost.name].get(queue.terms.graves)
                    queue.recovered(found[queue], end, shard.now, numbers.get(graves, set()) if graves else set())
        for vhost in shard.each_vhost():
            self.delays[vhost.name].recovered(vhost, end, shard.now)
        self._change_durability()
        shard.finish_turn()
        self.settle_accounts(written=True)

    def _change_durability(self) -> None:
        """Whoever opens a vhost to wait for the disk brings all there what it found."""
        for vhost in self.shard.each_vhost():
            is_unsynced = not vhost.awaits_disk
            places: list[Expected | Delays] = [*self.queues[vhost.name].values(), self.delays[vhost.name]]
            for place in places:
                if place.is_unsynced and not is_unsynced:
                    place.is_safe()
                place.is_unsynced = is_unsynced

    def _match(self, vhost: VHost, end: End, found: dict[Expected, list[list[int]]]) -> None:
        """Which queues are there, and whether they may be."""
        candidates = [*self.queues[vhost.name].values(), *(q for name, q in self.deleted if name == vhost.name)]
        actual = {queue.name: queue for queue in vhost.queues()}
        matched: dict[str, Expected] = {}
        for queue in candidates:
            there = actual.get(queue.name)
            is_there = there is not None and there.number == queue.number
            if is_there and (queue.is_gone or not queue.terms.is_durable):
                raise Violation(f"{queue.name} is deleted, and back after {end.value}")
            if not is_there and queue.is_declared and not queue.is_deleted and queue.terms.is_durable:
                raise Violation(f"{queue.name} is lost after {end.value}")
            if is_there and there is not None:
                matched[queue.name] = queue
                queue.may_be_damaged = queue.may_be_damaged or (queue.is_unsynced and end is End.POWER)
                if queue.may_be_damaged:
                    read_all(there)
                found[queue] = contents(there)
        actual.pop(LATE, None)
        if actual.keys() - matched.keys():
            raise Violation(f"queues from nowhere: {actual.keys() - matched.keys()}")
        for queue in matched.values():
            if queue.is_deleted:
                queue.present, queue.gone = {}, {**queue.gone, **queue.forgotten()}
                queue.is_deleted = False
            queue.is_declared = True
        self.queues[vhost.name] = matched
        self.deleted = [(name, queue) for name, queue in self.deleted if name != vhost.name]
        exchange = vhost.find_exchange(FANOUT)
        bindings = exchange.bindings() if exchange is not None else ()
        self.bound[vhost.name] = {binding.destination.name for binding in bindings}
        for queue in matched.values():
            graves = matched.get(queue.terms.graves)
            if queue.terms.graves and graves is None:
                queue.terms.graves = ""  # was to be declared before it, and cannot be missing
                raise Violation(f"{queue.name} is there and its dead letter queue is not")

    # checking ---------------------------------------------------------------------------------------------------------

    def step(self, step: Step) -> None:
        """Raises Violation, or whatever else the broker should not have raised."""
        self.chance = Random(step.dice)
        self.shard.simulated.random.seed(step.dice)
        self.operations += 1
        try:
            try:
                ACTIONS[step.action](self)
            except NothingToDo:
                self.operations -= 1
                self.tally[Exercised.NOTHING] += 1
                return
            if step.action not in ("kill", "cut_power", "restart", "switch"):
                self.check()
        except Stopped:
            self._clients_ended()
            self.end(End.STOPPED)
        except SyncFailed:
            self._clients_ended()
            self.end(self.chance.choice((End.STOPPED, End.POWER)))
            self.shard.simulated.sync_fault = None

    def _clients_ended(self) -> None:
        for client in self.clients:
            client.ended()

    def check(self) -> None:
        self.shard.finish_turn()
        if self.shard.is_unreadable:
            self.shard.advance(UNREADABLE_RETRY_MS + APPOINTMENT_MS)
            self.shard.is_unreadable = False
        # What those had who are gone may be others' by now.
        for client in sorted(self.clients, key=lambda client: not client.is_dropped):
            client.hear()
        self.clients = [client for client in self.clients if not client.is_closed]
        self.settle_accounts(written=not self.shard.is_blocked)
        self._check_limits()

    def settle_accounts(self, *, written: bool) -> None:
        for vhost in self.shard.each_vhost():
            expected = self.queues[vhost.name]
            for queue in expected.values():
                actual = vhost.queue(queue.name)
                if queue.terms.drops:
                    for copy in queue.account_for(contents(actual), self.shard.now):
                        if queue.terms.graves:
                            queue.gone[copy.number].is_buried = True
                            self._bury(vhost.name, queue, copy)
            for queue in expected.values():
                actual = vhost.queue(queue.name)
                queue.check(actual.ready_count, actual.unacknowledged_count, written=written and not self.shard.is_slow)
                if written:
                    queue.turn_written(synced=not self.shard.is_slow)
            self.delays[vhost.name].account_for(vhost, self.shard.now)
            if written:
                self.delays[vhost.name].turn_written()
        if written:
            self.commits = [commit for commit in self.commits if any(c.commit is commit for c in self.clients)]

    def _check_limits(self) -> None:
        names = self.shard.simulated.names()
        for journal in self._journals:
            files = sum(path.startswith(journal) for path in names)
            if files > JOURNAL_FILES_MAX + JOURNAL_SPARE_FILES_MAX + 1 and not self.shard.is_blocked:
                raise Violation(f"{files} files of a journal")
        if self.shard.is_blocked:
            return
        for vhost in self.shard.each_vhost():
            for queue in vhost.queues():
                for level in queue.store.levels() if queue.store is not None else ():
                    if len(level.tail.records) > TAIL_BYTES_KEPT_MAX:
                        raise Violation(f"{queue.name}: {len(level.tail.records)} bytes unwritten")

    def finish(self) -> None:
        """When everything was taken and settled nothing is left, neither in memory nor on disk."""
        self.shard.simulated.accept_everything()
        self.store = STORE
        self.restart()
        self.shard.advance(DELAY_MS_MAX)
        for vhost in self.shard.each_vhost():
            self.delays[vhost.name].all_are_due(vhost, self.shard.now)
            self.delays[vhost.name].forget()
            client = RandomClient(self.shard, vhost, Mode.PLAIN)
            client.wire.ask(commands.Queue.Delete(queue=LATE))
            client.wire.ask(commands.Exchange.Delete(exchange=LATER))
            for queue in list(self.queues[vhost.name].values()):
                for copy in queue.ready():
                    queue.leave(copy.number)
                client.wire.say(commands.Queue.Purge(queue=queue.name))
                client.hear()
                client.delete(queue)
                client.hear()
                del self.queues[vhost.name][queue.name]
            client.hang_up()
        self.shard.finish_turn()
        self._check_memory()
        turn = self.shard.turn
        left = [
            turn.unflushed,
            turn.journals,
            turn.checkpoints,
            turn._waiting,
            turn.blocked,
            turn.awake,
            turn.confirming,
        ]
        if any(left) or turn.departures:
            raise Violation(f"left in the turn: {left}")
        self.shard.end_in_order()
        # What a power failure has torn looks like damage, where it was promised to nobody and so is in no journal.
        kept = (DAMAGED_SUFFIX, "/segments")  # and the registers, which say that there is nothing
        left_over = [path for path in self.shard.simulated.names() if not path.endswith(kept)]
        if left_over:
            raise Violation(f"left on disk: {left_over}")

    def _held(self) -> Account:
        """What is left after a pass of a shard with nothing in it."""
        self.shard.finish_turn()
        SlicedPass(cascade(self.shard.vhosts, Level.CRITICAL, CLOSE), 0, Tally()).finish()
        account = Account(top=0)
        for _ in account.take(self.shard.vhosts):
            pass
        return account

    def _check_memory(self) -> None:
        held, fresh = self._held(), self._fresh
        if held.owners != fresh.owners:
            raise Violation(f"{held.owners} owners of memory where there were {fresh.owners} at first")
        for kind, size_bytes in held.by_kind.items():
            if size_bytes > fresh.by_kind.get(kind, 0) + MEMORY_SLACK_BYTES:
                raise Violation(f"{size_bytes} bytes of {kind} where there were {fresh.by_kind.get(kind, 0)} at first")

    def close(self) -> None:
        self.shard.simulated.let_go()
        try:
            self.shard.abandon()
        except sqlite3.ProgrammingError:
            pass
        shutil.rmtree(self.directory, ignore_errors=True)


_WEIGHTS: Final[dict[str, float]] = {
    "connect": 25,
    "disconnect": 3,
    "declare": 10,
    "delete": 1,
    "purge": 1,
    "publish": 40,
    "delay": 6,
    "declare_choosy": 2,
    "repeat": 5,
    "commit": 8,
    "rollback": 1,
    "consume": 15,
    "cancel": 2,
    "get": 12,
    "settle": 30,
    "advance": 12,
    "compact": 3,
    "slow_down": 2,
    "catch_up": 3,
    "proceed": 3,
    "refuse": 2,
    "fill_up": 1,
    "starve": 1,
    "blind": 0.5,
    "accept": 4,
    "retry": 3,
    "fail_sync": 0.3,
    "stop_soon": 2,
    "kill": 1,
    "cut_power": 1,
    "restart": 0.7,
    "switch": 0.6,
}
ACTIONS: Final[dict[str, Callable[[Run], None]]] = {name: getattr(Run, name) for name in _WEIGHTS}
STEPS: Final = 300
START: Final = ("connect", "declare", "connect", "declare", "connect", "declare")


def steps_of(seed: int, count: int = STEPS) -> list[Step]:
    chance = Random(seed)
    actions = [*START, *chance.choices(list(_WEIGHTS), list(_WEIGHTS.values()), k=count - len(START))]
    return [Step(action, chance.randrange(2**32)) for action in actions]


def carry_out(seed: int, steps: Sequence[Step]) -> Run:
    """Do all steps and end. Raises whatever was wrong; the run tells how far it came."""
    run = Run(seed)
    try:
        for step in steps:
            run.step(step)
        run.finish()
    finally:
        run.close()
    return run
