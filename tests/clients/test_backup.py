"""Backups of a broker that is at work: complete or not there, and whatever goes wrong, the broker does not notice."""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import pika
import pytest

from ipc.errors import ExitCode
from runtime.supervisor import manifest
from tests.clients.running_broker import COMMAND, ROOT, RunningBroker, environment, run_command
from tests.clients.small_disk import fill, loop_disk
from tests.clients.waiting import eventually

StartBroker = Callable[..., RunningBroker]

PERSISTENT: Final = pika.BasicProperties(delivery_mode=2)
VHOSTS: Final = ("/", "orders")


def connection(broker: RunningBroker, vhost: str = "/") -> Any:
    return pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", broker.port, vhost, heartbeat=0))


def backup(broker: RunningBroker, target: Path, *more: str) -> "subprocess.CompletedProcess[str]":
    return run_command("backup", str(target), "--data-dir", str(broker.data), *more)


def restored(new_broker: StartBroker, source: Path, **options: Any) -> RunningBroker:
    """A broker on what a backup holds."""
    broker: RunningBroker = new_broker(**options)
    done = run_command("restore", str(source), "--data-dir", str(broker.data))
    assert done.returncode == 0, done.stderr
    return broker.start()


def publish(broker: RunningBroker, count: int, *, size_bytes: int, vhost: str = "/", queue: str = "jobs") -> None:
    with closing(connection(broker, vhost)) as client:
        channel = client.channel()
        channel.queue_declare(queue, durable=True)
        for number in range(count - 1):
            channel.basic_publish("", queue, b"%d." % number + bytes(size_bytes), PERSISTENT)
        channel.confirm_delivery()  # the last one's is all the others' as well
        channel.basic_publish("", queue, b"%d." % (count - 1) + bytes(size_bytes), PERSISTENT)


def drained(broker: RunningBroker, vhost: str = "/", queue: str = "jobs") -> list[int]:
    with closing(connection(broker, vhost)) as client:
        channel = client.channel()
        count = channel.queue_declare(queue, passive=True).method.message_count
        return [int(channel.basic_get(queue, auto_ack=True)[2].partition(b".")[0]) for _ in range(count)]


class Publisher:
    """Publishes numbers to one queue and notes which of them were confirmed, until it is stopped."""

    def __init__(self, broker: RunningBroker, vhost: str) -> None:
        self.confirmed = 0
        self.published = 0
        self._stopping = threading.Event()
        self._client = connection(broker, vhost)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        channel = self._client.channel()
        channel.queue_declare("jobs", durable=True)
        channel.queue_bind("jobs", "amq.fanout")
        channel.queue_declare("copies", durable=True)
        channel.queue_bind("copies", "amq.fanout")
        channel.confirm_delivery()
        while not self._stopping.is_set():
            self.published += 1
            channel.basic_publish("amq.fanout", "", b"%d." % self.published + bytes(3000), PERSISTENT)
            self.confirmed = self.published

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()
        self._client.close()


@contextmanager
def publishing(broker: RunningBroker) -> Iterator[dict[str, Publisher]]:
    publishers = {vhost: Publisher(broker, vhost) for vhost in VHOSTS}
    try:
        yield publishers
    finally:
        for publisher in publishers.values():
            publisher.stop()


def assert_nothing_is_left(broker: RunningBroker) -> None:
    assert not list(broker.data.glob("vhosts/*/aside"))


