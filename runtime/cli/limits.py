"""`ebbmq limits`: how many connections and queues a virtual host may have."""

import click

from runtime.auth.directory import LIMITS
from runtime.cli.accounts import changed, located, opened

_LIMIT = click.argument("limit", type=click.Choice(tuple(LIMITS)))


@click.group()
def limits() -> None:
    """Set, clear and list limits of virtual hosts."""


@limits.command("set")
@click.argument("vhost")
@_LIMIT
@click.argument("value", type=click.IntRange(min=0))
@located
def set_limit(vhost: str, limit: str, value: int, config: str | None, data_dir: str | None) -> None:
    """Allow at most VALUE connections or queues in VHOST, as LIMIT says; what is there already stays."""
    with changed(config, data_dir) as accounts:
        accounts.directory.set_limit(vhost, limit, value)


@limits.command("clear")
@click.argument("vhost")
@_LIMIT
@located
def clear(vhost: str, limit: str, config: str | None, data_dir: str | None) -> None:
    """Lift LIMIT of VHOST: any number is allowed again."""
    with changed(config, data_dir) as accounts:
        accounts.directory.clear_limit(vhost, limit)


@limits.command("list")
@located
def list_all(config: str | None, data_dir: str | None) -> None:
    """List virtual host, limit and value, separated by tabs."""
    with opened(config, data_dir) as accounts:
        for vhost in accounts.directory.vhosts():
            rules = accounts.directory.rules(vhost.name)
            for limit, field in LIMITS.items():
                value = getattr(rules, field)
                if value is not None:
                    click.echo(f"{vhost.name}\t{limit}\t{value}")
