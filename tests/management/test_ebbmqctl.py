"""`ebbmqctl` where RabbitMQ's operators know their way: what it prints and checks, how it ends, what TAB offers."""

import json
import os
import pty
import select
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import pika
import psutil
import pytest

from tests.clients.running_broker import ROOT, RunningBroker, environment
from tests.clients.waiting import eventually
from tests.management.api import Api
from tests.management.ebbmqctl import COMMAND, Run, ctl

# what is printed ------------------------------------------------------------------------------------------------------


def test_tags_arguments_and_definitions_come_out_as_rabbitmqctl_prints_them(run: Run) -> None:
    run("add_user", "ann", "secret", "--tag", "monitoring", "--tag", "management")
    run("create_queue", "printed", "--durable", "--max-length", "5", "--dead-letter-exchange", "x")
    run("set_policy", "printed", "^printed$", '{"max-length": 7}', "--apply-to", "queues")

    assert "ann\t[monitoring, management]\n" in run("list_users")
    arguments = '[{"x-max-length",5},{"x-dead-letter-exchange","x"}]'
    assert f"printed\ttrue\t{arguments}\tprinted\n" in run("list_queues", "name", "durable", "arguments", "policy")
    assert '/\tprinted\t^printed$\tqueues\t{"max-length":7}\t0\n' in run("list_policies")
    (policy,) = json.loads(run("list_policies", "--formatter", "json"))
    assert policy["definition"] == '{"max-length":7}', "a text that holds JSON, as rabbitmqctl has it"
    header = "source_name\tsource_kind\tdestination_name\tdestination_kind\trouting_key\targuments\n"
    assert f"{header}\texchange\tprinted\tqueue\tprinted\t[]\n" in run("list_bindings")


def test_quiet_leaves_out_what_is_being_done_and_silent_the_columns_too(run: Run) -> None:
    assert run("list_vhosts").splitlines()[:3] == ["Listing vhosts ...", "name", "/"]
    assert run("-q", "list_vhosts").splitlines()[:2] == ["name", "/"]
    assert run("list_vhosts", "--no-table-headers").splitlines()[:2] == ["Listing vhosts ...", "/"]
    assert run("list_vhosts", "--silent").splitlines()[0] == "/"


def test_columns_may_stand_behind_commas_and_must_exist(run: Run, managed: RunningBroker) -> None:
    run("create_queue", "columns")

    assert "name\tmessages\tmemory\n" in run("list_queues", "name,messages", "memory")
    row = next(line for line in run("list_queues", "name", "memory").splitlines() if line.startswith("columns\t"))
    assert int(row.partition("\t")[2]) > 0
    assert "columns\t\t[]\n" in run("list_queues", "name", "consumer_utilisation", "slave_pids")
    assert run("list_queues", "name", "--offline").splitlines() == ["Listing queues for vhost / ..."]
    refused = ctl(managed, "list_queues", "name", "mesages")
    assert (refused.returncode, refused.stderr.splitlines()[-1]) == (2, "Error: there is no column 'mesages'")


def test_limits_are_json_of_one_and_a_table_of_all(run: Run) -> None:
    run("add_user", "lim", "secret")
    run("set_user_limits", "lim", '{"max-channels": 9}')
    run("set_vhost_limits", '{"max-queues": 500}')

    assert run("-q", "list_vhost_limits") == '{"max-queues":500}\n'
    assert run("-q", "list_user_limits") == "{}\n", "guest has none"
    assert 'lim\t{"max-channels":9}\n' in run("list_user_limits", "--global")
    assert run("-s", "list_vhost_limits", "--global") == '/\t{"max-queues":500}\n'
    run("clear_vhost_limits")
    run("clear_user_limits", "lim", "all")


def test_tags_of_a_vhost_leave_what_else_is_said_about_it(run: Run) -> None:
    run("add_vhost", "tagged", "--description", "of tags", "--default-queue-type", "quorum")
    run("set_vhost_tags", "tagged", "a", "b")

    assert "tagged\tof tags\t[a, b]\tquorum\n" in run(
        "list_vhosts", "name", "description", "tags", "default_queue_type"
    )


