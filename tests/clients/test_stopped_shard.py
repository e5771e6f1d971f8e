"""A shard that is stopped rather than dead: it is named, waited for, and costs its siblings' clients nothing."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from pamqp import commands

from tests.clients.one_speed import at_one_speed
from tests.clients.raw_client import RawClient, publish
from tests.clients.running_broker import RunningBroker, is_alive
from tests.clients.waiting import eventually

pytestmark = at_one_speed

StartBroker = Callable[..., RunningBroker]

_NEIGHBOUR_SECONDS = 0.5  # of round trips beside a stopped shard
_ROUND_TRIP_SECONDS_MAX = 1.0  # generous: the machine may be busy with other tests


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            pass  # it was given up


def prepare(broker: RunningBroker) -> RunningBroker:
    """Vhost `zero` on shard 0, vhost `one` on shard 1."""
    broker.add_vhost("zero", shard=0)
    broker.add_vhost("one", shard=1)
    return broker.start()


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBroker]:
    """Names a silent shard soon, and waits for it."""
    broker = RunningBroker(tmp_path_factory.mktemp("patient"), arguments=["--set", "main.shard_silent_seconds=0.3"])
    try:
        yield prepare(broker)
        assert broker.stop() == 0
        broker.assert_no_traceback()
    finally:
        broker.end_by_force()


def round_trip(client: RawClient, queue: str) -> float:
    began = time.monotonic()
    client.send_bytes(publish(queue, b"there and back"))
    client.call(commands.Basic.Get(queue=queue, no_ack=True), commands.Basic.GetOk)
    assert client.expect_content() == b"there and back"
    return time.monotonic() - began


def test_a_stopped_shard_is_named_and_its_neighbours_clients_notice_nothing(patient: RunningBroker) -> None:
    shard, start = patient.ready.shards[1], len(patient.log)
    with RawClient(patient.port) as victim, RawClient(patient.port) as neighbour:
        victim.open(vhost="one").open_channel().declare("jobs", durable=True)
        neighbour.open(vhost="zero").open_channel().declare("jobs")

        with stopped(shard):
            line = patient.await_log("shard does not answer", after=start)
            longest = max(round_trip(neighbour, "jobs") for _ in iter_seconds(_NEIGHBOUR_SECONDS))
            with RawClient(patient.port) as late:
                late.open(vhost="zero").open_channel()

        assert "shard=1" in line and str(shard) in line
        assert longest < _ROUND_TRIP_SECONDS_MAX
        patient.await_log("shard answers again", after=start)
        round_trip(victim, "jobs")
    assert is_alive(shard)


def test_what_was_said_to_a_stopped_shard_is_done_when_it_goes_on(patient: RunningBroker) -> None:
    start = len(patient.log)
    with RawClient(patient.port) as client, RawClient(patient.port) as late:
        client.open(vhost="one").open_channel().declare("jobs", durable=True)
        with stopped(patient.ready.shards[1]):
            client.send_bytes(publish("jobs", b"while nobody listened", persistent=True))
            late.start()
            late.tune()
            late.send(commands.Connection.Open(virtual_host="one"))
            patient.await_log("shard does not answer", after=start)
        late.expect(commands.Connection.OpenOk)
        late.open_channel()
        late.call(commands.Basic.Get(queue="jobs", no_ack=True), commands.Basic.GetOk)
        assert late.expect_content() == b"while nobody listened"


def test_a_shard_that_stays_silent_is_replaced_with_all_it_had_confirmed(new_broker: StartBroker) -> None:
    settings = ("main.shard_silent_seconds=0.5", "main.shard_silent_seconds_max=3")
    broker = new_broker(shards=1, arguments=[word for setting in settings for word in ("--set", setting)]).start()
    (shard,) = broker.ready.shards.values()
    with RawClient(broker.port) as client:
        client.open().open_channel().declare("jobs", durable=True)
        client.call(commands.Confirm.Select(), commands.Confirm.SelectOk)
        client.send_bytes(publish("jobs", b"safe", persistent=True))
        client.expect(commands.Basic.Ack, 1)

        with stopped(shard):
            broker.await_log("shard does not answer and is killed")
            eventually(lambda: not is_alive(shard), "the end of the silent shard")
            # A process is a zombie while threads of it still hold its sockets: who came then would go with them.
            broker.await_log("shard ended")

    with RawClient(broker.port) as client:
        client.open().open_channel()
        client.call(commands.Basic.Get(queue="jobs", no_ack=True), commands.Basic.GetOk)
        assert client.expect_content() == b"safe"


def iter_seconds(seconds: float) -> Iterator[None]:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        yield
