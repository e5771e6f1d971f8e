"""`ebbmq`: finds the module of a command when it is called, and turns refusals into one sentence and an exit code."""

import importlib
import os
import signal
import sys
from typing import Final

import click

from ipc.errors import ControlFailed, ExitCode, StartRefused

COMMAND: Final = "ebbmq"
VERSION: Final = "runtime.cli.version:version_and_speed"

INIT: Final = 1  # the first process of a machine, or of a container
SIGNALLED: Final = 128  # and the signal's number: what a shell gives as the code of whoever was ended by one

# Loaded on demand: a broker at work has no use for the modules of commands that a person types once a month.
COMMANDS: Final = {
    "serve": "runtime.cli.serve:serve",
    "status": "runtime.cli.status:status",
    "memory": "runtime.cli.memory:memory",
    "backup": "runtime.cli.backup:backup",
    "restore": "runtime.cli.backup:restore",
    "queue": "runtime.cli.queues:queue",
    "vhost": "runtime.cli.vhosts:vhost",
    "user": "runtime.cli.users:user",
    "permissions": "runtime.cli.permissions:permissions",
    "topic-permissions": "runtime.cli.topic_permissions:topic_permissions",
    "policy": "runtime.cli.policies:policy",
    "operator-policy": "runtime.cli.policies:operator_policy",
    "limits": "runtime.cli.limits:limits",
    "perf": "runtime.cli.perf.command:perf",
}


class LazyGroup(click.Group):
    """click's documented way to load subcommands late."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = load(COMMANDS[cmd_name])
        assert isinstance(command, click.Command)
        return command


def load(name: str) -> object:
    """`package.module:attribute`, imported now."""
    module, _, attribute = name.partition(":")
    found: object = getattr(importlib.import_module(module), attribute)
    return found


def show_version(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        version_and_speed = load(VERSION)
        assert callable(version_and_speed)
        click.echo(f"{COMMAND} {version_and_speed()}")
        context.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=show_version,
    help="Show the version, and whether hot modules are compiled, and exit.",
)
def ebbmq() -> None:
    """EbbMQ, a message broker that gives memory back."""


def end_by_term() -> None:
    """Have TERM end us as if nobody had asked for it, also where the kernel keeps it from us.

    The first process of a container gets only signals it asks for: `docker stop` would wait in vain while it starts.
    """
    signal.signal(signal.SIGTERM, lambda number, _frame: os._exit(SIGNALLED + number))


def main() -> None:
    """The entry point of the distribution."""
    if os.getpid() == INIT:
        end_by_term()
    try:
        ebbmq.main(prog_name=COMMAND, standalone_mode=False)
        code: int = ExitCode.OK
    except (StartRefused, ControlFailed) as refusal:
        click.echo(f"{COMMAND}: {refusal}", err=True)
        code = refusal.exit_code
    except click.ClickException as fault:
        fault.show()
        code = fault.exit_code
    except click.exceptions.Exit as ending:
        code = ending.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo(f"{COMMAND}: interrupted", err=True)
        code = ExitCode.FAILED
    except BrokenPipeError:
        # Whoever read our output left; Python would complain about that once more while it shuts down.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = ExitCode.FAILED
    sys.exit(code)


if __name__ == "__main__":
    main()
