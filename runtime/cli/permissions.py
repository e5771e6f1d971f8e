"""`ebbmq permissions`: which user may configure, write and read what in which virtual host."""

import click

from ipc.messages.commands import Permissions
from runtime.cli.accounts import changed, located, opened


@click.group()
def permissions() -> None:
    """Set, clear and list permissions."""


@permissions.command("set")
@click.argument("user")
@click.argument("vhost")
@click.option("--configure", metavar="REGEX", default=".*", show_default=True, help="What it may declare and delete.")
@click.option("--write", metavar="REGEX", default=".*", show_default=True, help="What it may publish to.")
@click.option("--read", metavar="REGEX", default=".*", show_default=True, help="What it may consume from.")
@located
def set_permissions(
    user: str, vhost: str, configure: str, write: str, read: str, config: str | None, data_dir: str | None
) -> None:
    """Let USER into VHOST. Names are matched by regular expressions; an empty one allows nothing."""
    with changed(config, data_dir) as accounts:
        accounts.directory.set_permissions(user, vhost, Permissions(configure, write, read))


@permissions.command("clear")
@click.argument("user")
@click.argument("vhost")
@located
def clear(user: str, vhost: str, config: str | None, data_dir: str | None) -> None:
    """Keep USER out of VHOST."""
    with changed(config, data_dir) as accounts:
        accounts.directory.clear_permissions(user, vhost)


@permissions.command("list")
@located
def list_all(config: str | None, data_dir: str | None) -> None:
    """List user, virtual host and the three expressions, separated by tabs."""
    with opened(config, data_dir) as accounts:
        for user, vhost, granted in accounts.directory.permissions():
            click.echo(f"{user}\t{vhost}\t{granted.configure}\t{granted.write}\t{granted.read}")
