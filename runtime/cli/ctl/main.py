"""`ebbmqctl`: finds a command by rabbitmqctl's or lavinmqctl's name, and turns refusals into a sentence and a code."""

import os
import sys
from typing import Final, NamedTuple

import click

from ipc.errors import ControlFailed, ExitCode, StartRefused
from ipc.version import VERSION
from runtime.cli.ctl.context import Ctl, global_options, pass_ctl
from runtime.cli.ctl.elsewhere import ELSEWHERE, refusal
from runtime.cli.main import load

NAME: Final = "ebbmqctl"
_SUMMARY_CHARACTERS_MAX: Final = 200
_COLUMNS_MAX: Final = 120


class Section(NamedTuple):
    """Commands that stand together in the list, and the module they are in."""

    title: str
    room: str
    names: str


SECTIONS: Final = (
    Section("Help", "help", "autocomplete help version"),
    Section(
        "Beginning and end",
        "ending",
        "await_online_nodes await_startup drain shutdown start_app stop stop_app wait",
    ),
    Section(
        "The broker",
        "server",
        "cluster_status environment list_feature_flags enable_feature_flag list_listeners listeners "
        "list_node_auth_attempt_stats ping reset_node_auth_attempt_metrics "
        "restart_vhost resume_listeners server_version set_cluster_name set_disk_free_limit "
        "set_vm_memory_high_watermark shards status suspend_listeners",
    ),
    Section("Everything in one piece", "report", "report"),
    Section("Memory", "memory", "compact force_gc gc_collect memory memory_breakdown"),
    Section(
        "Checks, which end with 69 when they do not pass",
        "checks",
        "alarms check_alarms check_certificate_expiration check_if_node_is_mirror_sync_critical "
        "check_if_node_is_quorum_critical check_local_alarms check_port_connectivity check_port_listener "
        "check_protocol_listener check_running check_virtual_hosts is_booting is_running list_unresponsive_queues "
        "node_health_check",
    ),
    Section(
        "Users and permissions",
        "users",
        "add_user authenticate_user change_password clear_password clear_permissions clear_topic_permissions "
        "clear_user_limits delete_user hash_password list_permissions list_topic_permissions list_user_limits "
        "list_user_permissions list_user_topic_permissions list_users set_permissions set_topic_permissions "
        "set_user_limits set_user_tags",
    ),
    Section(
        "Virtual hosts",
        "vhosts",
        "add_vhost clear_vhost_limits delete_vhost list_vhost_limits list_vhosts move_vhost set_vhost_limits "
        "set_vhost_tags",
    ),
    Section(
        "Queues and bindings",
        "queues",
        "create_queue delete_queue list_bindings list_queues pause_queue purge_queue restart_queue resume_queue",
    ),
    Section("Exchanges", "exchanges", "create_exchange delete_exchange list_exchanges"),
    Section(
        "Clients",
        "clients",
        "close_all_connections close_all_user_connections close_connection list_channels list_connections "
        "list_consumers",
    ),
    Section(
        "Policies and parameters",
        "policies",
        "clear_global_parameter clear_operator_policy clear_parameter clear_policy list_global_parameters "
        "list_operator_policies list_parameters list_policies set_global_parameter set_operator_policy set_parameter "
        "set_policy",
    ),
    Section("Shovels and federation", "links", "list_federations list_shovels"),
    Section("Definitions", "definitions", "export_definitions import_definitions"),
    Section("The log", "logs", "log_location log_tail log_tail_stream rotate_logs set_log_level"),
)
COMMANDS: Final = {name: section.room for section in SECTIONS for name in section.names.split()}
_ATTRIBUTES: Final = {"help": "show_help"}  # the others are called as their functions are


class Commands(click.Group):
    """Loads the room of a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in ELSEWHERE:
            return refusal(cmd_name)
        room = COMMANDS.get(cmd_name)
        if room is None:
            return None
        command = load(f"runtime.cli.ctl.{room}:{_ATTRIBUTES.get(cmd_name, cmd_name)}")
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """By what they are about; click knows one list only."""
        width = max(map(len, COMMANDS))
        for section in SECTIONS:
            with formatter.section(section.title):
                rows = [(name.ljust(width), summary(self, ctx, name)) for name in section.names.split()]
                formatter.write_dl(rows, col_max=width + 1)


def summary(group: click.Group, ctx: click.Context, name: str) -> str:
    """The first sentence of a command's help."""
    command = group.get_command(ctx, name)
    assert command is not None
    return command.get_short_help_str(limit=_SUMMARY_CHARACTERS_MAX)


def _show_version(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(f"{NAME} {VERSION}")
        context.exit()


@click.group(
    NAME,
    cls=Commands,
    context_settings={"help_option_names": ["-h", "-?", "--help"], "max_content_width": _COLUMNS_MAX},
    epilog="Commands of RabbitMQ and LavinMQ that have no meaning here, like join_cluster or eval, end with 69 and a "
    "sentence that says what to use instead. Other codes: 0 for done, 1 for refused, 2 for a command or option that "
    "is none, 18 when no broker answers, 20 when it broke off.",
)
@click.option(
    "-v",
    "--version",
    "--build-info",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
@pass_ctl
def ebbmqctl(ctl: Ctl) -> None:
    """Look after a broker: rabbitmqctl's and lavinmqctl's commands.

    Asks over the socket in the broker's data directory, as its user; with --uri or --hostname over HTTP.
    """
    click.get_current_context().call_on_close(ctl.close)


ebbmqctl.params += global_options(is_above=True)


def main() -> None:
    """The entry point of the distribution."""
    try:
        ebbmqctl.main(prog_name=NAME, standalone_mode=False, obj=Ctl())
        code: int = ExitCode.OK
    except (StartRefused, ControlFailed) as refusal:
        click.echo(f"{NAME}: {refusal}", err=True)
        code = refusal.exit_code
    except click.ClickException as fault:
        fault.show()
        code = fault.exit_code
    except click.exceptions.Exit as ending:
        code = ending.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo(f"{NAME}: interrupted", err=True)
        code = ExitCode.FAILED
    except BrokenPipeError:
        # Whoever read our output left; Python would complain about that once more while it shuts down.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = ExitCode.FAILED
    sys.exit(code)


if __name__ == "__main__":
    main()
