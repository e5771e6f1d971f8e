"""`ebbmq vhost`: virtual hosts come and go."""

import click

from runtime.cli.accounts import changed, located, opened
from runtime.supervisor import vhost_files


@click.group()
def vhost() -> None:
    """Add, delete and list virtual hosts."""


@vhost.command("add")
@click.argument("name")
@click.option("--shard", type=click.IntRange(min=0), help="Pin it to this shard instead of having one chosen.")
@located
def add(name: str, shard: int | None, config: str | None, data_dir: str | None) -> None:
    """Add virtual host NAME."""
    with changed(config, data_dir) as accounts:
        accounts.directory.add_vhost(name, shard)


@vhost.command("delete")
@click.argument("name")
@click.confirmation_option(prompt="All its queues and messages will be gone. Delete it?")
@located
def delete(name: str, config: str | None, data_dir: str | None) -> None:
    """Delete virtual host NAME with its queues and messages."""
    with changed(config, data_dir) as accounts:
        found = accounts.directory.find_vhost(name)
        accounts.directory.delete_vhost(name)
        # A running broker closes the files first, and removes them itself.
        if found is not None and not accounts.is_running:
            vhost_files.remove(accounts.paths, found.number)


@vhost.command("list")
@located
def list_all(config: str | None, data_dir: str | None) -> None:
    """List name, number and shard, separated by tabs."""
    with opened(config, data_dir) as accounts:
        for found in accounts.directory.vhosts():
            shard = "-" if found.shard is None else str(found.shard)
            click.echo(f"{found.name}\t{found.number}\t{shard}{' pinned' if found.pinned else ''}")
