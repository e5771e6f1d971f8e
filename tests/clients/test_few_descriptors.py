"""No descriptors left: new clients wait or are turned away, those who are here go on, and it passes."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import psutil
import pytest
from pamqp import commands

from tests.clients.one_speed import at_one_speed
from tests.clients.raw_client import ClosedByBroker, RawClient, publish
from tests.clients.running_broker import RunningBroker
from tests.clients.waiting import eventually

pytestmark = at_one_speed

StartBroker = Callable[..., RunningBroker]

_SPARE = 6  # descriptors a process may still open


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBroker]:
    """One shard; publishers that wait for descriptors need not wait long to try again."""
    broker = RunningBroker(
        tmp_path_factory.mktemp("few"), shards=1, arguments=["--set", "store.retry_seconds=0.1"]
    ).start()
    yield broker
    try:
        assert broker.stop() == 0
        broker.assert_no_traceback()
    finally:
        broker.end_by_force()


class few_descriptors:  # noqa: N801 - reads as what it is in a `with`
    """Leaves a process `_SPARE` descriptors beyond those it has."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)

    def __enter__(self) -> None:
        self._limits = self._process.rlimit(psutil.RLIMIT_NOFILE)
        self._process.rlimit(psutil.RLIMIT_NOFILE, (self._process.num_fds() + _SPARE, self._limits[1]))

    def __exit__(self, *_: object) -> None:
        self._process.rlimit(psutil.RLIMIT_NOFILE, self._limits)


def is_served(client: RawClient) -> bool:
    client.call(commands.Basic.Qos(), commands.Basic.QosOk)
    return True


def can_come(broker: RunningBroker) -> bool:
    try:
        with RawClient(broker.port, seconds=3) as client:
            client.open().open_channel()
    except (ClosedByBroker, OSError):
        return False
    return True


def test_a_supervisor_without_descriptors_accepts_nobody_for_a_while(broker: RunningBroker) -> None:
    start = len(broker.log)
    with RawClient(broker.port) as here, few_descriptors(broker.ready.supervisor), ExitStack() as silent:
        here.open().open_channel()
        for _ in range(2 * _SPARE):
            silent.enter_context(socket.create_connection(("127.0.0.1", broker.port)))
        broker.await_log("cannot accept connections", after=start)

        assert is_served(here)
        silent.close()
        eventually(lambda: can_come(broker), "a client let in when descriptors are free again", seconds=30)
        assert is_served(here)
    assert broker.log.count("cannot accept connections", start) < 5


def test_a_shard_without_descriptors_turns_clients_away_and_keeps_those_it_has(broker: RunningBroker) -> None:
    (shard,) = broker.ready.shards.values()
    with RawClient(broker.port) as here, ExitStack() as others:
        here.open().open_channel().declare("jobs", durable=True)
        here.call(commands.Confirm.Select(), commands.Confirm.SelectOk)
        with few_descriptors(shard):
            let_in = 0
            for _ in range(3 * _SPARE):
                client = others.enter_context(RawClient(broker.port))
                try:
                    client.open()
                except (ClosedByBroker, OSError):
                    break
                let_in += 1
            assert 0 < let_in <= _SPARE

            assert is_served(here)
            here.send_bytes(publish("jobs", b"as soon as there is a file for it", persistent=True))
            others.close()
            acknowledged = here.expect(commands.Basic.Ack, 1)
            assert acknowledged.delivery_tag == 1
            eventually(lambda: can_come(broker), "a client let in when descriptors are free again")
        here.call(commands.Basic.Get(queue="jobs", no_ack=True), commands.Basic.GetOk)
        assert here.expect_content() == b"as soon as there is a file for it"
