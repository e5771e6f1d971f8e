"""The supervisor with fake shards, in real processes: start, death of any child, signals, and the end in order."""

import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from ipc.errors import ExitCode
from tests.clients.running_broker import COMMAND, RunningBroker, environment, is_alive, run_command
from tests.clients.waiting import eventually
from tests.runtime.supervisor.conftest import StartFaked, faked

pytestmark = pytest.mark.process


def shard_pids(broker: RunningBroker) -> set[int]:
    template = broker.find_template()
    return broker.descendants() - ({template} if template else set())


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def opened(broker: RunningBroker) -> int:
    """How often a vhost was opened so far."""
    return len(re.findall("vhost opened", broker.log))


# start ----------------------------------------------------------------------------------------------------------------


def test_the_ready_line_names_addresses_shards_and_pids(new_broker: StartFaked) -> None:
    broker = new_broker(shards=3).start()

    assert broker.ready.supervisor == broker.process.pid
    assert sorted(broker.ready.shards) == [0, 1, 2]
    assert shard_pids(broker) == set(broker.ready.shards.values())
    assert broker.ready.data == str(broker.data)
    with socket.create_connection(("127.0.0.1", broker.port), timeout=5):
        pass


def test_term_ends_everything_in_order(new_broker: StartFaked) -> None:
    broker = new_broker().start()

    assert broker.stop(seconds=5) == ExitCode.OK

    assert broker.log.count("shard drained") == 2
    assert broker.stdout_path.read_text().count("\n") == 1


def test_children_have_no_stray_descriptors(new_broker: StartFaked) -> None:
    """Standard streams, the link, and the lock that outlives the supervisor; nothing of siblings or databases."""
    broker = new_broker().start()

    for pid in broker.ready.shards.values():
        targets = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
        beyond_standard = sorted(targets, key=lambda target: target.startswith("socket:"))[3:]
        assert len(targets) == 5, targets
        assert beyond_standard[0].endswith("/lock")
        assert beyond_standard[1].startswith("socket:")


def test_children_are_out_of_reach_of_the_terminal_and_of_group_signals(new_broker: StartFaked) -> None:
    broker = new_broker().start()
    children = broker.descendants()
    assert all(os.getsid(pid) != os.getsid(broker.process.pid) for pid in children)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        for pid in children:
            os.kill(pid, number)

    assert broker.stop() == ExitCode.OK
    assert "restarts" not in broker.log


def test_children_may_open_as_many_descriptors_as_the_system_allows(new_broker: StartFaked) -> None:
    broker = new_broker().start()

    for pid in (broker.process.pid, *broker.descendants()):
        soft, hard = psutil.Process(pid).rlimit(psutil.RLIMIT_NOFILE)
        assert soft == hard


# death ----------------------------------------------------------------------------------------------------------------


def test_a_killed_shard_is_replaced_and_its_siblings_notice_nothing(new_broker: StartFaked) -> None:
    broker = new_broker().start()
    victim, sibling = broker.ready.shards[1], broker.ready.shards[0]

    kill(victim)
    eventually(lambda: len(shard_pids(broker) - {victim}) == 2, "a new shard")

    assert is_alive(sibling)
    broker.await_log("ending=SIGKILL")
    eventually(lambda: opened(broker) == 2, "the vhost of the killed shard open again")
    assert broker.stop() == ExitCode.OK


def test_a_killed_template_is_replaced_and_shards_live_on(new_broker: StartFaked) -> None:
    broker = new_broker().start()
    shards = set(broker.ready.shards.values())
    former = broker.template_pid

    kill(former)
    eventually(lambda: broker.find_template() not in (None, former), "a new template")

    assert all(map(is_alive, shards))
    kill(broker.ready.shards[0])
    kill(broker.ready.shards[1])
    eventually(lambda: len(shard_pids(broker) - shards) == 2, "new shards from the new template")
    eventually(lambda: opened(broker) == 2, "the vhost open again")
    assert broker.stop() == ExitCode.OK


def test_children_killed_at_any_moment_come_back(new_broker: StartFaked) -> None:
    broker = new_broker(main__shard_restart_seconds_max=0.1, main__shard_restarts_per_minute_max=1000).start()

    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        for pid in broker.descendants():
            try:
                kill(pid)
            except ProcessLookupError:
                pass
        time.sleep(0.017)

    eventually(lambda: len(shard_pids(broker)) == 2 and broker.find_template(), "all children")
    before = opened(broker)
    eventually(lambda: opened(broker) >= max(1, before), "the vhost open")
    assert broker.process.poll() is None
    assert broker.stop() == ExitCode.OK


