"""What an operator does to a running broker: end it, restart it, reload it, make it give memory back."""

import fcntl
import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pika
import pika.exceptions
import psutil
import pytest

from tests.clients.raw_client import ClosedByBroker, RawClient, publish
from tests.clients.running_broker import RunningBroker, is_alive
from tests.clients.waiting import eventually

StartBroker = Callable[..., RunningBroker]

PERSISTENT = pika.BasicProperties(delivery_mode=2)


def connect(broker: RunningBroker) -> Any:
    return pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", broker.port))


def test_the_ready_line_tells_where_and_who(broker: RunningBroker) -> None:
    ready = broker.ready
    assert ready.supervisor == broker.process.pid
    assert sorted(ready.shards) == [0, 1]
    assert all(map(is_alive, ready.shards.values()))
    assert ready.data == str(broker.data)
    assert ready.addresses[0].startswith("127.0.0.1:")
    assert len({address.rpartition(":")[2] for address in ready.addresses}) == 1


def test_standard_output_holds_the_ready_line_alone(broker: RunningBroker) -> None:
    assert len(broker.stdout_path.read_text().splitlines()) == 1


def test_ipv6_clients_are_served(broker: RunningBroker) -> None:
    if not any(address.startswith("[::1]") for address in broker.ready.addresses):
        pytest.skip(f"no IPv6 loopback on this machine: {broker.ready.addresses}")
    with RawClient(broker.port, host="::1") as client:
        client.open().open_channel()


