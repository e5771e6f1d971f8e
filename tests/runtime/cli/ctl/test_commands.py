"""Every command and option of rabbitmqctl 3.10 and lavinmqctl is known here: it works, or says what to use instead."""

import os
import shlex
import subprocess
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from ipc.errors import ControlFailed, ExitCode
from runtime.cli.ctl.context import Ctl, GlobalOption
from runtime.cli.ctl.elsewhere import ELSEWHERE, ROWS
from runtime.cli.ctl.main import COMMANDS, SECTIONS, ebbmqctl

RABBITMQCTL = Path("/usr/lib/rabbitmq/bin/rabbitmqctl")

# `rabbitmqctl help --list-commands`, and those of the tools beside it.
OF_RABBITMQ = {
    "rabbitmqctl": (
        "autocomplete help version await_startup reset shutdown start_app stop stop_app wait await_online_nodes "
        "change_cluster_node_type cluster_status force_boot force_reset forget_cluster_node join_cluster "
        "rename_cluster_node update_cluster_nodes cancel_sync_queue sync_queue add_user authenticate_user "
        "change_password clear_password clear_user_limits delete_user list_user_limits list_users set_user_limits "
        "set_user_tags clear_permissions clear_topic_permissions list_permissions list_topic_permissions "
        "list_user_permissions list_user_topic_permissions list_vhosts set_permissions set_topic_permissions "
        "list_bindings list_channels list_ciphers list_connections list_consumers list_exchanges list_hashes "
        "list_node_auth_attempt_stats list_queues list_unresponsive_queues ping report schema_info status "
        "clear_global_parameter clear_parameter list_global_parameters list_parameters set_global_parameter "
        "set_parameter clear_operator_policy clear_policy list_operator_policies list_policies set_operator_policy "
        "set_policy add_vhost clear_vhost_limits delete_vhost list_vhost_limits restart_vhost set_vhost_limits "
        "set_vhost_tags trace_off trace_on decode encode environment set_cluster_name set_disk_free_limit "
        "set_vm_memory_high_watermark export_definitions import_definitions enable_feature_flag list_feature_flags "
        "close_all_connections close_all_user_connections close_connection eval eval_file exec force_gc "
        "resume_listeners suspend_listeners delete_queue purge_queue hipe_compile node_health_check rotate_logs "
        "set_log_level"
    ),
    "rabbitmq-diagnostics": (
        "alarms check_alarms check_certificate_expiration check_if_node_is_mirror_sync_critical "
        "check_if_node_is_quorum_critical check_local_alarms check_port_connectivity check_port_listener "
        "check_protocol_listener check_running check_virtual_hosts cipher_suites consume_event_stream discover_peers "
        "erlang_version is_booting is_running list_network_interfaces listeners maybe_stuck memory_breakdown observer "
        "quorum_status remote_shell runtime_thread_stats server_version stream_status tls_versions certificates "
        "command_line_arguments disable_auth_attempt_source_tracking enable_auth_attempt_source_tracking "
        "erlang_cookie_hash erlang_cookie_sources os_env reset_node_auth_attempt_metrics resolve_hostname "
        "resolver_info reclaim_quorum_memory log_tail log_tail_stream log_location"
    ),
    "rabbitmq-queues": "grow rebalance shrink add_member delete_member peek",
    "rabbitmq-upgrade": ("await_online_quorum_plus_one await_online_synchronized_mirror drain post_upgrade revive"),
}
OF_LAVINMQ = (
    "add_user delete_user change_password list_users set_user_tags set_permissions hash_password add_vhost "
    "delete_vhost list_vhosts set_vhost_limits list_queues create_queue delete_queue purge_queue pause_queue "
    "resume_queue restart_queue list_exchanges create_exchange delete_exchange list_connections close_connection "
    "close_all_connections list_policies set_policy clear_policy list_shovels add_shovel delete_shovel "
    "list_federations add_federation delete_federation export_definitions import_definitions definitions status "
    "cluster_status gc_collect stop_app start_app"
)