def test_what_was_confirmed_before_a_backup_is_in_it_once_and_nothing_is_from_nowhere(
    new_broker: StartBroker, tmp_path: Path
) -> None:
    """While clients publish and messages leave; each vhost is as it was at one moment."""
    broker = new_broker().start()
    broker.add_vhost("orders", shard=1)
    broker.await_log("vhost=orders")
    backups = []
    with publishing(broker) as publishers:
        for number in range(2):
            eventually(
                lambda number=number: all(each.confirmed > 150 * (number + 1) for each in publishers.values()),  # type: ignore[misc]
                "some messages",
                seconds=60,
            )
            before = {vhost: publisher.confirmed for vhost, publisher in publishers.items()}
            done = backup(broker, tmp_path / f"backup-{number}", "--json")
            assert done.returncode == 0, done.stderr
            after = {vhost: publisher.published for vhost, publisher in publishers.items()}
            backups.append((before, after, json.loads(done.stdout)[0]))
    broker.add_vhost("later", shard=0)

    for number, (before, after, told) in enumerate(backups):
        source = tmp_path / f"backup-{number}"
        assert (told["say"], told["vhosts"], told["target"]) == ("backup", 2, str(source))
        assert told["files"] == len([path for path in source.rglob("*") if path.is_file()]) - 1
        copy = restored(new_broker, source, shards=1 + number)
        for vhost in VHOSTS:
            numbers = drained(copy, vhost)
            assert numbers == list(range(1, len(numbers) + 1))
            assert before[vhost] <= len(numbers) <= after[vhost]
            assert drained(copy, vhost, "copies") == numbers  # both queues of the same moment
        assert copy.stop() == 0
    assert_nothing_is_left(broker)
    assert broker.stop() == 0


def test_accounts_and_declarations_are_in_a_backup(new_broker: StartBroker, tmp_path: Path) -> None:
    broker = new_broker(shards=1).start()
    broker.command("user", "add", "alice", "--password-stdin", given="secret\n")
    broker.permit("alice", "/", configure="", write=".*", read=".*")
    broker.command("policy", "set", "short", "^jobs", '{"max-length": 3}', "--apply-to", "queues")
    with closing(connection(broker)) as client:
        channel = client.channel()
        channel.exchange_declare("work", "topic", durable=True)
        channel.queue_declare("jobs", durable=True)
        channel.queue_bind("jobs", "work", "a.*")
    assert backup(broker, tmp_path / "backup").returncode == 0
    assert broker.stop() == 0

    copy = restored(new_broker, tmp_path / "backup")
    parameters = pika.ConnectionParameters(
        "127.0.0.1", copy.port, credentials=pika.PlainCredentials("alice", "secret"), heartbeat=0
    )
    with closing(pika.BlockingConnection(parameters)) as client:
        channel = client.channel()
        channel.confirm_delivery()
        for number in range(5):
            channel.basic_publish("work", "a.b", b"%d." % number, PERSISTENT, mandatory=True)

    assert drained(copy) == [2, 3, 4]
    assert copy.stop() == 0


def test_both_a_vhost_with_a_journal_and_one_without_can_be_backed_up(new_broker: StartBroker, tmp_path: Path) -> None:
    settings = tmp_path / "ebbmq.toml"
    settings.write_text('[store.vhosts.orders]\ndurability = "os"\n')
    broker = new_broker(arguments=["--config", str(settings)]).start()
    broker.add_vhost("orders", shard=1)
    broker.await_log("vhost=orders")
    for vhost in VHOSTS:
        publish(broker, 300, size_bytes=1000, vhost=vhost)
    assert backup(broker, tmp_path / "backup").returncode == 0

    copy = restored(new_broker, tmp_path / "backup")

    for vhost in VHOSTS:
        assert drained(copy, vhost) == list(range(300))
    assert copy.stop() == 0
    assert broker.stop() == 0


def test_a_backup_shares_room_with_the_broker_and_outlives_its_messages(
    new_broker: StartBroker, tmp_path: Path
) -> None:
    broker = new_broker(shards=1, arguments=["--set", "store.segment_bytes_max=65536"]).start()
    publish(broker, 200, size_bytes=4000)
    told = json.loads(backup(broker, tmp_path / "backup", "--json").stdout)[0]

    assert drained(broker) == list(range(200))
    eventually(lambda: not list(broker.data.glob("vhosts/1/queues/*/0000000001.messages")), "no segments")

    assert told["files_linked"] > 3
    copy = restored(new_broker, tmp_path / "backup")
    assert drained(copy) == list(range(200))
    assert copy.stop() == 0
    assert broker.stop() == 0


