"""What an operator asks a running broker, and what the broker puts up with on its control socket."""

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pika
import pytest

from ipc.data_directory import DataDirectory
from ipc.errors import ExitCode
from ipc.limits import CONTROL_CLIENTS_MAX, CONTROL_REQUEST_BYTES_MAX, SHARD_ANSWER_SECONDS_MAX
from runtime.control.place import connect
from tests.clients.running_broker import ROOT, RunningBroker, environment, run_command
from tests.clients.waiting import eventually

StartBroker = Callable[..., RunningBroker]
Line = dict[str, Any]


class Asker:
    """A client of the control socket that may say anything."""

    def __init__(self, data: Path, *, seconds: float = 20.0) -> None:
        self.socket = connect(DataDirectory(data).control, seconds=seconds)
        self._file = self.socket.makefile("rb")
        self.first = self.hear()

    def say(self, *lines: bytes) -> None:
        self.socket.sendall(b"".join(line + b"\n" for line in lines))

    def hear(self) -> Line | None:
        """The next line; None at the end of the conversation."""
        line = self._file.readline()
        heard: Line | None = json.loads(line) if line else None
        return heard

    def answer(self) -> list[Line]:
        """Lines up to the one that ends an answer, that one included."""
        lines: list[Line] = []
        while not lines or lines[-1]["say"] not in ("end", "refused"):
            line = self.hear()
            assert line is not None, f"the broker ended the conversation after {lines}"
            lines.append(line)
        return lines

    def ask(self, what: str, **fields: object) -> list[Line]:
        self.say(json.dumps({"ask": what, **fields}).encode())
        return self.answer()

    def close(self) -> None:
        self._file.close()
        self.socket.close()


@contextmanager
def asker(broker: RunningBroker) -> Iterator[Asker]:
    with closing(welcome(broker)) as made:
        yield made


def ask(broker: RunningBroker, what: str, **fields: object) -> list[Line]:
    with asker(broker) as made:
        return made.ask(what, **fields)


def of(lines: list[Line], say: str) -> list[Line]:
    return [line for line in lines if line["say"] == say]


def connection(broker: RunningBroker, vhost: str = "/") -> Any:
    return pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", broker.port, vhost))