# how the broker is ----------------------------------------------------------------------------------------------------


def test_status_in_json_has_rabbitmqctls_keys(run: Run, managed: RunningBroker) -> None:
    told = json.loads(run("status", "--formatter", "json"))

    assert told["pid"] == managed.ready.supervisor
    assert told["data_directory"] == str(managed.data)
    assert {one["port"] for one in told["listeners"]} == {managed.port, managed.http_port}
    assert told["totals"]["virtual_host_count"] >= 1
    assert told["memory"]["total"]["rss"] > 0
    assert told["file_descriptors"]["total_used"] > 0
    assert told["vm_memory_high_watermark_setting"] == {"relative": 0.4}
    assert told["disk_free"] > told["disk_free_limit"]
    assert told["alarms"] == []


def test_a_report_has_settings_and_every_list(run: Run) -> None:
    run("add_vhost", "reported")
    run("create_queue", "inside", "-p", "reported")

    told = run("report")

    for part in ("memory pressure", "amqp.frame_max = 131072", "running_nodes", "supervisor", "inside\tfalse"):
        assert part in told
    assert "password" not in told


def test_health_checks_end_with_0_or_69(run: Run, managed: RunningBroker) -> None:
    for name in ("check_running", "check_alarms", "check_local_alarms", "check_virtual_hosts", "node_health_check",
                 "check_port_connectivity", "check_certificate_expiration", "check_if_node_is_quorum_critical",
                 "check_if_node_is_mirror_sync_critical", "list_unresponsive_queues", "restart_vhost"):  # fmt: skip
        run(name)
    run("check_port_listener", str(managed.port))
    run("check_protocol_listener", "amqp")
    assert f"port: {managed.port}, protocol: amqp" in run("listeners")
    assert "fully booted" in run("is_running")

    for words in (("check_port_listener", "1"), ("check_protocol_listener", "mqtt"), ("await_online_nodes", "2")):
        failed = ctl(managed, *words)
        assert (failed.returncode, failed.stderr.count("\n")) == (69, 1), failed


def test_alarms_are_limited_until_the_next_start_and_can_be_checked(run: Run, managed: RunningBroker) -> None:
    run("set_vm_memory_high_watermark", "0")
    eventually(lambda: ctl(managed, "check_alarms").returncode == 69, "the memory alarm")
    assert "\tmemory\n" in run("alarms")
    managed.command("user", "add", "hup", "--password-stdin", given="secret\n")  # has settings read again
    managed.await_log("settings reloaded")
    assert "alarms.memory_bytes_max = 1\n" in run("environment")

    run("set_vm_memory_high_watermark", "absolute", "100GiB")
    eventually(lambda: ctl(managed, "check_alarms").returncode == 0, "no alarm")
    assert f"alarms.memory_bytes_max = {100 * 1024**3}\n" in run("environment")
    run("set_vm_memory_high_watermark", "0.4")
    run("set_disk_free_limit", "1kB")
    assert "alarms.disk_free_bytes_min = 1000\n" in run("environment")
    run("set_disk_free_limit", "mem_relative", "1000")
    eventually(lambda: "\tdisk\n" in run("alarms"), "the disk alarm")
    run("set_disk_free_limit", "50MB")


@pytest.mark.parametrize(
    "words",
    [
        ("set_vm_memory_high_watermark", "2"),
        ("set_vm_memory_high_watermark", "nan"),
        ("set_vm_memory_high_watermark", "absolute"),
        ("set_vm_memory_high_watermark", "0.4", "1GB"),
        ("set_vm_memory_high_watermark", "absolute", "much"),
        ("set_disk_free_limit", "1XB"),
        ("set_disk_free_limit", "mem_relative"),
        ("set_disk_free_limit", "-1"),
    ],
)
def test_a_limit_that_is_none_is_refused(managed: RunningBroker, words: tuple[str, ...]) -> None:
    refused = ctl(managed, *words)

    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1].startswith("Error: ")


