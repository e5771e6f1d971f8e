"""The process behind the API: there while somebody asks, and no matter to anybody else."""

import re
import socket
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pika
import psutil
import pytest

from ipc.memory_reading import read_memory_of
from runtime.auth.directory import FORMAT
from tests.clients.running_broker import RunningBroker
from tests.clients.waiting import eventually
from tests.management.api import LOOPBACK, Api
from tests.management.test_log import listening

pytestmark = pytest.mark.process


def start(home: Path, *settings: str) -> RunningBroker:
    pairs = ("management.port=0", "management.metrics_port=-1", *settings)
    arguments = tuple(word for pair in pairs for word in ("--set", pair))
    return RunningBroker(home, shards=1, arguments=arguments).start()


def management_pid(broker: RunningBroker) -> int | None:
    for child in psutil.Process(broker.ready.supervisor).children():
        try:
            if "runtime.management" in child.cmdline():
                return child.pid
        except psutil.Error:
            continue
    return None


def test_it_comes_with_the_first_request_and_goes_when_nobody_asks(tmp_path: Path) -> None:
    broker = start(tmp_path, "management.idle_seconds=1")
    try:
        assert management_pid(broker) is None
        assert Api(broker.http_port).get("/whoami").status == 200

        eventually(lambda: management_pid(broker) is None, "the process ends", seconds=20)

        assert Api(broker.http_port).get("/whoami").status == 200
        assert broker.stop() == 0
        broker.assert_no_traceback()
    finally:
        broker.end_by_force()


def test_its_sudden_end_costs_no_client_anything(tmp_path: Path) -> None:
    broker = start(tmp_path)
    try:
        with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
            channel = connection.channel()
            channel.queue_declare("q")
            assert Api(broker.http_port).get("/whoami").status == 200
            pid = management_pid(broker)
            assert pid is not None

            psutil.Process(pid).kill()

            channel.basic_publish("", "q", b"on it goes")
            assert channel.basic_get("q", auto_ack=True)[2] == b"on it goes"
        assert eventually(lambda: _asked(broker), "another one answers", seconds=30) == 200
        assert broker.stop() == 0
    finally:
        broker.end_by_force()


def _asked(broker: RunningBroker) -> int | None:
    try:
        return Api(broker.http_port).get("/whoami").status
    except OSError:
        return None  # it had accepted us before it died


def test_who_asks_while_it_cannot_be_started_is_told_so(tmp_path: Path) -> None:
    """Here because the directory is of another format for a while; AMQP goes on, and the API when the cause is gone."""
    broker = start(tmp_path)
    try:
        pretend_format(broker, FORMAT + 1)
        answers = [Api(broker.http_port).get("/whoami") for _ in range(6)]
        with slow_client(broker), slow_client(broker):
            answers.append(Api(broker.http_port).get("/overview"))
        pika.BlockingConnection(pika.URLParameters(broker.url)).close()
        pretend_format(broker, FORMAT)

        assert [answer.status for answer in answers] == [503] * 7
        for answer in answers:
            assert answer.body["error"] == "unavailable"
            assert "cannot be started" in answer.body["reason"]
            assert int(answer.headers["retry-after"]) > 0
            assert answer.headers["x-content-type-options"] == "nosniff"
        assert eventually(lambda: _asked(broker) == 200, "the API is there", seconds=30)
        assert broker.stop() == 0
        broker.assert_no_traceback()
        assert "management process cannot start" in broker.log
    finally:
        broker.end_by_force()


def pretend_format(broker: RunningBroker, number: int) -> None:
    with closing(sqlite3.connect(broker.data / "directory.sqlite")) as directory:
        directory.execute(f"PRAGMA user_version = {number}")


def slow_client(broker: RunningBroker) -> socket.socket:
    """Comes, and says nothing."""
    return socket.create_connection((LOOPBACK, broker.http_port))


def test_a_taken_port_keeps_the_api_away_and_not_the_broker(tmp_path: Path) -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        broker = start(tmp_path, f"management.port={port}", "management.bind=127.0.0.1")
        try:
            pika.BlockingConnection(pika.URLParameters(broker.url)).close()
            assert broker.ready.http == ()
            broker.await_log("no management API yet")

            taken.close()

            assert eventually(lambda: _status(port), "the API is there", seconds=30) == 200
            assert broker.stop() == 0
        finally:
            broker.end_by_force()


def _status(port: int) -> int | None:
    try:
        return Api(port).get("/whoami").status
    except OSError:
        return None


def test_an_address_that_is_none_ends_the_start(tmp_path: Path) -> None:
    broker = RunningBroker(
        tmp_path, arguments=("--set", "management.bind=nowhere.invalid", "--set", "management.port=0")
    )
    broker.spawn()
    try:
        assert broker.process.wait(30) == 10
        assert "management.bind" in broker.log
    finally:
        broker.end_by_force()