def command(broker: RunningBroker, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return run_command(*arguments, "--data-dir", str(broker.data))


@contextmanager
def stopped(broker: RunningBroker, shard: int) -> Iterator[int]:
    """A shard that hears nothing until this ends."""
    pid = broker.ready.shards[shard]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield pid
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


# commands -------------------------------------------------------------------------------------------------------------


def test_status_tells_how_broker_and_shards_are(broker: RunningBroker) -> None:
    with closing(connection(broker)):
        told = command(broker, "status")
        lines = json.loads(broker.command("status", "--json"))

    assert told.returncode == 0, told.stderr
    assert "ready" in told.stdout
    assert str(broker.data) in told.stdout
    (overall,) = of(lines, "broker")
    assert (overall["pid"], overall["state"], overall["shards"]) == (broker.process.pid, "ready", 2)
    shards = of(lines, "shard")
    assert {line["shard"]: line["pid"] for line in shards} == broker.ready.shards
    assert sum(line["connections"] for line in shards) >= 1
    assert sum(line["vhosts"] for line in shards) >= 1
    assert lines[-1] == {"say": "end", "silent": []}


def test_status_can_insist_on_a_broker_that_serves(new_broker: StartBroker) -> None:
    """What a container's engine asks: a broker whose clients have not left yet is there, but takes no others."""
    broker = new_broker().start()
    assert command(broker, "status", "--ready").returncode == 0

    with stopped(broker, 0), asker(broker) as somebody:
        broker.process.send_signal(signal.SIGTERM)
        eventually(lambda: of(somebody.ask("status"), "broker")[0]["state"] == "draining", "it drains")
        told = command(broker, "status", "--ready")
    assert told.returncode == ExitCode.NOT_READY, told.stderr
    assert "not ready but draining" in told.stderr
    assert broker.process.wait(20) == 0


def test_memory_names_a_queue_that_holds_much_and_what_for(broker: RunningBroker, name: str) -> None:
    with closing(connection(broker)) as client:
        channel = client.channel()
        channel.queue_declare(name, exclusive=True)
        for number in range(300):
            channel.queue_bind(name, "amq.topic", f"{name}.{number}")

        told = command(broker, "memory", "--top", "100")
        lines = json.loads(broker.command("memory", "--top", "100", "--json"))

    assert told.returncode == 0, told.stderr
    assert name in told.stdout
    assert "bindings" in told.stdout
    held = [one for line in of(lines, "largest") if line["sort"] == "queue" for one in line["held"]]
    (ours,) = [one for one in held if one["name"] == name]
    assert ours["vhost"] == "/"
    assert ours["by_kind"]["bindings"] > 9_000
    assert ours["size_bytes"] == sum(ours["by_kind"].values())
    sizes = [one["size_bytes"] for one in held]
    assert sizes == sorted(sizes, reverse=True)
    for shard in of(lines, "shard-memory"):
        assert 0 < sum(shard["by_kind"].values()) < shard["reading"]["private"] < shard["reading"]["rss"]
    assert {line["role"] for line in of(lines, "process-memory")} == {
        "supervisor",
        "template",
    }


def test_memory_of_one_vhost_counts_nothing_of_another(broker: RunningBroker, name: str) -> None:
    broker.add_vhost(name, shard=1)
    eventually(lambda: f'"{name}"' in json.dumps(ask(broker, "memory", top=100)), "the vhost in the account")
    with closing(connection(broker)) as client, closing(connection(broker, name)) as other:
        client.channel().queue_declare(f"{name}-default", exclusive=True)
        other.channel().queue_declare(f"{name}-own", exclusive=True)

        lines = json.loads(broker.command("memory", "--vhost", name, "--json"))
        told = command(broker, "memory", "--vhost", name)

    held = [one for line in of(lines, "largest") for one in line["held"]]
    assert {one["vhost"] for one in held} == {name}
    assert f"{name}-own" in told.stdout
    assert f"{name}-default" not in told.stdout


def test_the_number_that_is_named_is_bounded(broker: RunningBroker) -> None:
    assert command(broker, "memory", "--top", "101").returncode == ExitCode.USAGE
    assert of(ask(broker, "memory", top=0), "largest") == []


def test_a_pass_frees_what_a_dry_run_foretold(new_broker: StartBroker) -> None:
    broker = new_broker(shards=1).start()
    with closing(connection(broker)) as client:
        channel = client.channel()
        for number in range(2000):
            channel.queue_declare(f"q{number}")
        for number in range(1, 2000):
            channel.queue_delete(f"q{number}")
        channel.basic_qos(prefetch_count=1)
        foretold, own = of(ask(broker, "dry-run", level="trim"), "reclaimable")
        again, _own = of(ask(broker, "dry-run", level="trim"), "reclaimable")
        told = command(broker, "memory", "--dry-run")
        done = command(broker, "memory", "--compact", "trim", "--json")

    assert foretold["by_kind"]["dict"] > 50_000
    assert again["by_kind"] == foretold["by_kind"]
    assert foretold["by_vhost"]["/"] > 50_000
    assert (own["role"], own["shard"]) == ("supervisor", None)
    assert "a pass of level trim would free" in told.stdout
    reports = of(json.loads(done.stdout), "reclaimed")
    (shard,) = [report for report in reports if report["shard"] == 0]
    (supervisor,) = [report for report in reports if report["role"] == "supervisor"]
    assert supervisor["by_kind"].items() >= own["by_kind"].items()
    assert shard["by_kind"] == foretold["by_kind"]
    assert shard["by_vhost"] == foretold["by_vhost"]
    assert broker.stop() == 0


def test_passes_and_their_counters_are_kept(new_broker: StartBroker) -> None:
    broker = new_broker().start()
    none = command(broker, "memory", "passes")
    assert "no passes" in none.stdout

    done = command(broker, "memory", "--compact")
    os.kill(broker.process.pid, signal.SIGUSR1)
    eventually(lambda: len(of(ask(broker, "passes"), "reclaimed")) == 6, "both passes, each with three reports")

    assert done.returncode == 0, done.stderr
    assert "pass 1 of level release" in done.stdout
    listed = command(broker, "memory", "passes").stdout.splitlines()
    assert [line.split()[3] for line in listed[1:]] == ["control", "SIGUSR1"]
    assert len(of(ask(broker, "passes", last=1), "pass")) == 1
    (counters,) = of(json.loads(command(broker, "memory", "metrics").stdout), "counters")
    assert counters["passes"] == [
        {"trigger": "SIGUSR1", "level": "release", "count": 1},
        {"trigger": "control", "level": "release", "count": 1},
    ]
    assert counters["pressure_source"]
    assert counters["slice_seconds_longest"] > 0
    assert broker.stop() == 0


def test_commands_tell_what_is_wrong_and_end_with_its_code(new_broker: StartBroker, tmp_path: Path) -> None:
    nothing = run_command("status", "--data-dir", str(tmp_path / "nothing"))
    assert nothing.returncode == ExitCode.NO_BROKER
    assert "no broker runs" in nothing.stderr
    broker = new_broker(shards=1).start()
    assert command(broker, "memory", "--dry-run", "trim", "--compact", "trim").returncode == ExitCode.USAGE
    assert command(broker, "memory", "--compact", "hard").returncode == ExitCode.USAGE
    assert broker.stop() == 0
    ended = command(broker, "memory")
    assert ended.returncode == ExitCode.NO_BROKER
    assert not DataDirectory(broker.data).control.exists()


# the socket -----------------------------------------------------------------------------------------------------------


def test_the_socket_is_for_the_brokers_user_alone(broker: RunningBroker) -> None:
    found = DataDirectory(broker.data).control.stat()

    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert found.st_uid == os.getuid()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_somebody_else_is_told_whose_it_is(new_broker: StartBroker, tmp_path_factory: pytest.TempPathFactory) -> None:
    broker = new_broker(shards=1).start()
    script = (
        "import os, sys; from ipc.data_directory import DataDirectory; from ipc.errors import ControlFailed;"
        "from runtime.control.client import conversation; os.setuid(65534)\n"
        "try:\n  with conversation(DataDirectory(sys.argv[1])): pass\n"
        "except ControlFailed as failed: print(failed); sys.exit(failed.exit_code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(broker.data)],
        env=environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert done.returncode == ExitCode.CONTROL_DENIED, done.stderr
    assert "the user the broker runs as" in done.stdout
    assert broker.stop() == 0


def test_a_data_directory_with_a_long_path_has_one_too(new_broker: StartBroker) -> None:
    broker = new_broker(shards=1)
    broker.data = broker.data / ("d" * 100) / ("e" * 100)
    broker.start()

    assert ask(broker, "status")[-1] == {"say": "end", "silent": []}
    assert command(broker, "status").returncode == 0
    assert broker.stop() == 0


def test_a_killed_supervisor_leaves_a_socket_that_is_replaced(new_broker: StartBroker) -> None:
    broker = new_broker().start()
    with asker(broker) as before:
        broker.kill()
        assert before.hear() is None
    assert DataDirectory(broker.data).control.exists()
    refused = command(broker, "status")
    assert refused.returncode == ExitCode.NO_BROKER
    assert "no broker runs" in refused.stderr

    broker.start()

    assert ask(broker, "status")[-1] == {"say": "end", "silent": []}
    assert broker.stop() == 0


def test_a_broker_that_can_have_no_socket_serves_its_clients_all_the_same(new_broker: StartBroker) -> None:
    broker = new_broker(shards=1)
    broker.start()
    assert broker.stop() == 0
    DataDirectory(broker.data).control.mkdir()

    broker.start()

    broker.await_log("no control socket")
    connection(broker).close()
    refused = command(broker, "status")
    assert refused.returncode != 0
    assert f"process {broker.process.pid}" in refused.stderr
    assert broker.stop() == 0


# what it puts up with -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"status",
        b"GET / HTTP/1.1",
        b"\xff\xfe\x00",
        b"[" * 8000,
        b'{"ask":"shutdown"}',
        b'{"ask":"memory","top":1e99}',
        b'{"ask":"memory","vhost":7}',
        b'{"ask":"status","now":true}',
        b'{"ask":"compact","level":"everything"}',
    ],
)
def test_wrong_input_is_refused_and_the_conversation_goes_on(broker: RunningBroker, line: bytes) -> None:
    with asker(broker) as somebody:
        somebody.say(line)
        (refused,) = somebody.answer()
        assert (refused["say"], refused["code"]) == ("refused", "bad-request")
        assert refused["text"]
        assert somebody.ask("status")[-1] == {"say": "end", "silent": []}