@pytest.mark.parametrize("body", [{"memory_share_max": 2}, {"memory_bytes_max": -1}, {"disk_free_bytes_min": "x"}])
def test_the_api_refuses_a_limit_that_is_none(api: Api, body: dict[str, object]) -> None:
    (node,) = api.get("/nodes").body

    assert api.put(f"/nodes/{node['name']}/alarms", body).status == 400
    assert api.put("/nodes/nobody/alarms", {}).status == 404
    assert api.put(f"/nodes/{node['name']}/listeners/ajar").status == 400
    assert api.put("/nodes/nobody/listeners/open").status == 404
    settings = api.get(f"/nodes/{node['name']}/settings").body
    assert settings["amqp"]["frame_max"] == 131072
    assert "default_password" not in settings["users"]


# whom it asks ---------------------------------------------------------------------------------------------------------


def test_a_host_is_asked_over_http_as_a_user(managed: RunningBroker) -> None:
    where = ("--hostname", "127.0.0.1", "--port", str(managed.http_port))

    assert ctl(managed, *where, "list_users").returncode == 0
    assert ctl(managed, "list_users", *where, "--user", "guest", "--password", "guest").returncode == 0
    refused = ctl(managed, *where, "list_users", "--password", "wrong")
    assert (refused.returncode, refused.stderr) == (1, "Error: Login failed\n")
    named = ctl(managed, "--data-dir", "/nowhere", "--control-unix-path", str(managed.data / "http.sock"), "ping")
    assert named.returncode == 0


def test_what_is_said_counts_more_than_the_environment(managed: RunningBroker) -> None:
    wrong = {"EBBMQCTL_URI": "http://127.0.0.1:1"}
    assert ctl(managed, "ping", extra=wrong).returncode == 18

    uri = f"http://guest:guest@127.0.0.1:{managed.http_port}"
    assert ctl(managed, "--uri", uri, "ping", extra=wrong).returncode == 0
    assert ctl(managed, "ping", "--uri", uri, extra=wrong).returncode == 0


def test_a_password_is_tried_where_the_broker_asks_for_one(run: Run, managed: RunningBroker) -> None:
    assert "Success" in run("authenticate_user", "guest", "guest")

    refused = ctl(managed, "authenticate_user", "guest", given="wrong\n")
    assert (refused.returncode, refused.stderr) == (1, "Error: user 'guest' cannot log in: Login failed\n")


def test_attempts_to_log_in_are_listed_and_forgotten(run: Run, managed: RunningBroker) -> None:
    run("reset_node_auth_attempt_metrics")
    assert run("-s", "list_node_auth_attempt_stats") == ""
    pika.BlockingConnection(pika.URLParameters(managed.url)).close()

    listed = run("-q", "list_node_auth_attempt_stats")

    assert listed == "protocol\tauth_attempts\tauth_attempts_failed\tauth_attempts_succeeded\namqp091\t1\t0\t1\n"
    assert run("-s", "list_node_auth_attempt_stats", "--by-source") == "", "nobody asked for sources"


def test_connections_are_closed_with_a_reason_and_no_more_than_asked_for(run: Run, managed: RunningBroker) -> None:
    clients = [pika.BlockingConnection(pika.URLParameters(managed.url)) for _ in range(3)]
    assert run("-s", "list_connections", "user", "state") == "guest\trunning\n" * 3

    told = run("close_all_connections", "--limit", "2", "--per-connection-delay", "10", "for tea")

    assert told.endswith("Closed 2 connections\n")
    eventually(lambda: len(run("-s", "list_connections").splitlines()) == 1, "one connection")
    run("close_all_connections", "--global", "for coffee")
    reasons = []
    for client in clients:
        with pytest.raises(pika.exceptions.ConnectionClosedByBroker) as closed:
            client.process_data_events(time_limit=5)
        reasons.append(closed.value.reply_text)
    assert sum("for tea" in reason for reason in reasons) == 2
    assert sum("for coffee" in reason for reason in reasons) == 1


