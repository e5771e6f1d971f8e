"""`ebbmq perf` as a user calls it, against a real broker: what it counts, what it leaves behind, what it says."""

import json
import signal
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.clients.running_broker import COMMAND, ROOT, RunningBroker, environment, run_command
from tests.clients.waiting import eventually

pytestmark = pytest.mark.process


def summary(broker: RunningBroker, *arguments: str) -> Any:
    """What a scenario says in JSON; anything but success is a failure."""
    done = run_command("perf", *arguments, "--uri", broker.url, "--json", "--quiet")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refusal(*arguments: str) -> str:
    """The one sentence of a run that fails."""
    done = run_command("perf", *arguments)
    assert done.returncode != 0, done.stdout
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


def start(broker: RunningBroker, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*COMMAND, "perf", *arguments, "--uri", broker.url],
        env=environment(),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


# throughput -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("-V",),
        ("-V", "-s", "0"),
        ("-V", "-s", "300000"),
        ("-V", "-a", "1", "-P", "10", "-c", "10"),
        ("-V", "-a", "100", "-P", "1000", "-c", "1000", "-p"),
        ("-V", "-x", "7", "-c", "1", "--queue-pattern", "q-%", "--queue-pattern-to", "3"),
        ("-V", "-g", "-a", "2"),
        ("-e", "amq.topic", "-k", "a.b"),
        ("--queue-args", '{"x-max-length": 100000}', "--properties", '{"headers": {"a": 1}, "priority": 3}'),
        ("-r", "100000", "-R", "100000", "-l"),
    ],
    ids=" ".join,
)
def test_all_that_is_published_is_consumed_and_counted(
    loaded_broker: RunningBroker, arguments: tuple[str, ...]
) -> None:
    found = summary(loaded_broker, "throughput", "-C", "301", "-D", "301", *arguments)

    assert (found["published"], found["consumed"], found["refused"]) == (301, 301, 0)
    assert found["confirmed"] == (301 if "-c" in arguments else 0)
    assert found.get("latency_count", 301) == 301
    assert found["avg_consume_rate"] > 0


def test_many_workers_in_few_processes_all_get_their_share(loaded_broker: RunningBroker) -> None:
    found = summary(loaded_broker, "throughput", "-x", "20", "-y", "20", "-c", "10", "-z", "1", "--processes", "2")

    assert [worker["name"] for worker in found["workers"]] == [
        "publishers 1 to 10", "publishers 11 to 20", "consumers 1 to 10", "consumers 11 to 20",
    ]  # fmt: skip
    assert found["published_min"] > 0
    assert found["consumed_min"] > 0
    assert found["elapsed_seconds"] == pytest.approx(1, abs=0.5)


def test_a_rate_is_kept_and_its_latencies_are_told(loaded_broker: RunningBroker) -> None:
    found = summary(loaded_broker, "throughput", "-r", "1000", "-l", "-z", "1")

    assert found["avg_pub_rate"] == pytest.approx(1000, rel=0.1)
    assert 0 < found["latency_p50_us"] <= found["latency_p99_us"] <= found["latency_max_us"]
    assert found["tool_cpu_seconds"] > 0


def test_a_queue_that_is_kept_is_found_by_the_next_run(loaded_broker: RunningBroker) -> None:
    queue = ("-u", "kept")

    summary(loaded_broker, "throughput", "-y", "0", "-C", "100", "--keep", *queue)
    found = summary(loaded_broker, "throughput", "-x", "0", "-D", "60", "-a", "7", *queue)
    rest = summary(loaded_broker, "throughput", "-x", "0", "-D", "40", *queue)

    assert (found["consumed"], rest["consumed"]) == (60, 40)


def test_a_queue_of_the_run_goes_with_it(loaded_broker: RunningBroker) -> None:
    summary(loaded_broker, "throughput", "-y", "0", "-C", "10", "-p", "-u", "gone")

    found = summary(loaded_broker, "throughput", "-x", "0", "-z", "0.3", "-u", "gone")

    assert found["consumed"] == 0