# What stands behind `Usage` of what works here, with every option.
LINES = (
    "autocomplete li -t 5",
    "help status",
    "help --list-commands",
    "await_startup -t 5",
    "shutdown --wait -t 5",
    "shutdown --no-wait",
    "stop --idempotent /run/pid",
    "wait /run/pid -t 5",
    "wait --pid 1 --timeout 5",
    "wait -P 1",
    "await_online_nodes 1 -t 5",
    "list_user_limits --user u --global",
    "clear_user_limits u all",
    "list_users --no-table-headers --timeout 5 --silent",
    "set_user_tags u a b",
    "clear_topic_permissions --vhost v u e",
    "set_topic_permissions --vhost v u e w r",
    "list_vhosts --no-table-headers name tracing",
    "list_bindings --vhost v --no-table-headers source_name source_kind",
    "list_queues --vhost v --online --offline --local --no-table-headers name messages --timeout 5",
    "list_unresponsive_queues --local --queue-timeout 5 name recoverable_slaves",
    "status --unit mb --formatter json",
    "set_operator_policy --vhost v --priority 1 --apply-to queues n p {}",
    "set_policy --vhost v --priority 1 --apply-to queues n p {}",
    "add_vhost v --description d --tags a,b --default-queue-type quorum",
    "list_vhost_limits --vhost v --global --no-table-headers",
    "restart_vhost --vhost v --timeout 5",
    "set_vhost_tags v a b",
    "set_disk_free_limit 1GB",
    "set_disk_free_limit mem_relative 1.5",
    "set_vm_memory_high_watermark 0.4",
    "set_vm_memory_high_watermark absolute 1GB",
    "export_definitions - --format json --timeout 5",
    "import_definitions - --format json --skip-if-unchanged",
    "enable_feature_flag all",
    "list_feature_flags name state desc",
    "close_all_connections --vhost v --limit 5 -n node --global --per-connection-delay 5 bye",
    "close_all_user_connections u bye",
    "close_connection c bye",
    "delete_queue q --if-empty --if-unused",
    "delete_queue q -e -u -t 5",
    "check_certificate_expiration --within 4 --unit weeks",
    "memory_breakdown --unit gb",
    "list_node_auth_attempt_stats --by-source",
    "check_port_listener 5672",
    "check_protocol_listener amqp",
    "log_tail --number 5 --timeout 5",
    "log_tail_stream -d 5 --timeout 5",
    "log_location --all",
    "set_log_level debug",
    # lavinmqctl's
    (
        "create_queue q --durable --auto-delete --expires 5 --max-length 5 --message-ttl 5 --delivery-limit 5 "
        "--reject-on-overflow --dead-letter-exchange e --dead-letter-routing-key k --stream-queue"
    ),
    (
        "create_exchange topic e --auto-delete --durable --internal --delayed --alternate-exchange a "
        "--persist-messages 5 --persist-ms 5"
    ),
    (
        "list_connections user --uri http://h:1 --host h --hostname h -H h --port 1 -P 1 --scheme https --user u "
        "--password p --control-unix-path /p --node n -q -s -f json"
    ),
)


def known(name: str) -> click.Command:
    with click.Context(ebbmqctl, obj=Ctl()) as context:
        found = ebbmqctl.get_command(context, name)
    assert found is not None, name
    return found


@pytest.mark.parametrize("names", [*OF_RABBITMQ.values(), OF_LAVINMQ], ids=[*OF_RABBITMQ, "lavinmqctl"])
def test_every_command_of_other_brokers_is_known(names: str) -> None:
    for name in names.split():
        known(name)


@pytest.mark.skipif(not RABBITMQCTL.exists(), reason="Debian's rabbitmq-server is not installed")
def test_the_list_of_commands_is_rabbitmqctls(tmp_path: Path) -> None:
    surroundings = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LANG": "C.UTF-8"}
    done = subprocess.run(
        [RABBITMQCTL, "help", "--list-commands"], env=surroundings, capture_output=True, text=True, check=True
    )
    told = {line.split()[0] for line in done.stdout.splitlines() if line.startswith("   ")}
    assert told == set(OF_RABBITMQ["rabbitmqctl"].split())


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.partition(" ")[0])
def test_every_option_of_other_brokers_is_taken(line: str) -> None:
    name, *arguments = shlex.split(line)
    with click.Context(ebbmqctl, obj=Ctl()) as above:
        known(name).make_context(name, arguments, parent=above)


@pytest.mark.parametrize("before", ["-p v", "-q", "-s", "-n node", "-t 5", "-l", "--longnames", "--formatter json"])
def test_options_of_all_commands_stand_before_a_name_or_behind_it(before: str) -> None:
    for line in (f"{before} autocomplete li", f"autocomplete li {before}"):
        done = CliRunner().invoke(ebbmqctl, shlex.split(line), obj=Ctl())
        assert (done.exit_code, done.output.startswith("list_bindings")) == (0, True), done


def test_a_command_is_here_or_elsewhere_and_in_one_row() -> None:
    assert not COMMANDS.keys() & ELSEWHERE.keys()
    names = [name for row in ROWS for name in row.names.split()]
    assert len(names) == len(set(names))
    names = [name for section in SECTIONS for name in section.names.split()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", ELSEWHERE)
def test_what_is_not_here_says_what_to_use_instead_whatever_it_is_given(name: str) -> None:
    done = CliRunner().invoke(ebbmqctl, [name, "rabbit@other", "--offline", "-x", "1"], obj=Ctl())

    assert isinstance(done.exception, ControlFailed)
    assert done.exception.exit_code is ExitCode.UNAVAILABLE
    assert int(ExitCode.UNAVAILABLE) == 69, "rabbitmqctl's"
    assert str(done.exception) == f"{name}: {ELSEWHERE[name].sentence}"
    assert done.output == ""


def test_a_sentence_names_only_commands_that_there_are() -> None:
    """Whoever is sent somewhere must not be sent on."""
    words = {word.strip("`'(),:;.") for row in ROWS for word in row.sentence.split() if "_" in word}
    assert words - {"max-connections"} <= COMMANDS.keys() | {"main.shards", "users.track_auth_attempt_source"}


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_and_option_says_what_it_is_for(name: str) -> None:
    command = known(name)
    assert command.help
    assert command.help.strip().endswith(".")
    assert command.get_short_help_str(limit=1000) == " ".join(command.help.split()).rstrip(".") + "."
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, option.name
        elif option.name != "columns":
            assert (option.metavar or option.name or "").strip("[]").upper() in command.help, option.name


def test_options_of_all_commands_say_what_they_are_for() -> None:
    for option in ebbmqctl.params:
        assert isinstance(option, click.Option)
        assert option.help


def test_an_option_of_a_command_wins_over_one_of_all() -> None:
    (pid,) = (option for option in known("wait").params if "-P" in option.opts)
    assert not isinstance(pid, GlobalOption)
    (port,) = (option for option in known("status").params if "-P" in option.opts)
    assert isinstance(port, GlobalOption)