def test_a_containers_first_process_can_be_stopped_while_it_starts(new_broker: StartBroker) -> None:
    """The kernel gives it only signals it has asked for; here it waits for a data directory of somebody else."""
    if subprocess.run(["unshare", "--pid", "--fork", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("a namespace of processes cannot be made here")
    broker = new_broker(before=("unshare", "--pid", "--fork", "--kill-child"))
    broker.data.mkdir()
    with (broker.data / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        broker.spawn()
        first = eventually(lambda: waits_for(broker, lock.name), "it waits for the data directory")
        first.send_signal(signal.SIGTERM)
        assert broker.process.wait(5) == 128 + signal.SIGTERM


def waits_for(broker: RunningBroker, path: str) -> psutil.Process | None:
    """The broker itself, which is a child of what it was started by, when it has the file open."""
    for child in psutil.Process(broker.process.pid).children():
        if path in (file.path for file in child.open_files()):
            return child
    return None


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_a_drain_closes_clients_with_320_and_ends_with_0(new_broker: StartBroker, ending: signal.Signals) -> None:
    broker = new_broker().start()
    with RawClient(broker.port) as client, RawClient(broker.port) as halfway:
        client.open().open_channel()
        halfway.send_bytes(b"AMQP")
        broker.process.send_signal(ending)
        client.expect_connection_close(320)
    assert broker.process.wait(20) == 0
    broker.await_children_gone()


def test_a_drained_broker_comes_back_with_its_messages(new_broker: StartBroker) -> None:
    broker = new_broker().start()
    with closing(connect(broker)) as connection:
        channel = connection.channel()
        channel.queue_declare("jobs", durable=True)
        channel.confirm_delivery()
        for number in range(50):
            channel.basic_publish("", "jobs", b"%d" % number, PERSISTENT)
        channel.basic_get("jobs", auto_ack=True)
        channel.basic_get("jobs")
    assert broker.stop() == 0

    broker.start()

    with closing(connect(broker)) as connection:
        channel = connection.channel()
        bodies = [channel.basic_get("jobs", auto_ack=True)[2] for _ in range(49)]
    assert bodies == [b"%d" % number for number in range(1, 50)]
    assert broker.stop() == 0


def test_nothing_acknowledged_comes_back_after_term(new_broker: StartBroker) -> None:
    broker = new_broker().start()
    channel = connect(broker).channel()
    channel.queue_declare("jobs", durable=True)
    channel.confirm_delivery()
    for number in range(40):
        channel.basic_publish("", "jobs", b"%d" % number, PERSISTENT)
    tags = [channel.basic_get("jobs")[0].delivery_tag for _ in range(40)]
    channel.basic_ack(tags[9], multiple=True)
    for tag in tags[10::2]:
        channel.basic_ack(tag)
    # Acknowledgements have no answer: once a later request is answered, they were taken in before it.
    channel.queue_declare("jobs", passive=True)

    assert broker.stop() == 0

    broker.start()

    with closing(connect(broker)) as connection:
        channel = connection.channel()
        assert channel.queue_declare("jobs", passive=True).method.message_count == 15
        bodies = [channel.basic_get("jobs", auto_ack=True)[2] for _ in range(15)]
    assert bodies == [b"%d" % number for number in range(11, 40, 2)]
    assert broker.stop() == 0


def test_a_second_signal_ends_at_once(new_broker: StartBroker) -> None:
    """The client never answers its close, so a patient drain would take the whole minute."""
    broker = new_broker(arguments=["--set", "main.drain_seconds=60"]).start()
    with RawClient(broker.port) as client:
        client.open()
        broker.process.send_signal(signal.SIGTERM)
        client.expect_close_unanswered(320)
        broker.process.send_signal(signal.SIGTERM)
        broker.process.wait(10)
    broker.await_children_gone()


def test_a_client_that_does_not_answer_cannot_delay_the_end_beyond_the_deadline(new_broker: StartBroker) -> None:
    broker = new_broker(arguments=["--set", "main.drain_seconds=1"]).start()
    with RawClient(broker.port) as client:
        client.open()
        assert broker.stop(seconds=10) == 0


def test_more_shards_after_a_restart_keep_every_vhost(new_broker: StartBroker) -> None:
    broker = new_broker().start()
    with closing(connect(broker)) as connection:
        channel = connection.channel()
        channel.queue_declare("jobs", durable=True)
        channel.confirm_delivery()
        channel.basic_publish("", "jobs", b"kept", PERSISTENT)
    assert broker.stop() == 0
    for shards in (3, 1):
        broker.shards = shards
        broker.start()
        assert len(broker.ready.shards) == shards
        with closing(connect(broker)) as connection:
            assert connection.channel().queue_declare("jobs", passive=True).method.message_count == 1
        assert broker.stop() == 0


def test_usr1_reports_what_memory_came_back_from_every_shard(new_broker: StartBroker) -> None:
    broker = new_broker().start()
    with RawClient(broker.port) as client:
        client.open().open_channel()
        for number in range(2000):
            client.declare(f"spike-{number}", exclusive=True)
        client.send_bytes(*(publish("spike-0", bytes(1000)) for _ in range(1000)))
        client.declare("spike-0", exclusive=True)
    start = len(broker.log)

    broker.process.send_signal(signal.SIGUSR1)

    begun = broker.await_log("memory pressure detected, running compaction", after=start)
    assert "SIGUSR1" in begun

    def reports() -> list[str] | None:
        lines = [line for line in broker.log[start:].splitlines() if "memory reclaimed" in line]
        return lines if len(lines) >= 2 else None

    for line in eventually(reports, "a report from each of two shards"):
        for word in ("shard", "rss", "before", "after", "seconds", "slice"):
            assert re.search(word, line, re.IGNORECASE), f"no {word!r} in {line}"
    connect(broker).close()


def test_usr1_under_traffic_loses_nothing(new_broker: StartBroker) -> None:
    broker = new_broker().start()
    channel = connect(broker).channel()
    channel.queue_declare("jobs", durable=True)
    channel.confirm_delivery()
    for number in range(600):
        channel.basic_publish("", "jobs", b"%d" % number, PERSISTENT)
        if number % 100 == 50:
            broker.process.send_signal(signal.SIGUSR1)
    bodies = [channel.basic_get("jobs", auto_ack=True)[2] for _ in range(600)]
    assert bodies == [b"%d" % number for number in range(600)]


def test_a_watch_file_of_systemd_starts_a_compaction(new_broker: StartBroker, tmp_path: Path) -> None:
    """A FIFO stands for the file that systemd hands over."""
    fifo = tmp_path / "pressure"
    os.mkfifo(fifo)
    broker = new_broker(extra={"MEMORY_PRESSURE_WATCH": str(fifo)}).start()
    start = len(broker.log)
    writer = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
    try:
        os.write(writer, b"!")
        begun = broker.await_log("memory pressure detected, running compaction", after=start)
        assert "systemd" in begun
        broker.await_log("memory reclaimed", after=start)
    finally:
        os.close(writer)
    assert broker.stop() == 0


def test_hup_applies_what_can_change_and_names_what_cannot(new_broker: StartBroker, tmp_path: Path) -> None:
    config = tmp_path / "ebbmq.toml"
    config.write_text("[compaction]\nratio = 2.0\n")
    broker = new_broker(arguments=["--config", str(config)]).start()
    start = len(broker.log)
    config.write_text("[compaction]\nratio = 3.0\n[store]\nsegment_bytes_max = 1048576\n")
    broker.process.send_signal(signal.SIGHUP)
    broker.await_log("compaction.ratio", after=start)
    broker.await_log("store.segment_bytes_max", after=start)
    connect(broker).close()


def test_hup_tells_which_vhosts_keep_their_durability_and_new_ones_have_the_new(
    new_broker: StartBroker, tmp_path: Path
) -> None:
    settings = tmp_path / "ebbmq.toml"
    settings.write_text("")
    broker = new_broker(shards=1, arguments=["--config", str(settings)]).start()
    settings.write_text('[store.vhosts."/"]\ndurability = "os"\n[store.vhosts.orders]\ndurability = "os"\n')
    start = len(broker.log)
    broker.process.send_signal(signal.SIGHUP)

    told = broker.await_log("keeps its durability until it is opened again", after=start)
    broker.add_vhost("orders", shard=0)
    broker.await_log("vhost opened", after=start)

    assert "vhost=/" in told
    assert "durability=fsync" in told
    assert not list(broker.data.glob("vhosts/1/unsynced"))
    assert list(broker.data.glob("vhosts/2/unsynced"))
    assert broker.stop() == 0
    broker.start()
    assert list(broker.data.glob("vhosts/1/unsynced"))
    assert broker.stop() == 0


def test_hup_with_a_broken_file_changes_nothing(new_broker: StartBroker, tmp_path: Path) -> None:
    config = tmp_path / "ebbmq.toml"
    config.write_text("[compaction]\nratio = 2.0\n")
    broker = new_broker(arguments=["--config", str(config)]).start()
    start = len(broker.log)
    config.write_text("[compaction]\nratoi = 2.0\n")
    broker.process.send_signal(signal.SIGHUP)
    broker.await_log("ratoi", after=start)
    connect(broker).close()
    assert broker.stop() == 0


def test_the_service_manager_hears_of_readiness_and_the_end(new_broker: StartBroker, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        broker = new_broker(extra={"NOTIFY_SOCKET": str(tmp_path / "notify")}).start()
        assert "READY=1" in _notification_with(manager, "READY=1")
        broker.process.send_signal(signal.SIGHUP)
        assert "RELOADING=1" in _notification_with(manager, "RELOADING=1")
        assert "READY=1" in _notification_with(manager, "READY=1")
        assert broker.stop() == 0
        assert "STOPPING=1" in _notification_with(manager, "STOPPING=1")


def _notification_with(manager: socket.socket, state: str) -> list[str]:
    while True:
        lines = manager.recv(4096).decode().splitlines()
        if state in lines:
            return lines


def test_the_json_log_is_one_object_a_line(new_broker: StartBroker) -> None:
    broker = new_broker(arguments=["--log-format", "json"]).start()
    with RawClient(broker.port) as client:
        client.send_bytes(b"GET / HTTP/1.1\r\n\r\n")
        client.receive_until_closed()
    broker.process.send_signal(signal.SIGUSR1)
    broker.await_log("memory reclaimed")
    assert broker.stop() == 0
    for line in broker.log.splitlines():
        assert isinstance(json.loads(line), dict), line


def test_the_environment_and_the_file_and_the_flags_take_turns(new_broker: StartBroker, tmp_path: Path) -> None:
    config = tmp_path / "ebbmq.toml"
    config.write_text("[amqp]\nframe_max = 8192\nchannel_max = 10\nheartbeat = 11\n")
    broker = new_broker(
        arguments=["--config", str(config), "--set", "amqp.heartbeat=33"],
        extra={"EBBMQ_AMQP_CHANNEL_MAX": "20", "EBBMQ_AMQP_HEARTBEAT": "22"},
    ).start()
    with RawClient(broker.port) as client:
        assert client.offered() == (20, 8192, 33)


def test_new_clients_are_refused_while_draining(new_broker: StartBroker) -> None:
    broker = new_broker(arguments=["--set", "main.drain_seconds=5"]).start()
    with RawClient(broker.port) as client:
        client.open()
        broker.process.send_signal(signal.SIGTERM)
        client.expect_close_unanswered(320)
        with pytest.raises((ConnectionError, ClosedByBroker)), RawClient(broker.port) as late:
            late.open()
    assert broker.process.wait(20) == 0
