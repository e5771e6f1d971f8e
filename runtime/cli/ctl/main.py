"""`ebbmqctl`: finds a command by rabbitmqctl's or lavinmqctl's name, and turns refusals into a sentence and a code."""

import os
import sys
from typing import Final

import click

from ipc.errors import ControlFailed, ExitCode, StartRefused
from ipc.version import VERSION
from runtime.cli.ctl.context import Ctl, globals_of, pass_ctl
from runtime.cli.main import load

NAME: Final = "ebbmqctl"

_ROOMS: Final = {
    "users": (
        "add_user authenticate_user change_password clear_password clear_permissions clear_topic_permissions "
        "clear_user_limits delete_user hash_password list_permissions list_topic_permissions list_user_limits "
        "list_user_permissions list_user_topic_permissions list_users set_permissions set_topic_permissions "
        "set_user_limits set_user_tags"
    ),
    "vhosts": ("add_vhost clear_vhost_limits delete_vhost list_vhost_limits list_vhosts move_vhost set_vhost_limits"),
    "queues": (
        "create_queue delete_queue list_queues pause_queue purge_queue restart_queue resume_queue list_bindings"
    ),
    "exchanges": "create_exchange delete_exchange list_exchanges",
    "clients": (
        "close_all_connections close_all_user_connections close_connection list_channels list_connections "
        "list_consumers"
    ),
    "policies": (
        "clear_operator_policy clear_policy list_operator_policies list_policies set_operator_policy set_policy "
        "clear_global_parameter clear_parameter list_global_parameters list_parameters set_global_parameter "
        "set_parameter"
    ),
    "definitions": "export_definitions import_definitions",
    "server": (
        "alarms await_startup cluster_status compact drain gc_collect list_listeners memory ping set_cluster_name "
        "shards start_app status stop stop_app version"
    ),
}
COMMANDS: Final = {name: room for room, names in _ROOMS.items() for name in names.split()}


class Commands(click.Group):
    """Loads the room of a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        room = COMMANDS.get(cmd_name)
        if room is None:
            return None
        command = load(f"runtime.cli.ctl.{room}:{cmd_name}")
        assert isinstance(command, click.Command)
        return command


@click.group(NAME, cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name=NAME)
@globals_of
@pass_ctl
def ebbmqctl(ctl: Ctl) -> None:
    """Look after a broker: rabbitmqctl's and lavinmqctl's commands.

    Asks over the socket in the broker's data directory, as its user; with --uri over HTTP.
    """
    click.get_current_context().call_on_close(ctl.close)


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
