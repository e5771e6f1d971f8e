"""A broker that is short of memory or disk: publishers wait and are told, everybody else goes on, nothing is lost.

Limits are moved by reload to where the broker stands, instead of filling the machine.
"""

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from pamqp import commands

from tests.clients.raw_client import CAPABILITIES, RawClient, publish
from tests.clients.running_broker import RunningBroker
from tests.clients.waiting import eventually

MIB = 1024 * 1024

MEMORY, DISK = "memory_bytes_max = 1", f"disk_free_bytes_min = {1 << 60}"
QUICK = ("--set", "alarms.look_seconds_max=0.1", "--set", "alarms.look_seconds_min=0.02")


class Alarming:
    """A broker whose limits can be moved."""

    def __init__(self, new_broker: Callable[..., RunningBroker], directory: Path, **options: Any) -> None:
        self._config = directory / "ebbmq.toml"
        self._config.write_text("")
        self.broker = new_broker(arguments=["--config", str(self._config), *QUICK], **options)

    def set(self, *lines: str) -> None:
        self._config.write_text("\n".join(("[alarms]", *lines)))
        self.broker.process.send_signal(signal.SIGHUP)

    def raise_alarm(self, line: str) -> str:
        """Returns what was logged, once publishers of the vhost `/` wait."""
        logged = self._changed("alarm raised, publishers wait", line)
        self.await_reason()
        return logged

    def clear_alarms(self) -> str:
        return self._changed("alarm cleared")

    def await_reason(self, *reasons: str) -> None:
        """Until a publisher that comes now has to wait, for one of these reasons if given; shards hear of it last."""
        eventually(
            lambda: (reason := reason_to_wait(self.broker)) and (not reasons or reason in reasons), "publishers wait"
        )

    def _changed(self, event: str, *lines: str) -> str:
        before = len(self.broker.log)
        self.set(*lines)
        return self.broker.await_log(event, after=before)


@pytest.fixture
def alarming(new_broker: Callable[..., RunningBroker], tmp_path: Path) -> Alarming:
    alarming = Alarming(new_broker, tmp_path, shards=2)
    alarming.broker.start()
    return alarming


def open_client(
    broker: RunningBroker, *, capabilities: dict[str, bool] = CAPABILITIES, heartbeat: int = 0
) -> RawClient:
    client = RawClient(broker.port)
    client.start(capabilities=capabilities)
    client.tune(heartbeat=heartbeat)
    client.call(commands.Connection.Open(virtual_host="/"), commands.Connection.OpenOk, 0)
    return client.open_channel()


def reason_to_wait(broker: RunningBroker) -> str:
    """What a publisher that comes now is told; empty when its message is confirmed."""
    with open_client(broker) as client:
        client.call(commands.Confirm.Select(), commands.Confirm.SelectOk)
        client.send_bytes(publish("nowhere", b"?"))
        return str(getattr(client.next_frame()[1], "reason", ""))


@pytest.mark.parametrize(("limit", "reason"), [(MEMORY, "low on memory"), (DISK, "low on disk")])
def test_publishers_wait_and_are_told_and_everybody_else_goes_on(alarming: Alarming, limit: str, reason: str) -> None:
    with open_client(alarming.broker) as publisher, open_client(alarming.broker) as other:
        publisher.declare("jobs", durable=True)
        publisher.call(commands.Confirm.Select(), commands.Confirm.SelectOk)
        publisher.send_bytes(publish("jobs", b"before", persistent=True))
        assert publisher.expect(commands.Basic.Ack, 1).delivery_tag == 1
        raised = alarming.raise_alarm(limit)

        publisher.send_bytes(publish("jobs", b"meanwhile", persistent=True))
        assert publisher.expect(commands.Connection.Blocked).reason == reason
        other.declare("more")
        other.call(commands.Basic.Consume(queue="jobs"), commands.Basic.ConsumeOk)
        assert other.expect_delivery()[1] == b"before"
        other.send(commands.Basic.Ack(delivery_tag=1), 1)
        assert other.declare("jobs", passive=True).message_count == 0
        alarming.clear_alarms()

        publisher.expect(commands.Connection.Unblocked)
        assert publisher.expect(commands.Basic.Ack, 1).delivery_tag == 2
        assert other.expect_delivery()[1] == b"meanwhile"
    assert f"{limit.split(' =')[0]}=" in raised
    assert alarming.broker.stop() == 0


