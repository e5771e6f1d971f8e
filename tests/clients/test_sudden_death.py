"""kill -9 of anything under traffic: what was confirmed is there again, in order, and the neighbours notice nothing."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pika
import pika.exceptions
import psutil
import pytest

from ipc.errors import ExitCode
from tests.clients.running_broker import RunningBroker, is_alive
from tests.clients.waiting import eventually

StartBroker = Callable[..., RunningBroker]

PERSISTENT = pika.BasicProperties(delivery_mode=2)
CONNECTION_LOST = (
    pika.exceptions.ConnectionClosed,
    pika.exceptions.StreamLostError,
    pika.exceptions.ConnectionWrongStateError,
    pika.exceptions.ChannelWrongStateError,
    pika.exceptions.AMQPConnectionError,
    ConnectionError,
)


@pytest.fixture
def two_vhosts(new_broker: StartBroker) -> RunningBroker:
    """Vhost `zero` on shard 0, vhost `one` on shard 1."""
    broker = new_broker()
    broker.add_vhost("zero", shard=0)
    broker.add_vhost("one", shard=1)
    return broker.start()


def connect(broker: RunningBroker, vhost: str = "/") -> Any:
    return pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", broker.port, vhost))


def reconnect(broker: RunningBroker, vhost: str = "/") -> Any:
    def attempt() -> Any:
        try:
            return connect(broker, vhost)
        except CONNECTION_LOST:
            return None

    return eventually(attempt, f"a connection to {vhost!r} after the crash", seconds=20)


def get_all(channel: Any, queue: str) -> list[int]:
    numbers: list[int] = []
    while True:
        method, _, body = channel.basic_get(queue, auto_ack=True)
        if method is None:
            return numbers
        numbers.append(int(body))


class Traffic:
    """A thread that publishes numbers with confirms until told to stop or cut off, and acknowledges none."""

    def __init__(self, broker: RunningBroker, vhost: str, queue: str) -> None:
        self.confirmed = -1  # the last number the broker confirmed
        self.cut_off: Exception | None = None
        self._connection = connect(broker, vhost)
        self._channel = self._connection.channel()
        self._channel.queue_declare(queue, durable=True)
        self._channel.confirm_delivery()
        self._queue = queue
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        number = 0
        while not self._stopping.is_set():
            try:
                self._channel.basic_publish("", self._queue, b"%d" % number, PERSISTENT)
            except CONNECTION_LOST as lost:
                self.cut_off = lost
                return
            self.confirmed = number
            number += 1

    def await_confirmed(self, count: int) -> None:
        eventually(lambda: self.confirmed >= count, f"{count} confirms ({self.cut_off!r})", seconds=20)

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(20)
        assert not self._thread.is_alive()

    def await_cut_off(self) -> None:
        self._thread.join(20)
        assert not self._thread.is_alive()
        assert self.cut_off is not None


@pytest.fixture
def traffic() -> Iterator[Callable[[RunningBroker, str, str], Traffic]]:
    running: list[Traffic] = []

    def start(broker: RunningBroker, vhost: str, queue: str) -> Traffic:
        running.append(Traffic(broker, vhost, queue))
        return running[-1]

    yield start
    for one in running:
        one.stop()


StartTraffic = Callable[[RunningBroker, str, str], Traffic]


def test_a_killed_shard_comes_back_with_every_confirmed_message_in_order(
    two_vhosts: RunningBroker, traffic: StartTraffic
) -> None:
    hit, spared = traffic(two_vhosts, "one", "jobs"), traffic(two_vhosts, "zero", "jobs")
    hit.await_confirmed(200)
    spared.await_confirmed(1)

    os.kill(two_vhosts.ready.shards[1], signal.SIGKILL)

    hit.await_cut_off()
    channel = reconnect(two_vhosts, "one").channel()
    numbers = get_all(channel, "jobs")
    assert numbers[: hit.confirmed + 1] == list(range(hit.confirmed + 1))
    # One more may have been stored without its confirm having been heard; nothing is invented beyond that.
    assert len(numbers) <= hit.confirmed + 2
    assert is_alive(two_vhosts.ready.shards[0])
    assert spared.cut_off is None
    spared.await_confirmed(spared.confirmed + 50)


def test_acknowledged_messages_stay_gone_after_a_crash(two_vhosts: RunningBroker) -> None:
    connection = connect(two_vhosts, "one")
    channel = connection.channel()
    channel.confirm_delivery()
    channel.queue_declare("jobs", durable=True)
    for number in range(20):
        channel.basic_publish("", "jobs", b"%d" % number, PERSISTENT)
    tags = [channel.basic_get("jobs")[0].delivery_tag for _ in range(20)]
    for tag in tags[0:10:2]:
        channel.basic_ack(tag)
    # Acknowledgements have no answer: once a later request is answered, they were taken in before it.
    channel.queue_declare("jobs", passive=True)

    os.kill(two_vhosts.ready.shards[1], signal.SIGKILL)

    numbers = get_all(reconnect(two_vhosts, "one").channel(), "jobs")
    assert numbers == [1, 3, 5, 7, 9, *range(10, 20)]


def test_messages_that_wait_at_an_exchange_survive_a_crash_and_come_when_they_are_due(
    two_vhosts: RunningBroker,
) -> None:
    channel = connect(two_vhosts, "one").channel()
    channel.exchange_declare("later", "x-delayed-message", durable=True, arguments={"x-delayed-type": "direct"})
    channel.queue_declare("jobs", durable=True)
    channel.queue_bind("jobs", "later", "k")
    channel.confirm_delivery()
    published = time.time()
    for number in range(20):
        delay = {"x-delay": 6000 - number * 200}  # however slowly they are confirmed, the last one comes first
        properties = pika.BasicProperties(delivery_mode=2, headers=delay)
        channel.basic_publish("later", "k", b"%d" % number, properties, mandatory=True)

    os.kill(two_vhosts.ready.shards[1], signal.SIGKILL)

    channel = reconnect(two_vhosts, "one").channel()
    numbers: list[int] = []

    def all_came() -> bool:
        numbers.extend(get_all(channel, "jobs"))
        return len(numbers) >= 20

    eventually(all_came, "all that waited", seconds=20)
    assert time.time() - published >= 6.0, "released early"
    assert numbers == list(range(19, -1, -1))


def test_transient_things_vanish_in_a_crash_and_durable_definitions_stay(two_vhosts: RunningBroker) -> None:
    channel = connect(two_vhosts, "one").channel()
    channel.exchange_declare("stays", "topic", durable=True)
    channel.queue_declare("stays", durable=True, arguments={"x-note": "kept"})
    channel.queue_bind("stays", "stays", "a.#")
    channel.queue_declare("vanishes")
    channel.confirm_delivery()
    channel.basic_publish("", "vanishes", b"x", PERSISTENT)

    os.kill(two_vhosts.ready.shards[1], signal.SIGKILL)

    connection = reconnect(two_vhosts, "one")
    channel = connection.channel()
    channel.confirm_delivery()
    channel.basic_publish("stays", "a.b", b"7", PERSISTENT, mandatory=True)
    channel.queue_declare("stays", durable=True, arguments={"x-note": "kept"})
    assert get_all(channel, "stays") == [7]
    with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="404"):
        channel.queue_declare("vanishes", passive=True)


def test_a_killed_supervisor_takes_its_shards_along_and_a_new_one_finds_everything(
    new_broker: StartBroker, traffic: StartTraffic
) -> None:
    broker = new_broker().start()
    hit = traffic(broker, "/", "jobs")
    hit.await_confirmed(200)

    broker.kill()
    hit.await_cut_off()
    broker.start()

    numbers = get_all(connect(broker).channel(), "jobs")
    assert numbers[: hit.confirmed + 1] == list(range(hit.confirmed + 1))
    assert len(numbers) <= hit.confirmed + 2


def test_a_killed_template_costs_nobody_anything_and_shards_can_still_be_replaced(
    two_vhosts: RunningBroker, traffic: StartTraffic
) -> None:
    template = two_vhosts.template_pid
    spared = traffic(two_vhosts, "one", "jobs")
    spared.await_confirmed(10)

    os.kill(template, signal.SIGKILL)
    eventually(lambda: not is_alive(template), "the template dead")
    spared.await_confirmed(spared.confirmed + 50)
    assert all(map(is_alive, two_vhosts.ready.shards.values()))

    os.kill(two_vhosts.ready.shards[1], signal.SIGKILL)
    spared.await_cut_off()
    assert len(get_all(reconnect(two_vhosts, "one").channel(), "jobs")) > spared.confirmed


def test_template_and_shard_killed_at_once_both_come_back(two_vhosts: RunningBroker) -> None:
    for pid in (two_vhosts.template_pid, two_vhosts.ready.shards[0], two_vhosts.ready.shards[1]):
        os.kill(pid, signal.SIGKILL)
    for vhost in ("zero", "one"):
        reconnect(two_vhosts, vhost).channel().queue_declare("works", durable=True)


# As a container's first process is: whoever loses its parent becomes our child. The attribute survives exec.
AS_INIT = (
    sys.executable,
    "-c",
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0); os.execv(sys.argv[1], sys.argv[1:])",
)


def is_buried(pid: int) -> bool:
    return not psutil.pid_exists(pid)


def test_as_a_containers_first_process_it_leaves_no_zombies(new_broker: StartBroker) -> None:
    broker = new_broker(before=AS_INIT).start()
    template, shards = broker.template_pid, list(broker.ready.shards.values())
    for orphaned in (template, *shards):
        os.kill(orphaned, signal.SIGKILL)
        eventually(partial(is_buried, orphaned), "it is gone, and no zombie")
    assert broker.await_log("template ended").count("SIGKILL") == 1, "its ending was left to whoever waits for it"
    assert broker.stop() == 0


def test_a_shard_may_die_again_and_again(two_vhosts: RunningBroker) -> None:
    dead = two_vhosts.ready.shards[1]
    for round_number in range(4):
        os.kill(dead, signal.SIGKILL)
        channel = reconnect(two_vhosts, "one").channel()
        channel.confirm_delivery()
        channel.queue_declare("jobs", durable=True)
        channel.basic_publish("", "jobs", b"%d" % round_number, PERSISTENT)
        dead = shard_of(two_vhosts, channel, dead)
    assert get_all(channel, "jobs") == [0, 1, 2, 3]


def shard_of(broker: RunningBroker, channel: Any, previous: int) -> int:
    """The new process of shard 1: the log names each start; the last pid that is alive and is not shard 0's."""
    assert channel.is_open
    pids = {pid for pid in broker.descendants() if pid not in (broker.ready.shards[0], broker.template_pid, previous)}
    assert len(pids) == 1, pids
    return pids.pop()


def test_a_shard_that_keeps_dying_ends_the_broker_with_its_code(new_broker: StartBroker) -> None:
    broker = new_broker(shards=1, arguments=["--set", "main.shard_restarts_per_minute_max=2"]).start()
    template = broker.template_pid

    def gave_up() -> bool:
        for shard in broker.descendants() - {template}:
            os.kill(shard, signal.SIGKILL)
        return broker.process.poll() is not None

    eventually(gave_up, "the end of the broker", seconds=20)
    assert broker.process.returncode == ExitCode.SHARD_UNRECOVERABLE