# what is refused ------------------------------------------------------------------------------------------------------


def test_wrong_targets_are_refused_in_a_sentence_and_left_as_they_are(broker: RunningBroker, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "letters").write_bytes(b"dear")
    (tmp_path / "file").write_bytes(b"")
    for target, complaint in (
        (full, f"{full} is not empty"),
        (tmp_path / "file", f"{tmp_path / 'file'} is not a directory"),
        (tmp_path / "no" / "where", "No such file or directory"),
        (Path("/proc/backup"), "No such file or directory"),
        (broker.data / "backup", "contain each other"),
        (broker.data.parent, "contain each other"),
    ):
        done = backup(broker, target)
        assert done.returncode == ExitCode.FAILED
        assert complaint in done.stderr, done.stderr
    assert [path.name for path in full.iterdir()] == ["letters"]
    assert not (broker.data / "backup").exists()


def test_an_empty_directory_that_is_there_is_taken(broker: RunningBroker, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()

    assert backup(broker, tmp_path / "there").returncode == 0

    manifest.verify(tmp_path / "there", manifest.read(tmp_path / "there"))


def test_a_relative_target_is_where_the_command_was_given(broker: RunningBroker, tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "backup", "here", "--data-dir", str(broker.data)],
        env=environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "here" / manifest.NAME).exists()


def test_without_a_broker_there_is_no_backup(tmp_path: Path) -> None:
    done = run_command("backup", str(tmp_path / "backup"), "--data-dir", str(tmp_path / "nothing"))

    assert done.returncode == ExitCode.NO_BROKER
    assert not (tmp_path / "backup").exists()


def test_a_broker_is_not_started_on_a_backup_and_none_is_restored_over_a_broker(
    new_broker: StartBroker, tmp_path: Path
) -> None:
    broker = new_broker(shards=1).start()
    assert backup(broker, tmp_path / "backup").returncode == 0

    serve = run_command("serve", "--data-dir", str(tmp_path / "backup"), "--amqp-port", "0")
    in_use = run_command("restore", str(tmp_path / "backup"), "--data-dir", str(broker.data))
    assert broker.stop() == 0
    not_empty = run_command("restore", str(tmp_path / "backup"), "--data-dir", str(broker.data))

    assert serve.returncode == ExitCode.DATA_DIRECTORY_UNUSABLE
    assert in_use.returncode == ExitCode.DATA_DIRECTORY_IN_USE
    assert not_empty.returncode == ExitCode.DATA_DIRECTORY_UNUSABLE
    assert broker.start().stop() == 0


# what goes wrong ------------------------------------------------------------------------------------------------------


def test_a_target_that_becomes_full_is_emptied_again(new_broker: StartBroker, tmp_path: Path) -> None:
    broker = new_broker(shards=1).start()
    publish(broker, 300, size_bytes=40_000)
    with loop_disk(tmp_path / "small", megabytes=8) as disk:
        done = backup(broker, disk / "backup")
        assert done.returncode == ExitCode.FAILED
        assert "No space left on device" in done.stderr
        assert not (disk / "backup").exists()

        filler = fill(disk)
        done = backup(broker, disk / "backup")
        assert done.returncode == ExitCode.FAILED
        assert not (disk / "backup").exists()
        filler.unlink()

    assert "storage refuses writes" not in broker.log
    assert_nothing_is_left(broker)
    assert drained(broker) == list(range(300))
    assert backup(broker, tmp_path / "backup").returncode == 0
    assert broker.stop() == 0


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a file system read-only")
def test_a_target_that_cannot_be_written_is_named(new_broker: StartBroker, tmp_path: Path) -> None:
    broker = new_broker(shards=1).start()
    with loop_disk(tmp_path / "small", megabytes=8) as disk:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        done = backup(broker, disk / "backup")
    assert done.returncode == ExitCode.FAILED
    assert "Read-only file system" in done.stderr
    assert str(disk / "backup") in done.stderr
    assert broker.stop() == 0