def test_a_publisher_into_a_queue_nobody_consumes_goes_on_after_the_alarm_and_nothing_confirmed_is_lost(
    alarming: Alarming,
) -> None:
    broker = alarming.broker
    confirmed: list[int] = []
    heard: list[str] = []
    stop = threading.Event()
    publisher = threading.Thread(target=publish_until, args=(stop, broker, confirmed, heard), daemon=True)
    publisher.start()
    eventually(lambda: len(confirmed) > 20, "confirms")

    for _ in range(3):
        alarming.raise_alarm(MEMORY)
        eventually(lambda: heard[-1:] == ["Connection.Blocked"], "the publisher hears of it")
        stuck_at = len(confirmed)
        alarming.clear_alarms()
        eventually(lambda: len(confirmed) > stuck_at + 20, "more confirms")  # noqa: B023 - called in this round
    stop.set()
    publisher.join(timeout=20)

    assert heard == ["Connection.Blocked", "Connection.Unblocked"] * 3
    with open_client(broker) as reader:
        bodies = []
        for _ in confirmed:
            reader.call(commands.Basic.Get(queue="jobs", no_ack=True), commands.Basic.GetOk)
            bodies.append(int(reader.expect_content()))
    assert bodies == confirmed == list(range(len(confirmed)))
    assert broker.stop() == 0


def publish_until(stop: threading.Event, broker: RunningBroker, confirmed: list[int], heard: list[str]) -> None:
    """One message after the other, each when the one before is confirmed."""
    with open_client(broker) as client:
        client.declare("jobs", durable=True)
        client.call(commands.Confirm.Select(), commands.Confirm.SelectOk)
        while not stop.is_set():
            client.send_bytes(publish("jobs", b"%d" % len(confirmed), persistent=True))
            while not isinstance(said := client.next_frame()[1], commands.Basic.Ack):
                heard.append(said.name)
            confirmed.append(len(confirmed))


def test_a_client_that_cannot_hear_of_it_is_just_not_read_from(alarming: Alarming) -> None:
    deaf = {name: able for name, able in CAPABILITIES.items() if name != "connection.blocked"}
    with open_client(alarming.broker, capabilities=deaf) as publisher, open_client(alarming.broker) as witness:
        publisher.declare("jobs")
        alarming.raise_alarm(MEMORY)
        publisher.send_bytes(publish("jobs", b"1"))
        publisher.send(commands.Queue.Declare(queue="after", passive=False), 1)
        witness.send_bytes(publish("jobs", b"2"))
        witness.expect(commands.Connection.Blocked)

        alarming.clear_alarms()

        assert publisher.expect(commands.Queue.DeclareOk, 1).queue == "after"
        witness.expect(commands.Connection.Unblocked)
        assert witness.declare("jobs", passive=True).message_count == 2


def test_a_blocked_client_is_not_called_silent_and_one_that_has_gone_is_noticed(alarming: Alarming) -> None:
    with open_client(alarming.broker, heartbeat=1) as staying:
        leaving = open_client(alarming.broker)
        staying.declare("jobs")
        alarming.raise_alarm(MEMORY)
        for client in (staying, leaving):
            client.send_bytes(publish("jobs", b"1"))
            client.expect(commands.Connection.Blocked)
        leaving.close()
        shard_of = [psutil.Process(pid) for pid in alarming.broker.ready.shards.values()]

        def served() -> int:
            return sum(len(shard.net_connections("tcp")) for shard in shard_of)

        for _ in range(6):  # three times as long as silence is forgiven
            assert staying.next_frame()[1].name == "Heartbeat"
        eventually(lambda: served() == 1, "the one that left is forgotten")
        alarming.clear_alarms()

        staying.expect(commands.Connection.Unblocked)
        assert staying.declare("jobs", passive=True).message_count == 1