def test_a_vhost_that_does_not_exist_holds_nothing(broker: RunningBroker) -> None:
    lines = ask(broker, "memory", vhost="no such vhost")

    assert of(lines, "largest") == []
    assert all(line["by_kind"] == {} for line in of(lines, "shard-memory"))
    assert lines[-1]["silent"] == []
    told = command(broker, "memory", "--vhost", "no such vhost")
    assert told.returncode == ExitCode.FAILED
    assert "'no such vhost'" in told.stderr


def test_a_request_without_end_is_refused_and_the_broker_goes_on(broker: RunningBroker) -> None:
    with asker(broker) as endless:
        endless.socket.sendall(b"x" * (CONTROL_REQUEST_BYTES_MAX + 1))
        refused = endless.hear()
        assert refused is not None
        assert refused["code"] == "too-large"
    assert ask(broker, "status")[-1]["silent"] == []


def welcome(broker: RunningBroker) -> Asker:
    """A client that was let in; those that left are noticed in their own time."""

    def attempt() -> Asker | None:
        made = Asker(broker.data)
        if made.first is not None and made.first["say"] == "hello":
            return made
        made.close()
        return None

    return eventually(attempt, "room for one more")


def test_clients_that_say_nothing_keep_nobody_from_asking(broker: RunningBroker) -> None:
    silent = [welcome(broker) for _ in range(CONTROL_CLIENTS_MAX - 1)]
    try:
        with closing(welcome(broker)) as one_more:
            assert one_more.ask("status")[-1]["silent"] == []
            with closing(Asker(broker.data)) as refused:
                assert refused.first is not None
                assert refused.first["code"] == "busy"
                assert refused.hear() is None
    finally:
        for one in silent:
            one.close()
    welcome(broker).close()