def begin(broker: RunningBroker, target: Path) -> "subprocess.Popen[str]":
    """A backup that has begun and is far from its end."""
    process = subprocess.Popen(
        [*COMMAND, "backup", str(target), "--data-dir", str(broker.data)],
        env=environment(),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    eventually(lambda: list(target.glob("vhosts/*/*")) or process.poll() is not None, "a backup under way")
    assert process.poll() is None, process.communicate()
    return process


@pytest.fixture
def laden(new_broker: StartBroker, tmp_path: Path) -> Iterator[RunningBroker]:
    """So many files that a backup of them, to another file system, takes a second or more."""
    broker = new_broker(arguments=["--set", "store.segment_bytes_max=65536"])
    broker.start()
    for queue in range(2):
        publish(broker, 1000, size_bytes=60_000, queue=f"jobs-{queue}")
    yield broker
    assert_nothing_is_left(broker)
    assert broker.stop() == 0


def test_a_shard_killed_in_the_middle_of_a_backup_is_the_end_of_it(laden: RunningBroker, tmp_path: Path) -> None:
    with loop_disk(tmp_path / "slow", megabytes=300) as disk:
        process = begin(laden, disk / "backup")
        (owner,) = {
            line.split("shard=")[1].split()[0]
            for line in laden.log.splitlines()
            if "vhost opened" in line and "vhost=/ " in line
        }
        start = len(laden.log)
        os.kill(laden.ready.shards[int(owner)], signal.SIGKILL)
        _, stderr = process.communicate(timeout=30)

        assert process.returncode == ExitCode.FAILED
        assert "it ended before it had answered" in stderr
        assert not (disk / "backup").exists()
        laden.await_log("vhost opened", after=start)
        assert_nothing_is_left(laden)
        assert drained(laden, queue="jobs-0") == list(range(1000))
        assert backup(laden, disk / "backup").returncode == 0


def test_whoever_interrupts_the_command_stops_the_backup(laden: RunningBroker, tmp_path: Path) -> None:
    with loop_disk(tmp_path / "slow", megabytes=300) as disk:
        process = begin(laden, disk / "backup")
        again = backup(laden, tmp_path / "another")
        assert again.returncode == ExitCode.FAILED
        assert "another backup is being made" in again.stderr
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)

        eventually(lambda: not (disk / "backup").exists(), "the target removed", seconds=30)
        eventually(lambda: backup(laden, tmp_path / "another").returncode == 0, "another backup", seconds=30)


def test_a_broker_that_ends_meanwhile_ends_in_time(laden: RunningBroker, tmp_path: Path) -> None:
    with loop_disk(tmp_path / "slow", megabytes=300) as disk:
        process = begin(laden, disk / "backup")
        began = time.monotonic()

        assert laden.stop() == 0

        assert time.monotonic() - began < 10
        process.communicate(timeout=30)
        assert process.returncode == ExitCode.FAILED
        assert not (disk / "backup").exists()
    laden.start()


def test_a_supervisor_killed_in_the_middle_leaves_what_says_that_it_is_not_complete(
    laden: RunningBroker, tmp_path: Path
) -> None:
    with loop_disk(tmp_path / "slow", megabytes=300) as disk:
        process = begin(laden, disk / "backup")
        laden.kill()
        process.communicate(timeout=30)
        assert process.returncode == ExitCode.FAILED
        laden.await_children_gone()

        done = run_command("restore", str(disk / "backup"), "--data-dir", str(tmp_path / "data"))

        assert done.returncode == ExitCode.STORE_DAMAGED
        assert "no complete backup" in done.stderr
        assert not (tmp_path / "data").exists()
    laden.start()
    assert drained(laden, queue="jobs-1") == list(range(1000))
