"""Commands for operators against a real broker: `ebbmqctl`, and RabbitMQ's `rabbitmqadmin` where it is installed."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.clients.running_broker import RunningBroker
from tests.management.ebbmqctl import Run, ctl

RABBITMQADMIN = shutil.which("rabbitmqadmin")


def test_queues_are_made_listed_and_deleted(run: Run) -> None:
    run("create_queue", "tools", "--durable", "--max-length", "5")

    assert "tools\t0\n" in run("list_queues", "name", "messages")
    listed = json.loads(run("list_queues", "name", "durable", "arguments", "--formatter", "json"))
    assert {"name": "tools", "durable": True, "arguments": {"x-max-length": 5}} in listed
    run("purge_queue", "tools")
    run("pause_queue", "tools")
    assert "tools,paused\n" in run("-f", "csv", "list_queues", "name", "state")
    run("resume_queue", "tools")
    run("delete_queue", "tools", "--if-empty")
    assert "tools" not in run("-q", "list_queues")


def test_a_user_comes_and_goes_with_all_it_may(run: Run) -> None:
    run("add_user", "tim", given="secret\n")
    run("set_user_tags", "tim", "monitoring")
    run("set_permissions", "tim", "^tim", ".*", ".*")
    run("set_topic_permissions", "tim", "amq.topic", "^a", "^b")
    run("set_user_limits", "tim", '{"max-channels": 7}')

    assert "tim\t[monitoring]\n" in run("list_users")
    assert "tim\t^tim\t.*\t.*\n" in run("list_permissions")
    assert "amq.topic\t^a\t^b\n" in run("list_user_topic_permissions", "tim")
    assert run("-q", "list_user_limits", "--user", "tim") == '{"max-channels":7}\n'
    run("change_password", "tim", given="other\n")
    run("clear_permissions", "tim")
    run("delete_user", "tim")
    assert "tim" not in run("list_users")


def test_what_is_laid_down_is_set_listed_and_taken_back(run: Run) -> None:
    run("set_policy", "short", "^s", '{"max-length": 3}', "--apply-to", "queues", "--priority", "2")
    run("set_operator_policy", "calm", ".*", '{"expires": 100000}')
    run("set_parameter", "federation-upstream", "up", '{"uri": "amqp://x"}')
    run("set_vhost_limits", '{"max-queues": 100}')

    assert "short" in run("list_policies")
    assert "calm" in run("list_operator_policies")
    assert "up" in run("list_parameters")
    assert "max-queues" in run("list_vhost_limits")
    for words in (
        ("clear_policy", "short"),
        ("clear_operator_policy", "calm"),
        ("clear_parameter", "federation-upstream", "up"),
        ("clear_vhost_limits",),
    ):
        run(*words)
    assert "max-queues" not in run("list_vhost_limits")


def test_definitions_go_out_and_come_back(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "definitions.json"
    run("create_exchange", "topic", "exported", "--durable")
    run("export_definitions", str(file))
    run("delete_exchange", "exported")

    run("import_definitions", str(file))

    assert "exported\ttopic\n" in run("list_exchanges")


def test_the_broker_says_how_it_is(run: Run) -> None:
    run("await_startup")
    run("ping")
    assert "disk free" in run("status")
    assert json.loads(run("status", "-f", "json"))["node"]["running"] is True
    assert "running_nodes" in run("cluster_status")
    assert run("shards").splitlines()[0].startswith("shard\tpid\tvhosts")
    assert "supervisor" in run("memory")
    compacted = run("compact", "trim").splitlines()
    assert "longest slice" in compacted[0]
    assert {line.split("\t")[0] for line in compacted[1:]} >= {"management", "supervisor", "shard 0"}
    assert "amqp" in run("list_listeners")
    run("list_connections")
    run("list_channels")
    run("list_consumers")
    run("list_bindings")


def test_a_vhost_is_added_moved_and_deleted(run: Run) -> None:
    run("add_vhost", "tooling")
    run("move_vhost", "tooling", "1")
    assert "tooling\n" in run("list_vhosts")
    run("delete_vhost", "tooling")
    assert "tooling" not in run("list_vhosts")


def test_over_http_it_asks_for_a_password(managed: RunningBroker) -> None:
    where = f"127.0.0.1:{managed.http_port}"
    assert ctl(managed, "--uri", f"http://guest:guest@{where}", "list_users").returncode == 0

    refused = ctl(managed, "--uri", f"http://guest:wrong@{where}", "list_users")

    assert (refused.returncode, refused.stderr) == (1, "Error: Login failed\n")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("no_such_command",), 2),
        (("delete_queue", "no-such-queue"), 1),
        (("set_policy", "p", "(", "{}"), 1),
        (("set_policy", "p", ".*", "no json"), 2),
        (("list_queues", "-p", "nowhere"), 1),
        (("compact", "much"), 2),
        (("move_vhost", "/", "9"), 1),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_a_code(
    managed: RunningBroker, words: tuple[str, ...], code: int
) -> None:
    done = ctl(managed, *words)

    assert done.returncode == code, done
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("Error: ")


def test_what_is_not_there_is_named(managed: RunningBroker) -> None:
    assert ctl(managed, "purge_queue", "no such queue").stderr == "Error: Not Found: queues / no such queue contents\n"
    assert ctl(managed, "export_definitions", "-p", "nowhere", "--vhost-only").stderr.endswith("definitions nowhere\n")


@pytest.mark.process
def test_it_says_when_no_broker_answers_and_ends_one_that_does(tmp_path: Path) -> None:
    broker = RunningBroker(tmp_path, shards=1).start()
    try:
        assert ctl(broker, "ping").returncode == 0
        assert ctl(broker, "drain").returncode == 0
        assert broker.process.wait(20) == 0
        gone = ctl(broker, "ping")
        assert gone.returncode == 18
        assert "does not answer" in gone.stderr
    finally:
        broker.end_by_force()


@pytest.mark.skipif(RABBITMQADMIN is None, reason="rabbitmqadmin is not installed")
def test_rabbitmqadmin_finds_everything_where_it_expects_it(managed: RunningBroker, tmp_path: Path) -> None:
    def run(*words: str) -> str:
        login = ["-H", "127.0.0.1", "-P", str(managed.http_port), "-u", "guest", "-p", "guest"]
        command = [str(RABBITMQADMIN), *login, *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done
        return done.stdout

    file = str(tmp_path / "definitions.json")
    run("declare", "queue", "name=admin", "durable=true")
    run("declare", "exchange", "name=admins", "type=topic")
    run("declare", "binding", "source=admins", "destination=admin", "routing_key=a.#")
    run("publish", "exchange=admins", "routing_key=a.b", "payload=hello")
    assert "admin" in run("list", "queues", "name", "messages")
    assert "hello" in run("get", "queue=admin", "ackmode=ack_requeue_false")
    run("declare", "user", "name=ann", "password=secret", "tags=monitoring")
    run("declare", "permission", "vhost=/", "user=ann", "configure=.*", "write=.*", "read=.*")
    run("declare", "policy", "name=adm", "pattern=^adm", 'definition={"max-length":10}', "apply-to=queues")
    run("declare", "vhost", "name=admined")
    run("export", file)
    run("import", file)
    for what in ("bindings", "channels", "connections", "consumers", "exchanges", "nodes", "parameters", "permissions",
                 "policies", "users", "vhosts", "operator_policies"):  # fmt: skip
        run("list", what)
    run("show", "overview")
    run("purge", "queue", "name=admin")
    for words in (("queue", "name=admin"), ("user", "name=ann"), ("vhost", "name=admined")):
        run("delete", *words)
