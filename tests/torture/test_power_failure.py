"""What kill -9 cannot show: the machine loses power, and of what was not synced the disk keeps some and forgets some.

The same ledger, queues and targets as in the torture, on the core and a simulated disk, so that one seed is one history
and a thousand of them take seconds. An acknowledgement is not waited for and may be forgotten; a confirm may not.
"""

import os
from pathlib import Path
from random import Random
from typing import Final

import pytest
from pamqp import commands

from ipc.settings import StoreSettings
from tests.protocols.conversation import Content, World
from tests.simulation.simulated_files import SimulatedFiles
from tests.torture.ledger import Ledger, Mark, body_of
from tests.torture.queues import BINDINGS, BOUNDED, CERTAIN, DYING, GRAVES, QUEUES, Target

SMALL_FILES: Final = StoreSettings(segment_bytes_max=64 * 1024)
FIRST, END = (int(bound) for bound in os.environ.get("EBBMQ_SEEDS", "0:10").split(":"))
_STEPS: Final = 60
_TO_GET: Final = [queue for queue in QUEUES if queue not in (GRAVES, BOUNDED)]


class History:
    """One publisher and one consumer, until the power fails."""

    def __init__(self, home: Path, seed: int) -> None:
        self._home = home
        self._random = Random(seed)
        self.files = SimulatedFiles(seed)
        self.ledger = Ledger()
        self._number = 0
        self._open()
        for queue, arguments in QUEUES.items():
            self._client.declare(queue, durable=True, arguments=dict(arguments))
        for exchange, queue, key in BINDINGS:
            self._client.bind(exchange, queue, key)

    def _open(self) -> None:
        self._world = World(self._home, files=self.files, store=SMALL_FILES)
        self._client = self._world.client().open()
        self._client.ask(commands.Confirm.Select())
        self._consumer = self._world.client().open()
        self._unconfirmed: dict[int, tuple[Target, Mark]] = {}
        self._tag = 0

    def live(self) -> None:
        self._world.syncs_by_itself = False
        for _ in range(self._random.randrange(1, _STEPS)):
            self._random.choice((self._publish, self._publish, self._take, self._sync, self._world.finish_turn))()
            self._hear()

    def fail(self) -> None:
        """The power may fail again while the shard recovers: what it found must still be there."""
        for _ in range(self._random.choice((1, 1, 2))):
            self.files = self.files.power_failure()
            self._open()

    def audit(self) -> None:
        self.ledger.audit({queue: self._content(queue) for queue in QUEUES})
        assert not self.ledger.faults, "\n".join(self.ledger.faults)

    def _publish(self) -> None:
        target = self._random.choice(CERTAIN)
        for _ in range(self._random.choice((1, 1, 8))):
            self._number += 1
            self._tag += 1
            mark = Mark(1, self._number, 0)
            self.ledger.published(target.queues, mark)
            self._unconfirmed[self._tag] = (target, mark)
            self._client.publish(
                target.exchange,
                target.routing_key,
                body_of(mark, self._random.choice((0, 100, 20_000))),
                properties=commands.Basic.Properties(delivery_mode=2),
            )

    def _take(self) -> None:
        queue = self._random.choice(_TO_GET)
        got = self._consumer.ask(commands.Basic.Get(queue=queue))
        if not isinstance(got, Content):
            return
        mark = self.ledger.delivered(queue, got.body, self)
        assert mark is not None, self.ledger.faults
        tag = got.method.delivery_tag
        match self._random.randrange(4):
            case 0:
                self.ledger.returned(queue, mark)
                self._consumer.nack(tag)
            case 1:
                self.ledger.rejected(queue, mark)
                self._consumer.nack(tag, requeue=False)
            case _:
                self.ledger.leaving(queue, mark)
                self._consumer.ack(tag)

    def _sync(self) -> None:
        if self._world.turn.round_wanted:
            self._world.sync()
            self._world.finish_turn()

    def _hear(self) -> None:
        for reply in self._client.replies():
            if isinstance(reply, commands.Basic.Ack):
                through = [tag for tag in self._unconfirmed if tag <= (reply.delivery_tag or 0)]
                for tag in through if reply.multiple else through[-1:]:
                    target, mark = self._unconfirmed.pop(tag)
                    self.ledger.confirmed(target.queues, mark)

    def _content(self, queue: str) -> list[bytes]:
        bodies = self._consumer.drain(queue)
        self._world.finish_turn()
        return bodies


@pytest.mark.parametrize("seed", range(FIRST, END))
def test_nothing_confirmed_is_lost_with_the_power(tmp_path: Path, seed: int) -> None:
    history = History(tmp_path, seed)
    history.live()
    history.fail()
    history.audit()


def test_a_dead_letter_is_in_one_of_two_places_when_the_power_fails(tmp_path: Path) -> None:
    """Confirmed, then rejected: the disk owes nobody an order, so the copy must be safe before its original goes."""
    lost = [seed for seed in range(20) if not _survives_rejection(tmp_path / str(seed), seed)]
    assert lost == []


def _survives_rejection(home: Path, seed: int) -> bool:
    home.mkdir()
    files = SimulatedFiles(seed)
    world = World(home, files=files, store=SMALL_FILES)
    client = world.client().open()
    for queue in (GRAVES, DYING):
        client.declare(queue, durable=True, arguments=dict(QUEUES[queue]))
    client.ask(commands.Confirm.Select())
    client.publish("", DYING, b"confirmed", persistent=True)
    assert isinstance(client.replies()[0], commands.Basic.Ack)
    world.syncs_by_itself = False

    got = client.ask(commands.Basic.Get(queue=DYING))
    client.nack(got.method.delivery_tag, requeue=False)
    world.finish_turn()

    survivor = World(home, files=files.power_failure(), store=SMALL_FILES).client().open()
    return b"confirmed" in (*survivor.drain(DYING), *survivor.drain(GRAVES))