def test_who_guesses_passwords_has_to_wait_whichever_way_it_comes(tmp_path: Path) -> None:
    """AMQP's and HTTP's guesses count together; what was right a moment ago is known, and stays right."""
    broker = RunningBroker(tmp_path, arguments=("--set", "management.port=0", "--set", "users.login_failures_max=5"))
    broker.start()
    try:
        right, wrong = Api(broker.http_port), Api(broker.http_port, "guest", "wrong")
        assert right.get("/whoami").status == 200
        for _ in range(2):
            assert amqp_refusal(broker, "wrong") == 403
        answers = [wrong.get("/whoami") for _ in range(4)]
        unchecked = amqp_refusal(broker, "guest")

        assert [answer.status for answer in answers] == [401] * 3 + [429]
        assert answers[-1].body["error"] == "too_many_requests"
        assert 0 < int(answers[-1].headers["retry-after"]) <= 30
        assert unchecked == 403
        assert right.get("/whoami").status == 200
        assert broker.stop() == 0
    finally:
        broker.end_by_force()


def amqp_refusal(broker: RunningBroker, password: str) -> int:
    """The reply code that a client with this password of guest's is sent away with."""
    credentials = pika.PlainCredentials("guest", password)
    with pytest.raises(pika.exceptions.ProbableAuthenticationError) as refused:
        pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", broker.port, credentials=credentials))
    found = re.search(r"\b403\b", str(refused.value))
    return 0 if found is None else int(found[0])


# giving memory back ---------------------------------------------------------------------------------------------------

QUEUES = 4000


def private(broker: RunningBroker) -> int:
    """Of the process, which has to be there; bytes."""
    pid = management_pid(broker)
    reading = None if pid is None else read_memory_of(pid)
    assert reading is not None
    return reading.private


def grown(broker: RunningBroker) -> tuple[int, int]:
    """Have it list more than it ever did; its private bytes before and after."""
    with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
        channel = connection.channel()
        for number in range(QUEUES):
            channel.queue_declare(f"q{number}")
    api = Api(broker.http_port)
    assert api.get("/whoami").status == 200
    before = private(broker)
    for _ in range(3):
        assert len(api.get("/queues").body) == QUEUES
    return before, private(broker)


def test_what_answers_took_comes_back_with_a_pass(tmp_path: Path) -> None:
    broker = start(tmp_path)
    try:
        before, peak = grown(broker)

        broker.command("memory", "--compact", "release")

        assert private(broker) - before < (peak - before) / 3
        (done,) = Api(broker.http_port).get("/memory/passes").body
        (report,) = (one for one in done["reclaimed"] if one["role"] == "management")
        assert report["before"]["private"] - report["after"]["private"] > (peak - before) / 2
        assert re.search(r"^management +\d+", broker.command("memory"), re.MULTILINE)
        assert broker.stop() == 0
        broker.assert_no_traceback()
    finally:
        broker.end_by_force()


def test_what_answers_took_comes_back_when_nobody_asks_any_more(tmp_path: Path) -> None:
    broker = start(tmp_path, "compaction.idle_trim_seconds=1")
    try:
        before, peak = grown(broker)

        eventually(lambda: private(broker) - before < (peak - before) / 3, "it trims itself", seconds=20)

        assert broker.stop() == 0
        broker.assert_no_traceback()
    finally:
        broker.end_by_force()


def test_where_memory_is_critical_it_ends_and_comes_with_the_next_request(tmp_path: Path) -> None:
    broker = start(tmp_path, "main.shard_restart_seconds_max=40", "main.shard_restart_seconds_min=40")
    try:
        api = Api(broker.http_port)
        asked = api.post("/memory/compact", {"level": "critical"})
        first = management_pid(broker)

        told = broker.command("memory", "--compact", "critical")

        assert asked.status == 200, "who asks over the API is answered first"
        assert first is not None
        assert re.search(r"^management +.* 0 B ", told, re.MULTILINE)
        eventually(lambda: management_pid(broker) is None, "the process ends", seconds=20)
        ended_at = time.monotonic()
        assert api.get("/whoami").status == 200
        assert time.monotonic() - ended_at < 30, "it waited as after a failure"
        assert management_pid(broker) != first
        assert broker.stop() == 0
        broker.assert_no_traceback()
    finally:
        broker.end_by_force()


def test_where_memory_is_critical_who_listens_to_a_stream_goes_on_listening(tmp_path: Path) -> None:
    broker = start(tmp_path)
    try:
        with listening(Api(broker.http_port)) as listener:
            told = broker.command("memory", "--compact", "critical")
            broker.command("memory", "--compact", "trim")

            assert listener.await_message("memory reclaimed")
            assert not re.search(r"^management +.* 0 B ", told, re.MULTILINE)
        assert broker.stop() == 0
        broker.assert_no_traceback()
    finally:
        broker.end_by_force()
