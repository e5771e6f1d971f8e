"""A pass over a store cannot get between the halves of a file operation: a step of it fits between any two of them."""

import random
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipc.limits import KIB
from ipc.messages.commands import Level
from ipc.settings import StoreSettings
from shards.compaction.cascade import cascade
from shards.compaction.compactable import Offload, ShrinkPolicy, Step
from shards.store.files import DiskFiles
from shards.store.message_store import MessageStore
from shards.store.recovery import RecoveryReport
from tests.simulation.simulated_files import SimulatedFiles
from tests.store.messages import record, take

SETTINGS = StoreSettings(segment_bytes_max=64 * KIB)
OPERATIONS = 250
STEPS_MAX = 3


class Passes:
    """Passes over one store, a few steps at a time; what is to run in a thread may run much later, or at once."""

    def __init__(self, store: MessageStore, dice: random.Random) -> None:
        self._store = store
        self._dice = dice
        self._now = 1_000_000
        self._steps: Iterator[Step] = iter(())
        self._owed: Offload | None = None
        self.offloads = 0

    def step(self) -> None:
        if self._owed is not None:
            if self._dice.random() < 0.5:
                return  # the thread is still at it, and the store is used meanwhile
            self._owed.work()
            self._owed = None
        step = next(self._steps, None)
        if step is None:
            self._now += 70_000
            policy = ShrinkPolicy(
                ratio=1.0, floor_bytes=0, release_bytes_max=1 << 40, cold_before=self._now, now=self._now
            )
            self._steps = (step for _, step in cascade(self._store, self._dice.choice(list(Level)), policy))
        elif isinstance(step, Offload):
            self.offloads += 1
            self._owed = step


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("is_simulated", [True, False])
def test_steps_of_passes_between_any_two_operations_lose_and_invent_nothing(
    seed: int, is_simulated: bool, tmp_path: Path
) -> None:
    """Appends, flushes, reads, requeues, settlements, seals, unlinks, purges, against a list of what must be there."""
    dice = random.Random(seed)
    files = SimulatedFiles() if is_simulated else DiskFiles(descriptors_open_max=64)
    directory = str(tmp_path / "1")
    store = MessageStore(files, directory, SETTINGS, durable=True)
    passes = Passes(store, dice)
    ready: list[bytes] = []
    taken: list[tuple[int, bytes]] = []
    number = 0
    for _ in range(OPERATIONS):
        for _ in range(dice.randrange(STEPS_MAX + 1)):
            passes.step()
        match dice.choice(["append", "append", "flush", "take", "settle", "requeue", "large", "purge"]):
            case "append":
                for _ in range(dice.randrange(1, 12)):
                    ready.append(b"%08d" % number + bytes(dice.randrange(4000)))
                    store.append(record(ready[-1], timestamp=1))
                    number += 1
            case "large":
                ready.append(b"%08d" % number + bytes(40_000))
                whole = record(ready[-1], timestamp=1)
                store.append_large([whole], len(whole))
                number += 1
            case "flush":
                store.flush()
            case "take":
                got = take(store, dice.randrange(1, 20))
                assert [body for _, body in got] == ready[: len(got)]
                del ready[: len(got)]
                taken += got
            case "settle":
                dice.shuffle(taken)
                done, taken = taken[: len(taken) // 2], taken[len(taken) // 2 :]
                store.settle_many(array("Q", [position for position, _ in done]))
            case "requeue" if taken:
                position, body = max(taken)
                taken.remove((position, body))
                store.requeue(position)
                ready = sorted([*ready, body])
            case "purge" if dice.random() < 0.1:
                assert store.purge() == len(ready)
                ready = []
        assert store.ready_count == len(ready)

    assert passes.offloads > 0
    for position, _body in taken:
        store.requeue(position)
    store.flush()
    store.close()
    again = MessageStore.recover(files, directory, SETTINGS, RecoveryReport())
    bodies = [body for _, body in take(again)] if again is not None else []
    assert bodies == sorted([*ready, *(body for _, body in taken)])