def test_listeners_are_suspended_for_new_clients_only_and_resumed_where_they_were(
    run: Run, managed: RunningBroker
) -> None:
    with pika.BlockingConnection(pika.URLParameters(managed.url)) as client:
        run("suspend_listeners")
        run("suspend_listeners")
        for host in ("127.0.0.1", "::1"):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((host, managed.port), timeout=5)
        assert ctl(managed, "check_port_connectivity").returncode == 69
        client.channel().queue_declare("meanwhile", exclusive=True)

        run("resume_listeners")
        run("resume_listeners")
        run("check_port_connectivity")
        with pika.BlockingConnection(pika.URLParameters(managed.url)) as other:
            other.channel().queue_declare("again", exclusive=True)


@pytest.mark.process
def test_suspended_listeners_take_no_time_and_keep_a_port_that_was_asked_for(tmp_path: Path) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    broker = RunningBroker(tmp_path, shards=1, port=port).start()
    try:
        assert ctl(broker, "suspend_listeners").returncode == 0
        supervisor = psutil.Process(broker.ready.supervisor)
        before = sum(supervisor.cpu_times()[:2])
        time.sleep(1)
        assert sum(supervisor.cpu_times()[:2]) - before < 0.3
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))
        assert ctl(broker, "resume_listeners").returncode == 0
        pika.BlockingConnection(pika.URLParameters(broker.url)).close()
        assert ctl(broker, "suspend_listeners").returncode == 0
        assert broker.stop() == 0
        broker.assert_no_traceback()
    finally:
        broker.end_by_force()


# beginning and end ----------------------------------------------------------------------------------------------------


