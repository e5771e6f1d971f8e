"""A file system without room: publishers wait, consumers go on, and what they take makes room again."""

import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pika
import pytest

from ipc.errors import ExitCode
from tests.clients.running_broker import RunningBroker
from tests.clients.small_disk import small_disk as small_disk_at
from tests.clients.waiting import eventually

MESSAGES = 400
BODY_BYTES = 60_000
ROOM_MEGABYTES = 16  # less than the messages take

# No alarm before it: what is tested here is a file system that refuses a write.
NO_ALARM = ("--set", "alarms.disk_free_bytes_min=0")

PERSISTENT = pika.BasicProperties(delivery_mode=2)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own for the broker's data."""
    with small_disk_at(tmp_path / "small", megabytes=ROOM_MEGABYTES) as place:
        yield place


def test_a_full_disk_stops_publishers_until_consumers_have_made_room(
    small_disk: Path, new_broker: Callable[..., RunningBroker]
) -> None:
    broker = new_broker(shards=1, arguments=[*NO_ALARM, "--set", "store.retry_seconds=0.1"])
    broker.data = small_disk / "data"
    broker.start()
    confirmed: list[int] = []
    publisher = threading.Thread(target=publish_all, args=(broker, confirmed), daemon=True)

    publisher.start()
    broker.await_log("storage refuses writes, publishers wait", seconds=30)
    stuck_at = len(confirmed)
    bodies = consume(connect(broker).channel(), MESSAGES)
    publisher.join(timeout=30)

    assert 0 < stuck_at < MESSAGES
    assert not publisher.is_alive()
    assert len(confirmed) == MESSAGES
    assert bodies == list(range(MESSAGES))
    broker.await_log("storage takes writes again")
    assert broker.stop() == 0


def test_a_broker_on_a_full_disk_ends_in_order_and_keeps_what_it_confirmed(
    small_disk: Path, new_broker: Callable[..., RunningBroker]
) -> None:
    broker = new_broker(shards=1, arguments=NO_ALARM)
    broker.data = small_disk / "data"
    broker.start()
    confirmed: list[int] = []
    threading.Thread(target=publish_all, args=(broker, confirmed), daemon=True).start()
    broker.await_log("storage refuses writes, publishers wait", seconds=30)

    assert broker.stop() == 0

    broker.spawn()
    assert broker.process.wait(timeout=20) == ExitCode.DATA_DIRECTORY_UNUSABLE
    assert "No space left on device" in broker.log

    subprocess.run(["mount", "-o", f"remount,size={2 * ROOM_MEGABYTES}m", str(small_disk)], check=True)
    broker.start()
    kept = consume(connect(broker).channel(), len(confirmed))
    assert kept == confirmed


def connect(broker: RunningBroker) -> Any:
    return pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", broker.port, heartbeat=0))


def publish_all(broker: RunningBroker, confirmed: list[int]) -> None:
    channel = connect(broker).channel()
    channel.queue_declare("big", durable=True)
    channel.confirm_delivery()
    try:
        for number in range(MESSAGES):
            channel.basic_publish("", "big", b"%06d" % number + bytes(BODY_BYTES), PERSISTENT)
            confirmed.append(number)
    except pika.exceptions.AMQPError:
        pass  # the broker was stopped


def consume(channel: Any, count: int) -> list[int]:
    bodies: list[int] = []

    def next_one() -> bool | None:
        method, _, body = channel.basic_get("big", auto_ack=True)
        if method is not None:
            bodies.append(int(body[:6]))
        return True if len(bodies) >= count else None

    eventually(next_one, f"{count} messages", seconds=40)
    return bodies
