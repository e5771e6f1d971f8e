"""No memory left in a shard: clients are closed or the shard begins again, nothing confirmed is lost, others go on."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from random import Random
from typing import Any, Final

import psutil
import pytest

from ipc.limits import KIB, MIB
from tests.clients.one_speed import at_one_speed
from tests.clients.running_broker import RunningBroker, is_alive
from tests.clients.test_sudden_death import CONNECTION_LOST, PERSISTENT, connect, get_all, reconnect
from tests.clients.waiting import eventually

pytestmark = at_one_speed

StartBroker = Callable[..., RunningBroker]

_PUBLISHES_MAX: Final = 3000
_FAILURES_WANTED: Final = 5


class little_memory:  # noqa: N801 - reads as what it is in a `with`
    """Lets a process map only so many bytes beyond those it has."""

    def __init__(self, pid: int, spare_bytes: int) -> None:
        self._process = psutil.Process(pid)
        self._spare_bytes = spare_bytes

    def __enter__(self) -> None:
        self._limits = self._process.rlimit(psutil.RLIMIT_AS)
        self._process.rlimit(psutil.RLIMIT_AS, (self._process.memory_info().vms + self._spare_bytes, self._limits[1]))

    def __exit__(self, *_: object) -> None:
        with suppress(psutil.NoSuchProcess):
            self._process.rlimit(psutil.RLIMIT_AS, self._limits)


class Numbers:
    """Publishes numbers with confirms and connects again when it was closed; holds what it is given, if it asks."""

    def __init__(self, broker: RunningBroker, *, consumes: bool) -> None:
        self.confirmed: list[int] = []
        self.failures = 0
        self._broker = broker
        self._consumes = consumes
        self._number = 0
        self._connect()

    def _connect(self) -> None:
        self._connection = reconnect(self._broker, "one")
        self._channel: Any = self._connection.channel()
        self._channel.queue_declare("jobs", durable=True)
        self._channel.confirm_delivery()
        if self._consumes:
            self._channel.basic_qos(prefetch_count=50)
            self._channel.basic_consume("jobs", lambda *_: None)

    def publish(self, padding: int) -> None:
        self._number += 1
        body = b"%d" % self._number + b" " * padding
        try:
            self._channel.basic_publish("", "jobs", body, PERSISTENT)
            self.confirmed.append(self._number)
        except CONNECTION_LOST:
            self.failures += 1
            with suppress(*CONNECTION_LOST):
                self._connect()

    def leave(self) -> None:
        with suppress(*CONNECTION_LOST):
            self._connection.close()


@pytest.fixture
def broker(new_broker: StartBroker) -> Iterator[RunningBroker]:
    broker = new_broker()
    broker.add_vhost("zero", shard=0)
    broker.add_vhost("one", shard=1)
    yield broker.start()
    assert broker.stop() == 0


@pytest.mark.parametrize("consumes", [False, True], ids=["publishing", "and consuming"])
@pytest.mark.parametrize("spare_bytes", [256 * KIB, 2 * MIB], ids=["none", "little"])
def test_what_was_confirmed_is_there_after_memory_has_run_out(
    broker: RunningBroker, spare_bytes: int, consumes: bool
) -> None:
    neighbour = connect(broker, "zero")
    shard = broker.ready.shards[1]
    client = Numbers(broker, consumes=consumes)
    dice = Random(spare_bytes + consumes)
    for _ in range(20):
        client.publish(0)

    with little_memory(shard, spare_bytes):
        for _ in range(_PUBLISHES_MAX):
            client.publish(dice.choice((0, 100, 50 * KIB, MIB, 4 * MIB)))
            if client.failures >= _FAILURES_WANTED or not is_alive(shard):
                break

    assert client.failures
    client.leave()
    channel = reconnect(broker, "one").channel()
    found = eventually(lambda: _all_of(channel, client.confirmed), "what was confirmed", seconds=10)
    assert found == sorted(found)
    assert neighbour.channel().queue_declare("jobs").method.message_count == 0
    neighbour.close()


def _all_of(channel: Any, confirmed: list[int]) -> list[int] | None:
    """What is in the queue, when nothing that was confirmed is missing or held by a client whose end is not noticed."""
    if channel.queue_declare("jobs", passive=True).method.message_count < len(confirmed):
        return None
    found = get_all(channel, "jobs")
    assert set(confirmed) <= set(found)
    return found