def test_both_alarms_must_be_over(alarming: Alarming) -> None:
    with open_client(alarming.broker) as publisher:
        publisher.declare("jobs")
        alarming.set(MEMORY, DISK)
        alarming.await_reason("low on memory & disk")
        publisher.send_bytes(publish("jobs", b"1"))
        assert publisher.expect(commands.Connection.Blocked).reason == "low on memory & disk"
        alarming.set(DISK)
        alarming.await_reason("low on disk")
        with open_client(alarming.broker) as late:
            late.send_bytes(publish("jobs", b"2"))
            assert late.expect(commands.Connection.Blocked).reason == "low on disk"
            alarming.clear_alarms()

            publisher.expect(commands.Connection.Unblocked)
            late.expect(commands.Connection.Unblocked)
            assert late.declare("jobs", passive=True).message_count == 2


def test_a_shard_that_starts_during_an_alarm_knows_of_it(alarming: Alarming) -> None:
    broker = alarming.broker
    alarming.raise_alarm(MEMORY)
    before = len(broker.log)
    for pid in broker.ready.shards.values():
        psutil.Process(pid).kill()
    eventually(lambda: broker.log[before:].count("vhost opened") == 1, "the vhost is open again", seconds=20)

    alarming.await_reason("low on memory")
    with open_client(broker) as publisher:
        publisher.declare("jobs")
        publisher.send_bytes(publish("jobs", b"1"))
        publisher.expect(commands.Connection.Blocked)
        alarming.clear_alarms()
        publisher.expect(commands.Connection.Unblocked)


def test_a_broker_that_starts_short_takes_nothing_in(new_broker: Callable[..., RunningBroker]) -> None:
    broker = new_broker(arguments=["--set", "alarms.memory_bytes_max=1"]).start()
    with open_client(broker) as publisher:
        publisher.declare("jobs")
        publisher.send_bytes(publish("jobs", b"1"))
        publisher.expect(commands.Connection.Blocked)
        broker.process.send_signal(signal.SIGTERM)
        publisher.expect_connection_close(320)
    assert broker.process.wait(20) == 0


def test_a_blocked_broker_drains_and_keeps_what_it_confirmed(alarming: Alarming) -> None:
    broker = alarming.broker
    with open_client(broker) as publisher:
        publisher.declare("jobs", durable=True)
        publisher.call(commands.Confirm.Select(), commands.Confirm.SelectOk)
        publisher.send_bytes(publish("jobs", b"confirmed", persistent=True))
        publisher.expect(commands.Basic.Ack, 1)
        alarming.raise_alarm(MEMORY)
        publisher.send_bytes(publish("jobs", b"not taken in", persistent=True))
        publisher.expect(commands.Connection.Blocked)

        broker.process.send_signal(signal.SIGTERM)
        publisher.expect_connection_close(320)
        assert broker.process.wait(20) == 0
    alarming.set()
    broker.start()

    with open_client(broker) as client:
        assert client.declare("jobs", passive=True).message_count == 1


def test_memory_that_a_client_makes_the_broker_hold_raises_the_alarm_and_its_end_clears_it(
    alarming: Alarming,
) -> None:
    """Messages of a transaction stay in memory until it is committed; when they are gone a pass gives it back."""
    broker = alarming.broker
    baseline = pss_bytes(broker)
    holder, publisher = open_client(broker), open_client(broker)
    with publisher:
        publisher.declare("jobs")
        holder.call(commands.Tx.Select(), commands.Tx.SelectOk)
        for _ in range(56):
            holder.send_bytes(publish("jobs", bytes(MIB)))
        holder.declare("jobs", passive=True)
        before = len(broker.log)
        alarming.raise_alarm(f"memory_bytes_max = {baseline + 30 * MIB}")
        publisher.send_bytes(publish("jobs", b"1"))
        assert publisher.expect(commands.Connection.Blocked).reason == "low on memory"
        broker.await_log("compaction_level=critical", after=before)

        holder.reset()

        broker.await_log("alarm cleared", after=before, seconds=60)
        publisher.expect(commands.Connection.Unblocked)


def pss_bytes(broker: RunningBroker) -> int:
    return sum(psutil.Process(pid).memory_full_info().pss for pid in (broker.process.pid, *broker.descendants()))