def test_a_shard_that_keeps_dying_ends_the_broker_in_order(new_broker: StartFaked) -> None:
    broker = new_broker("dies:1", main__shard_restart_seconds_max=0.1, main__shard_restarts_per_minute_max=3)
    broker.spawn()

    assert broker.process.wait(10) == ExitCode.SHARD_UNRECOVERABLE

    assert "ebbmq: shard 1 keeps ending soon after it starts" in broker.log
    assert "fake shard 0: Drain" in broker.log


def test_a_shard_that_talks_nonsense_is_replaced(new_broker: StartFaked) -> None:
    broker = new_broker("babbles", main__shard_restart_seconds_max=0.1, main__shard_restarts_per_minute_max=1)
    broker.spawn()

    assert broker.process.wait(15) == ExitCode.SHARD_UNRECOVERABLE

    assert "shard cannot be understood" in broker.log


def test_a_shard_that_answers_nothing_is_named_and_in_the_end_replaced(new_broker: StartFaked) -> None:
    broker = new_broker("deaf:1", main__shard_silent_seconds=0.1, main__shard_silent_seconds_max=0.5).start()
    victim, sibling = broker.ready.shards[1], broker.ready.shards[0]

    broker.await_log("shard does not answer and is killed")
    eventually(lambda: not is_alive(victim), "the end of the deaf shard")

    assert broker.log.index("shard does not answer ") < broker.log.index("and is killed")
    assert is_alive(sibling)
    assert broker.stop() == ExitCode.OK


@pytest.mark.parametrize("fault", ["unstartable", "foreign"])
def test_a_template_that_cannot_start_ends_the_broker(new_broker: StartFaked, fault: str) -> None:
    broker = new_broker(fault, main__shard_restart_seconds_max=0.1)
    broker.spawn()

    assert broker.process.wait(10) == ExitCode.SHARD_UNRECOVERABLE

    assert "ebbmq: the process that shards are forked from keeps ending" in broker.log


@pytest.mark.parametrize(
    ("fault", "code"),
    [("damaged", ExitCode.STORE_DAMAGED), ("unreadable", ExitCode.DATA_DIRECTORY_UNUSABLE)],
)
def test_a_vhost_that_cannot_be_opened_refuses_the_start(new_broker: StartFaked, fault: str, code: ExitCode) -> None:
    broker = new_broker(fault)
    broker.spawn()

    assert broker.process.wait(10) == code

    assert "ebbmq: vhost '/' cannot be opened: because the test says so" in broker.log


def test_a_killed_supervisor_takes_its_children_along(new_broker: StartFaked) -> None:
    broker = new_broker().start()

    broker.kill()

    assert broker.log.count("supervisor is gone") == 2


def test_a_new_supervisor_waits_for_shards_that_a_killed_one_left(new_broker: StartFaked) -> None:
    broker = new_broker("lingers").start()
    left = set(broker.ready.shards.values())
    broker.process.kill()
    broker.process.wait(5)
    assert all(map(is_alive, left))

    broker.start()

    assert not any(map(is_alive, left))
    assert broker.stop() == ExitCode.OK


def test_accounts_can_be_looked_at_while_shards_of_a_killed_supervisor_linger(new_broker: StartFaked) -> None:
    broker = new_broker("lingers").start()
    broker.process.kill()
    broker.process.wait(5)

    done = run_command("vhost", "list", "--data-dir", str(broker.data), extra=faked())

    assert done.returncode == ExitCode.OK
    broker.await_children_gone()


# the end --------------------------------------------------------------------------------------------------------------


def test_shards_that_do_not_drain_are_killed_at_the_deadline(new_broker: StartFaked) -> None:
    broker = new_broker("stubborn", main__drain_seconds=0.2).start()

    assert broker.stop(seconds=10) == ExitCode.OK

    assert "shards did not drain in time and are killed" in broker.log


def test_a_second_signal_ends_at_once(new_broker: StartFaked) -> None:
    broker = new_broker("stubborn", main__drain_seconds=60).start()
    children = broker.descendants()
    broker.process.send_signal(signal.SIGINT)
    broker.await_log("draining")

    broker.process.send_signal(signal.SIGTERM)

    assert broker.process.wait(5) == ExitCode.FAILED
    assert not any(map(is_alive, children))
    assert "ended by a second signal" in broker.log


