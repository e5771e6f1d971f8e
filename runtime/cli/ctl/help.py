"""What this command itself can do."""

import click

from ipc.version import VERSION
from runtime.cli.ctl.command import command
from runtime.cli.ctl.context import Ctl


def _group(context: click.Context) -> tuple[click.Group, click.Context]:
    """The program with all commands, and its context."""
    above = context.parent
    assert above is not None
    assert isinstance(above.command, click.Group)
    return above.command, above


@command(
    click.argument("of", metavar="[COMMAND]", required=False),
    click.option("--list-commands", is_flag=True, help="Print the names of all commands."),
    name="help",
)
def show_help(ctl: Ctl, of: str | None, list_commands: bool) -> None:
    """Say what a COMMAND does and takes, or which there are."""
    program, above = _group(click.get_current_context())
    if list_commands:
        click.echo("\n".join(program.list_commands(above)))
        return
    if of is None:
        click.echo(program.get_help(above))
        return
    found = program.get_command(above, of)
    if found is None:
        raise click.UsageError(f"there is no command {of!r}")
    with click.Context(found, info_name=of, parent=above) as context:
        click.echo(found.get_help(context))


@command(click.argument("prefix", default=""))
def autocomplete(ctl: Ctl, prefix: str) -> None:
    """Print the names of commands that begin with PREFIX."""
    program, above = _group(click.get_current_context())
    names = [name for name in program.list_commands(above) if name.startswith(prefix)]
    if names:
        click.echo("\n".join(names))


@command()
def version(ctl: Ctl) -> None:
    """Print the version of this command."""
    click.echo(VERSION)
