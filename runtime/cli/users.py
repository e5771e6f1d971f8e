"""`ebbmq user`: accounts and their passwords, which never stand on a command line."""

import sys

import click

from runtime.auth.passwords import hash_password
from runtime.cli.accounts import changed, located, opened

_PASSWORD_STDIN = click.option(
    "--password-stdin", is_flag=True, help="Read the password from standard input instead of asking for it."
)


@click.group()
def user() -> None:
    """Add, change, delete and list users."""


@user.command("add")
@click.argument("name")
@click.option("--tag", "tags", multiple=True, help="What the user is beyond messaging, e.g. administrator.")
@_PASSWORD_STDIN
@located
def add(name: str, tags: tuple[str, ...], password_stdin: bool, config: str | None, data_dir: str | None) -> None:
    """Add user NAME; without permissions it may not enter any virtual host yet."""
    chosen = password(from_stdin=password_stdin)
    with changed(config, data_dir) as accounts:
        accounts.directory.add_user(name, hash_password(chosen, accounts.settings), tags)


@user.command("set-password")
@click.argument("name")
@_PASSWORD_STDIN
@located
def set_password(name: str, password_stdin: bool, config: str | None, data_dir: str | None) -> None:
    """Give user NAME another password."""
    chosen = password(from_stdin=password_stdin)
    with changed(config, data_dir) as accounts:
        accounts.directory.set_password(name, hash_password(chosen, accounts.settings))


@user.command("tags")
@click.argument("name")
@click.argument("tags", nargs=-1)
@located
def set_tags(name: str, tags: tuple[str, ...], config: str | None, data_dir: str | None) -> None:
    """Give user NAME these TAGS and no others; it has them from its next login on."""
    with changed(config, data_dir) as accounts:
        accounts.directory.set_tags(name, tags)


@user.command("delete")
@click.argument("name")
@located
def delete(name: str, config: str | None, data_dir: str | None) -> None:
    """Delete user NAME with all its permissions."""
    with changed(config, data_dir) as accounts:
        accounts.directory.delete_user(name)


@user.command("list")
@located
def list_all(config: str | None, data_dir: str | None) -> None:
    """List name and tags, separated by tabs."""
    with opened(config, data_dir) as accounts:
        for found in accounts.directory.users():
            click.echo(f"{found.name}\t{' '.join(found.tags)}")


def password(*, from_stdin: bool) -> str:
    """Ask twice, or read one line."""
    if from_stdin:
        answer = sys.stdin.readline().rstrip("\n")
    else:
        answer = str(click.prompt("Password", hide_input=True, confirmation_prompt=True))
    if not answer:
        raise click.UsageError("an empty password is none")
    return answer