def test_a_start_is_waited_for_by_pid(managed: RunningBroker, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "pid"
    file.write_text(f"{managed.ready.supervisor}\n")
    run("wait", str(file), "-t", "10")
    run("wait", "--pid", str(managed.ready.supervisor))
    run("await_online_nodes", "1")

    other = ctl(managed, "wait", "--pid", str(os.getpid()), "-t", "5")
    assert (other.returncode, f"not {os.getpid()}" in other.stderr) == (1, True)
    gone = subprocess.Popen(["true"])
    gone.wait()
    ended = ctl(managed, "wait", "--pid", str(gone.pid))
    assert (ended.returncode, ended.stderr) == (1, f"Error: process {gone.pid} is not running\n")
    assert ctl(managed, "wait", str(tmp_path / "none"), "-t", "0.3").returncode == 18
    assert ctl(managed, "wait").returncode == 2


@pytest.mark.process
def test_a_broker_is_shut_down_and_stopping_it_again_may_be_all_the_same(tmp_path: Path) -> None:
    broker = RunningBroker(tmp_path, shards=1).start()
    try:
        assert ctl(broker, "shutdown").returncode == 0
        assert broker.process.wait(20) == 0
        assert ctl(broker, "stop", "--idempotent").returncode == 0
        assert ctl(broker, "stop").returncode == 18
    finally:
        broker.end_by_force()


def test_a_broker_that_does_not_answer_in_time_is_not_waited_for(managed: RunningBroker) -> None:
    assert ctl(managed, "ping").returncode == 0
    os.kill(managed.ready.supervisor, signal.SIGSTOP)
    try:
        began = time.monotonic()
        late = ctl(managed, "status", "-t", "0.5")
    finally:
        os.kill(managed.ready.supervisor, signal.SIGCONT)
    assert (late.returncode, "broke off" in late.stderr) == (20, True)
    assert time.monotonic() - began < 10


# for people -----------------------------------------------------------------------------------------------------------


class Shown(NamedTuple):
    """Of a command whose standard error is a terminal."""

    terminal: str
    output: str  # which goes to a file


def at_a_terminal(broker: RunningBroker, *arguments: str) -> Shown:
    above, below = pty.openpty()
    with os.fdopen(above, "rb", buffering=0) as terminal, tempfile.TemporaryFile() as output:
        done = subprocess.Popen(
            [*COMMAND, "--data-dir", str(broker.data), *arguments],
            cwd=ROOT,
            env=environment({"TERM": "xterm", "COLUMNS": "100"}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=below,
        )
        os.close(below)
        shown = b"".join(pieces_of(terminal)).decode(errors="replace")
        assert done.wait(30) == 0, shown
        output.seek(0)
        return Shown(shown, output.read().decode())


def pieces_of(terminal: IO[bytes]) -> Iterator[bytes]:
    """Until nobody can write to it any more."""
    while select.select([terminal], [], [], 30)[0]:
        try:
            piece = terminal.read(4096)
        except OSError:  # the kernel's word for its end
            return
        yield piece


def test_progress_is_shown_at_a_terminal_and_nothing_of_it_in_a_pipe(
    run: Run, managed: RunningBroker, tmp_path: Path
) -> None:
    file = tmp_path / "definitions.json"
    queues = [
        {"name": f"bar-{n}", "vhost": "/", "durable": True, "auto_delete": False, "arguments": {}} for n in range(50)
    ]
    file.write_text(json.dumps({"queues": queues}))
    names = [f"bar-{n}" for n in range(3)]

    imported = at_a_terminal(managed, "import_definitions", str(file)).terminal
    assert "Importing definitions" in imported
    assert "0/50" in imported
    purged = at_a_terminal(managed, "purge_queue", *names)
    assert "Purging" in purged.terminal
    assert "3/3" in purged.terminal
    assert purged.output == "".join(f"Purging queue '{name}' in vhost '/' ...\n" for name in names)
    exported = at_a_terminal(managed, "export_definitions", "-")
    assert "Exporting definitions" in exported.terminal
    assert len(json.loads(exported.output)["queues"]) >= 50
    for words in (
        ("purge_queue", *names),
        ("import_definitions", str(file)),
        ("export_definitions", "-"),
        ("compact",),
    ):
        done = ctl(managed, *words)
        assert (done.returncode, done.stderr) == (0, "")
        assert "\x1b" not in done.stdout


@pytest.mark.process
def test_draining_shows_how_many_connections_are_left(tmp_path: Path) -> None:
    broker = RunningBroker(tmp_path, shards=1).start()
    try:
        client = pika.BlockingConnection(pika.URLParameters(broker.url))
        shown = at_a_terminal(broker, "drain").terminal
        assert "Draining connections" in shown
        assert "/1" in shown
        with pytest.raises(pika.exceptions.AMQPError):
            client.process_data_events(time_limit=5)
    finally:
        broker.end_by_force()


@pytest.fixture(scope="module")
def offering(managed: RunningBroker) -> RunningBroker:
    """With names that can be offered."""
    for words in (("create_queue", "offered-1"), ("create_queue", "offered-2"), ("add_vhost", "offering"),
                  ("create_queue", "offered-3", "-p", "offering")):  # fmt: skip
        assert ctl(managed, *words).returncode == 0
    return managed


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("ebbmqctl set_perm", {"set_permissions"}),
        ("ebbmqctl list_queues messages_u", {"messages_unacknowledged", "messages_unacknowledged_ram"}),
        ("ebbmqctl --data-dir DATA delete_queue offered-", {"offered-1", "offered-2"}),
        ("ebbmqctl --data-dir DATA delete_queue -p offering offered-", {"offered-3"}),
        ("ebbmqctl --data-dir DATA list_queues -p offer", {"offering"}),
        ("ebbmqctl --data-dir DATA delete_user gu", {"guest"}),
        ("ebbmqctl --data-dir DATA delete_exchange amq.to", {"amq.topic"}),
        ("ebbmqctl --data-dir /nowhere delete_queue o", set()),
        ("ebbmqctl list_queues --formatter j", {"json"}),
    ],
)
def test_tab_offers_commands_columns_and_names(offering: RunningBroker, words: str, offered: set[str]) -> None:
    line = words.replace("DATA", str(offering.data))

    asked = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" ")), "_EBBMQCTL_COMPLETE": "bash_complete"}
    done = subprocess.run(COMMAND, cwd=ROOT, env=environment(asked), capture_output=True, text=True, check=False)

    assert {answer.partition(",")[2] for answer in done.stdout.split()} == offered
    assert done.stderr == ""