def test_term_during_the_start_ends_in_order(new_broker: StartFaked) -> None:
    broker = new_broker("dies", main__shard_restart_seconds_max=60, main__shard_restart_seconds_min=60)
    broker.spawn()
    broker.await_log("shard restarts")

    broker.process.send_signal(signal.SIGTERM)

    assert broker.process.wait(5) == ExitCode.OK


# signals --------------------------------------------------------------------------------------------------------------


def test_usr1_compacts_every_process_and_logs_what_came_back(new_broker: StartFaked) -> None:
    broker = new_broker().start()

    broker.process.send_signal(signal.SIGUSR1)

    begun = broker.await_log("memory pressure detected, running compaction")
    assert "SIGUSR1" in begun
    assert "compaction_level=release" in begun
    eventually(lambda: broker.log.count("memory reclaimed") == 3, "three reports")
    for part in ("shard=0", "shard=1", "shard=supervisor"):
        line = next(line for line in broker.log.splitlines() if "memory reclaimed" in line and part in line)
        for field in (
            "freed_bytes=",
            "by_kind=",
            "by_vhost=",
            "rss_before=",
            "rss_after=",
            " seconds=",
            "slice_seconds_longest=",
            "slice_cpu_seconds_longest=",
        ):
            assert field in line
    assert broker.stop() == ExitCode.OK


def test_a_shard_that_dies_during_a_pass_does_not_hold_up_the_next(new_broker: StartFaked) -> None:
    broker = new_broker("mute:0").start()
    broker.process.send_signal(signal.SIGUSR1)
    broker.await_log("fake shard 0: Compact")

    kill(broker.ready.shards[0])
    broker.await_log("shard restarts")
    broker.process.send_signal(signal.SIGUSR1)

    broker.await_log("number=2")


def test_every_shard_hears_of_an_alarm_and_so_does_one_that_starts_later(new_broker: StartFaked) -> None:
    broker = new_broker(alarms__memory_bytes_max=1).start()
    for shard in (0, 1):
        broker.await_log(f"fake shard {shard}: AlarmsChanged")
    before = len(broker.log)

    kill(broker.ready.shards[1])

    broker.await_log("fake shard 1: AlarmsChanged", after=before)
    assert "fake shard 0: AlarmsChanged" not in broker.log[before:]
    assert broker.stop() == ExitCode.OK


def test_without_an_alarm_nobody_hears_of_any(new_broker: StartFaked) -> None:
    broker = new_broker().start()

    assert broker.stop() == ExitCode.OK
    assert "AlarmsChanged" not in broker.log


def test_storms_of_signals_are_survived(new_broker: StartFaked) -> None:
    broker = new_broker().start()

    for _ in range(500):
        broker.process.send_signal(signal.SIGHUP)
        broker.process.send_signal(signal.SIGUSR1)

    assert broker.stop() == ExitCode.OK
    assert "Traceback" not in broker.log


def test_hup_takes_over_settings_and_names_those_that_need_a_restart(new_broker: StartFaked, tmp_path: Path) -> None:
    config = tmp_path / "ebbmq.toml"
    config.write_text("[amqp]\nheartbeat = 5\n")
    broker = new_broker()
    broker.arguments = ("--config", str(config))
    broker.start()

    config.write_text("[amqp]\nheartbeat = 7\nbacklog = 7\n")
    broker.process.send_signal(signal.SIGHUP)

    line = broker.await_log("settings reloaded")
    assert "amqp.heartbeat" in line
    assert "amqp.backlog" in line
    broker.await_log("fake shard 1: SettingsChanged")

    config.write_text("[amqp]\nheartbeat = 'often'\n")
    broker.process.send_signal(signal.SIGHUP)

    assert "amqp.heartbeat" in broker.await_log("settings stay as they were")


# accounts -------------------------------------------------------------------------------------------------------------


def test_vhosts_come_and_go_while_the_broker_runs(new_broker: StartFaked) -> None:
    broker = new_broker().start()

    broker.command("vhost", "add", "orders", "--shard", "1")
    broker.await_log("fake shard 1: OpenVHost orders")
    listed = broker.command("vhost", "list").splitlines()
    number = next(line.split("\t")[1] for line in listed if line.startswith("orders\t"))
    eventually((broker.data / "vhosts" / number).exists, "its directory")

    broker.command("vhost", "delete", "orders", "--yes")

    broker.await_log("fake shard 1: CloseVHost orders")
    broker.await_log("vhost deleted")
    assert not (broker.data / "vhosts" / number).exists()
    assert broker.stop() == ExitCode.OK


