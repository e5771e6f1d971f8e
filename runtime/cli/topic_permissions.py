"""`ebbmq topic-permissions`: which routing keys a user may publish and bind with on which topic exchange."""

import click

from ipc.messages.commands import TopicPermissions
from runtime.cli.accounts import changed, located, opened


@click.group("topic-permissions")
def topic_permissions() -> None:
    """Set, clear and list topic permissions."""


@topic_permissions.command("set")
@click.argument("user")
@click.argument("vhost")
@click.argument("exchange")
@click.option("--write", metavar="REGEX", default=".*", show_default=True, help="Routing keys it may publish with.")
@click.option("--read", metavar="REGEX", default=".*", show_default=True, help="Routing keys it may bind with.")
@located
def set_permissions(
    user: str, vhost: str, exchange: str, write: str, read: str, config: str | None, data_dir: str | None
) -> None:
    """Limit what USER may do on topic EXCHANGE of VHOST; {username} and {vhost} may stand in the expressions."""
    with changed(config, data_dir) as accounts:
        accounts.directory.set_topic_permissions(user, vhost, TopicPermissions(exchange, write, read))


@topic_permissions.command("clear")
@click.argument("user")
@click.argument("vhost")
@click.argument("exchange", required=False)
@located
def clear(user: str, vhost: str, exchange: str | None, config: str | None, data_dir: str | None) -> None:
    """Let USER use any routing key on EXCHANGE, or on all topic exchanges of VHOST."""
    with changed(config, data_dir) as accounts:
        accounts.directory.clear_topic_permissions(user, vhost, exchange)


@topic_permissions.command("list")
@located
def list_all(config: str | None, data_dir: str | None) -> None:
    """List user, virtual host, exchange and both expressions, separated by tabs."""
    with opened(config, data_dir) as accounts:
        for user, vhost, granted in accounts.directory.topic_permissions():
            click.echo(f"{user}\t{vhost}\t{granted.exchange}\t{granted.write}\t{granted.read}")
