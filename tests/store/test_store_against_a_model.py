"""A store under seeded traffic, beside a list that says what must be true of it."""

from array import array
from random import Random

import pytest

from ipc.limits import KIB
from ipc.messages.commands import Level
from ipc.settings import StoreSettings
from shards.compaction.cascade import cascade
from shards.compaction.compactable import Offload, ShrinkPolicy
from shards.store.message_store import MessageStore
from shards.store.recovery import RecoveryReport
from tests.simulation.simulated_files import SimulatedFiles
from tests.store.messages import body_at, record, take

SETTINGS = StoreSettings(segment_bytes_max=64 * KIB)
QUEUE = "/data/queues/1"
POLICY = ShrinkPolicy(ratio=1.0, floor_bytes=0, release_bytes_max=1 << 30, cold_before=1 << 40)


class World:
    """The store, and beside it: `ready` in order, `held` by somebody; each message by its number."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.files = SimulatedFiles(seed)
        self.store = MessageStore(self.files, QUEUE, SETTINGS, durable=True)
        self.bodies: list[bytes] = []
        self.ready: list[int] = []
        self.requeued: set[int] = set()
        self.held: dict[int, int] = {}  # number → position
        self.gone_at_start: set[int] = set()

    def append(self) -> None:
        for _ in range(self.random.randrange(1, 30)):
            number = len(self.bodies)
            self.bodies.append(b"%d:" % number + bytes(self.random.choice((0, 50, 3000))))
            encoded = record(self.bodies[number])
            if self.random.random() < 0.05:
                self.store.append_large([encoded[:30], encoded[30:]], len(encoded))
            else:
                self.store.append(encoded)
            self.ready.append(number)

    def take(self) -> None:
        taken = take(self.store, self.random.randrange(1, 40))
        expected, self.ready = self.ready[: len(taken)], self.ready[len(taken) :]
        assert [body for _, body in taken] == [self.bodies[number] for number in expected]
        self.requeued.difference_update(expected)
        self.held.update(zip(expected, (position for position, _ in taken), strict=True))

    def settle_some(self) -> None:
        chosen = [number for number in self.held if self.random.random() < 0.4]
        self.random.shuffle(chosen)
        if self.random.random() < 0.5:
            self.store.settle_many(array("Q", [self.held.pop(number) for number in chosen]))
        else:
            for number in chosen:
                self.store.settle(self.held.pop(number))

    def settle_run(self) -> None:
        """The longest run of neighbours that are all held, which is what `multiple` acknowledges."""
        runs: list[list[int]] = [[]]
        for number in sorted(self.held):
            if runs[-1] and not self.neighbours(runs[-1][-1], number):
                runs.append([])
            runs[-1].append(number)
        run = max(runs, key=len)
        if run:
            self.store.settle_run(self.held[run[0]], self.held[run[-1]], len(run))
            for number in run:
                del self.held[number]

    def neighbours(self, one: int, other: int) -> bool:
        """In read order, which leaves out what the last start found settled."""
        return all(between in self.gone_at_start for between in range(one + 1, other))

    def requeue(self) -> None:
        chosen = [number for number in self.held if self.random.random() < 0.2]
        self.random.shuffle(chosen)
        for number in chosen:
            self.store.requeue(self.held.pop(number))
        self.requeued.update(chosen)
        self.ready = sorted([*self.ready, *chosen])

    def purge(self) -> None:
        if self.random.random() < 0.2:
            assert self.store.purge() == len(self.ready)
            self.ready = []
            self.requeued.clear()

    def flush(self) -> None:
        self.store.flush()
        assert not self.store.dirty

    def refused_flush(self) -> None:
        self.files.refuse(0)
        try:
            self.store.flush()
        except OSError:
            assert self.store.dirty
        self.files.accept_everything()

    def compact(self) -> None:
        for _, step in cascade(self.store, self.random.choice(list(Level)), POLICY):
            if isinstance(step, Offload):
                step.work()
                if self.random.random() < 0.3:
                    self.random.choice((self.append, self.take, self.settle_some, self.flush))()

    def restart(self) -> None:
        if self.random.random() < 0.5:
            self.store.close()
        else:
            self.store.flush()
        self.files = self.files.restart()
        report = RecoveryReport()
        store = MessageStore.recover(self.files, QUEUE, SETTINGS, report)
        self.ready = sorted([*self.ready, *self.held])
        self.held.clear()
        self.requeued.clear()
        self.gone_at_start = set(range(len(self.bodies))) - set(self.ready)
        assert report.messages == len(self.ready)
        assert report.is_clean
        assert (store is None) == (not self.ready)
        self.store = store or MessageStore(self.files, QUEUE, SETTINGS, durable=True)

    def check(self) -> None:
        store = self.store
        assert store.ready_count == len(self.ready)
        assert store.ready_bytes == sum(len(self.bodies[number]) for number in self.ready)
        assert store.unacknowledged_count == len(self.held)
        for number, position in self.held.items():
            assert body_at(store, position) == self.bodies[number]
        span = store.next_span()
        assert (span is None) == (not self.ready)
        assert span is None or span.redelivered == (self.ready[0] in self.requeued)

    def finish(self) -> None:
        """Once everything is settled nothing may be left, neither in memory nor on disk."""
        self.take_all()
        self.store.settle_many(array("Q", self.held.values()))
        self.held.clear()
        self.check()
        self.store.close()
        assert self.files.names() == []

    def take_all(self) -> None:
        while self.ready:
            self.take()


@pytest.mark.parametrize("seed", range(60))
def test_a_store_does_what_the_model_says(seed: int) -> None:
    world = World(seed)
    actions = [world.append, world.take, world.settle_some, world.settle_run, world.requeue, world.purge]
    actions += [world.flush, world.flush, world.refused_flush, world.compact, world.append, world.take]
    for turn in range(120):
        world.random.choice(actions)()
        if turn % 40 == 39:
            world.restart()
        world.check()
    world.finish()