# churns and counts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scenario", "variants"),
    [
        ("connection-churn", ["connection"]),
        ("channel-churn", ["channel"]),
        ("queue-churn", ["transient", "durable"]),
        ("bind-churn", ["transient", "durable"]),
        ("consumer-churn", ["consumer"]),
    ],
)
def test_each_churn_counts_what_came_and_went(loaded_broker: RunningBroker, scenario: str, variants: list[str]) -> None:
    found = summary(loaded_broker, scenario, "-x", "3", "-z", "0.3")

    assert list(found) == variants
    for variant in variants:
        assert found[variant]["operations"] > 3
        assert found[variant]["avg_rate"] == pytest.approx(
            found[variant]["operations"] / found[variant]["elapsed_seconds"], rel=0.01
        )


def test_connections_and_queues_are_held_and_counted(loaded_broker: RunningBroker) -> None:
    connections = summary(loaded_broker, "connection-count", "-x", "20", "-c", "2", "-C", "1", "-z", "0.1")
    queues = run_command("perf", "queue-count", "-q", "50", "-D", "-n", "-z", "0.1", "-j", "--uri", loaded_broker.url)

    assert (connections["connections"], connections["lost"]) == (20, 0)
    assert json.loads(queues.stdout)["queues"] == 50


# ends -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("scenario", [("throughput", "-x", "3"), ("queue-churn",), ("connection-count",)], ids=" ".join)
def test_asked_to_end_it_says_what_there_was_until_then(
    loaded_broker: RunningBroker, scenario: tuple[str, ...], number: signal.Signals
) -> None:
    running = start(loaded_broker, *scenario)
    assert running.stdout is not None
    first = running.stdout.readline()  # it is at work
    running.send_signal(number)

    output, errors = running.communicate(timeout=20)

    assert first
    assert (running.returncode, errors) == (0, "")
    assert "Summary:" in output


@pytest.mark.parametrize(
    "scenario", [("throughput", "-c", "10"), ("throughput", "-r", "10"), ("connection-churn", "-x", "2")], ids=" ".join
)
def test_a_broker_that_dies_is_one_sentence(tmp_path: Path, scenario: tuple[str, ...]) -> None:
    broker = RunningBroker(tmp_path, shards=1)
    try:
        broker.start()
        running = start(broker, *scenario)
        assert running.stdout is not None
        running.stdout.readline()
        broker.kill()

        _, errors = running.communicate(timeout=20)
    finally:
        broker.end_by_force()

    assert running.returncode == 1
    assert len(errors.splitlines()) == 1
    assert errors.startswith("Error: ")


# refusals -------------------------------------------------------------------------------------------------------------


def test_a_broker_that_is_not_there_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    assert "Connection refused" in refusal("throughput", "--uri", f"amqp://127.0.0.1:{port}")


def test_a_server_that_speaks_something_else_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(64)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        answering = threading.Thread(target=answer)
        answering.start()
        sentence = refusal("channel-churn", "--uri", f"amqp://127.0.0.1:{server.getsockname()[1]}")
        answering.join()

    assert "does not speak AMQP 0-9-1" in sentence


def test_wrong_accounts_vhosts_and_exchanges_are_one_sentence_each(loaded_broker: RunningBroker) -> None:
    address = f"127.0.0.1:{loaded_broker.port}"

    assert "refused the login of user 'guest'" in refusal("throughput", "--uri", f"amqp://guest:wrong@{address}")
    assert "refused the login" in refusal("connection-churn", "--uri", f"amqp://guest:wrong@{address}")
    assert "refused virtual host 'nope'" in refusal("throughput", "--uri", f"amqp://{address}/nope")
    assert "404" in refusal("throughput", "-e", "nope", "--uri", loaded_broker.url)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--uri", "http://host"),
        ("--queue-args", "{x"),
        ("--properties", '{"nope": 1}'),
        ("-x", "0", "-y", "0"),
        ("-a", "10", "-P", "5"),
        ("-l", "-s", "4"),
        ("-z", "nan"),
        ("-t", "10"),
        ("--queue-pattern", "no-percent-sign"),
    ],
    ids=" ".join,
)
def test_contradictory_options_are_usage_errors(arguments: tuple[str, ...]) -> None:
    done = run_command("perf", "throughput", *arguments)

    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("Error: ")


def test_a_run_leaves_no_process_behind(loaded_broker: RunningBroker) -> None:
    running = start(loaded_broker, "throughput", "-q")
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children")
    workers = eventually(lambda: children.read_text().split()[1:], "two workers")
    running.kill()
    running.communicate()

    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), "no workers", seconds=15)