def test_changed_permissions_reach_the_shard(new_broker: StartFaked) -> None:
    broker = new_broker().start()

    broker.command("user", "add", "ann", "--password-stdin", given="secret\n")
    broker.permit("ann", "/", configure="", write=".*", read=".*")

    broker.await_log("PermissionsChanged")
    assert "ann\t/\t\t.*\t.*" in broker.command("permissions", "list")


def test_changed_policies_limits_and_topic_permissions_reach_the_shard(new_broker: StartFaked) -> None:
    broker = new_broker().start()

    broker.command("policy", "set", "short", "^jobs", '{"max-length": 5}', "--apply-to", "queues")
    broker.await_log("RulesChanged")
    assert broker.command("policy", "list") == '/\tshort\t^jobs\tqueues\t{"max-length":5}\t0\n'
    after = len(broker.log)
    broker.command("limits", "set", "/", "max-queues", "10")
    broker.await_log("RulesChanged", after=after)
    assert broker.command("limits", "list") == "/\tmax-queues\t10\n"
    after = len(broker.log)
    broker.command("operator-policy", "set", "calm", ".*", '{"message-ttl": 1000}')
    broker.await_log("RulesChanged", after=after)
    assert "calm" in broker.command("operator-policy", "list")
    after = len(broker.log)
    broker.command("policy", "clear", "short")
    broker.await_log("RulesChanged", after=after)
    assert broker.command("policy", "list") == ""
    after = len(broker.log)
    broker.command("topic-permissions", "set", "guest", "/", "amq.topic", "--write", "^a", "--read", "^b")
    broker.await_log("PermissionsChanged", after=after)
    assert broker.command("topic-permissions", "list") == "guest\t/\tamq.topic\t^a\t^b\n"
    assert broker.stop() == ExitCode.OK


def test_a_vhost_is_opened_with_the_rules_it_has_by_then(new_broker: StartFaked) -> None:
    broker = new_broker(shards=1).start()
    broker.command("policy", "set", "short", ".*", '{"max-length": 5}')
    broker.await_log("RulesChanged")
    after = len(broker.log)

    kill(broker.ready.shards[0])

    broker.await_log("OpenVHost / with 1 policies", after=after)


def test_accounts_of_a_broker_that_is_down_can_be_changed(new_broker: StartFaked) -> None:
    broker = new_broker().start()
    assert broker.stop() == ExitCode.OK

    broker.add_vhost("orders", shard=0)
    assert "orders" in broker.command("vhost", "list")
    broker.start()
    broker.await_log("fake shard 0: OpenVHost orders")
    assert broker.stop() == ExitCode.OK
    broker.command("vhost", "delete", "orders", "--yes")

    assert sorted(path.name for path in (broker.data / "vhosts").iterdir()) == ["1"]


def test_fewer_shards_move_only_what_must(new_broker: StartFaked) -> None:
    broker = new_broker(shards=4).start()
    for number in range(8):
        broker.command("vhost", "add", f"v{number}")
    eventually(lambda: opened(broker) == 9, "all open")
    before = dict(line.split("\t")[::2] for line in broker.command("vhost", "list").splitlines())
    broker.stop()

    broker.shards = 2
    broker.start()

    after = dict(line.split("\t")[::2] for line in broker.command("vhost", "list").splitlines())
    assert set(after.values()) <= {"0", "1"}
    assert all(after[vhost] == shard for vhost, shard in before.items() if shard in "01")


# the service manager --------------------------------------------------------------------------------------------------


def test_systemd_hears_ready_reloading_and_stopping(new_broker: StartFaked, tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(10)
        broker = new_broker()
        broker.extra["NOTIFY_SOCKET"] = address

        broker.start()
        assert manager.recv(4096).startswith(b"READY=1\nSTATUS=ebbmq ready: amqp 127.0.0.1:")
        broker.process.send_signal(signal.SIGHUP)
        assert manager.recv(4096).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        assert manager.recv(4096).startswith(b"READY=1")
        broker.stop()
        assert manager.recv(4096).startswith(b"STOPPING=1")


def test_few_descriptors_are_worth_a_warning(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    limited = subprocess.Popen(
        ["prlimit", "--nofile=256:1024", *COMMAND, "serve", "--amqp-port", "0", "--data-dir", data],
        env=environment(faked()),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert limited.stdout is not None
    assert limited.stdout.readline().startswith("ebbmq ready")
    limited.terminate()
    _out, errors = limited.communicate(timeout=10)

    assert "few descriptors" in errors