def test_one_who_asks_much_and_reads_nothing_keeps_nobody_from_asking(broker: RunningBroker) -> None:
    with asker(broker) as greedy:
        greedy.say(*[b'{"ask":"memory","top":100}'] * 500)
        for _ in range(3):
            assert ask(broker, "memory")[-1]["silent"] == []


def test_a_client_that_leaves_in_the_middle_of_its_answer_harms_nobody(broker: RunningBroker) -> None:
    for _ in range(10):
        with asker(broker) as fleeting:
            fleeting.say(b'{"ask":"memory","top":100}', b'{"ask":"compact"}')
    assert ask(broker, "status")[-1]["silent"] == []


# under load, and with shards in trouble -------------------------------------------------------------------------------


def test_many_ask_at_once_while_messages_flow(broker: RunningBroker, name: str) -> None:
    answers: list[list[Line]] = []
    is_over = threading.Event()

    def watch() -> None:
        with asker(broker) as watching:
            while not is_over.is_set():
                answers.extend(map(watching.ask, ("memory", "status", "metrics", "dry-run")))

    watchers = [threading.Thread(target=watch) for _ in range(8)]
    with closing(connection(broker)) as client:
        channel = client.channel()
        channel.queue_declare(name, exclusive=True)
        for watcher in watchers:
            watcher.start()
        try:
            for _ in range(20):
                for number in range(200):
                    channel.basic_publish("", name, b"%d" % number)
                for number in range(200):
                    got = None
                    while got is None:
                        got = channel.basic_get(name, auto_ack=True)[2]
                    assert got == b"%d" % number
        finally:
            is_over.set()
            for watcher in watchers:
                watcher.join(30)
    assert len(answers) >= 4 * len(watchers)
    assert {lines[-1]["say"] for lines in answers} == {"end"}
    assert all(lines[-1].get("silent", []) == [] for lines in answers)


def test_a_shard_that_does_not_answer_is_named_and_the_others_are_heard(new_broker: StartBroker) -> None:
    broker = new_broker().start()
    with stopped(broker, 1):
        told = command(broker, "memory")
        lines = ask(broker, "status")
    assert told.returncode == ExitCode.ANSWER_INCOMPLETE
    assert "shard 1 is missing: it did not answer within 5 seconds" in told.stderr
    assert "shard 0" in told.stdout
    assert [line["shard"] for line in of(lines, "shard")] == [0]
    assert lines[-1]["silent"] == [{"shard": 1, "reason": "it did not answer within 5 seconds"}]

    assert ask(broker, "status")[-1]["silent"] == []
    assert broker.stop() == 0


def test_a_shard_that_is_killed_while_asked_is_not_waited_for(new_broker: StartBroker) -> None:
    broker = new_broker().start()
    with asker(broker) as somebody, stopped(broker, 0) as pid:
        somebody.say(b'{"ask":"memory"}')
        began = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        end = somebody.answer()[-1]
        assert [line["shard"] for line in end["silent"]] == [0]
        assert time.monotonic() - began < SHARD_ANSWER_SECONDS_MAX
        eventually(lambda: somebody.ask("status")[-1]["silent"] == [], "the shard started again")
    assert broker.stop() == 0
