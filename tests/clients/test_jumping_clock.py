"""A wall clock that jumps by days: messages expire when their time has passed, heartbeats count seconds that did."""

import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pika
import pytest

from tests.clients.one_speed import at_one_speed
from tests.clients.running_broker import RunningBroker
from tests.clients.waiting import eventually

pytestmark = at_one_speed

LIBRARIES: Final = "/usr/lib/*/faketime/libfaketime.so.1"
DAY_SECONDS: Final = 86_400
HEARTBEAT_SECONDS: Final = 1


class JumpingBroker(RunningBroker):
    """A broker whose wall clock is set by us; what counts seconds since the machine was started is left alone."""

    def __init__(self, home: Path, library: Path) -> None:
        self._offset = home / "offset"
        self.jump(0)
        super().__init__(
            home,
            shards=1,
            extra={
                "LD_PRELOAD": str(library),
                "FAKETIME_TIMESTAMP_FILE": str(self._offset),
                "FAKETIME_NO_CACHE": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                "DONT_FAKE_MONOTONIC": "1",
            },
        )

    def jump(self, seconds: int) -> None:
        """So far from the true time."""
        self._offset.write_text(f"{seconds:+d}\n")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JumpingBroker]:
    libraries = sorted(Path("/").glob(LIBRARIES.lstrip("/")))
    if not libraries:
        pytest.skip(f"no {LIBRARIES}: on Debian, apt install libfaketime")
    broker = JumpingBroker(tmp_path_factory.mktemp("jumping"), libraries[0])
    try:
        broker.start()
        yield broker
        assert broker.stop() == 0
        broker.assert_no_traceback()
    finally:
        broker.end_by_force()


def connect(broker: RunningBroker) -> Any:
    return pika.BlockingConnection(
        pika.ConnectionParameters("127.0.0.1", broker.port, heartbeat=HEARTBEAT_SECONDS, blocked_connection_timeout=10)
    )


def test_the_clock_of_this_broker_does_jump(broker: JumpingBroker) -> None:
    """Otherwise the tests below would show nothing: its log tells the time it believes in."""
    broker.jump(10 * DAY_SECONDS)
    try:
        start = len(broker.log)
        broker.process.send_signal(signal.SIGUSR1)
        line = broker.await_log("running compaction", after=start)
    finally:
        broker.jump(0)
    today, tomorrow = time.strftime("%Y-%m-%d", time.gmtime()), time.strftime("%Y-%m-%d", time.gmtime(time.time() + 60))
    assert line[:10] not in (today, tomorrow)


def test_jumps_neither_expire_messages_nor_keep_them_nor_count_as_silence(broker: JumpingBroker) -> None:
    with closing(connect(broker)) as connection:
        channel = connection.channel()
        for queue, ttl in (("long", 3_600_000), ("short", 2_500)):
            channel.queue_declare(queue, arguments={"x-message-ttl": ttl})
            channel.basic_publish("", queue, b"x")
        try:
            for seconds in (DAY_SECONDS, -DAY_SECONDS, 400 * DAY_SECONDS):
                broker.jump(seconds)
                assert (depth(channel, "long"), depth(channel, "short")) == (1, 1)
                connection.sleep(0.7 * HEARTBEAT_SECONDS)
            eventually(lambda: depth(channel, "short") == 0, "the short-lived message expired")
            assert depth(channel, "long") == 1
            assert connection.is_open
        finally:
            broker.jump(0)


def depth(channel: Any, queue: str) -> int:
    return int(channel.queue_declare(queue, passive=True).method.message_count)
