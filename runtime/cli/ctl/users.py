"""Users, their passwords and tags, and what they may do where."""

import json
import sys
from ipaddress import ip_address
from typing import Any, Final

import click

from ipc.settings import UserSettings
from runtime.auth.passwords import hash_password as hashed
from runtime.cli.ctl.client import Api, ApiRefused
from runtime.cli.ctl.command import command
from runtime.cli.ctl.completion import EXCHANGE, USER
from runtime.cli.ctl.context import Ctl

_NEW: Final = click.argument("user")
_USER: Final = click.argument("user", type=USER)
_PASSWORD: Final = click.argument("password", required=False)
_RIGHTS: Final = (click.argument("configure"), click.argument("write"), click.argument("read"))
_PERMISSIONS: Final = ("user", "configure", "write", "read")


def _password(given: str | None) -> str:
    """From the command line as rabbitmqctl takes it, or better from standard input."""
    if given is not None:
        return given
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().rstrip("\n")


def _body(api: Api, user: str, **changes: Any) -> dict[str, Any]:
    """What a user is, with changes; the API replaces all of it."""
    found = api.get("users", user)
    kept = {name: found[name] for name in ("password_hash", "hashing_algorithm", "tags") if name in found}
    return {**kept, **changes}


@command()
def list_users(ctl: Ctl) -> None:
    """List users and their tags."""
    ctl.output.note("Listing users ...")
    ctl.output.rows(({**user, "user": user["name"]} for user in ctl.api.get("users")), ("user", "tags"))


@command(
    _NEW,
    _PASSWORD,
    click.option(
        "--tag", "tags", metavar="TAG", multiple=True, help="What the user is beyond messaging, e.g. administrator."
    ),
)
def add_user(ctl: Ctl, user: str, password: str | None, tags: tuple[str, ...]) -> None:
    """Add USER; without PASSWORD it is asked for, or read from standard input."""
    if ctl.api.find("users", user) is not None:
        raise click.ClickException(f"user '{user}' exists already")
    ctl.output.note(f'Adding user "{user}" ...')
    ctl.api.put("users", user, body={"password": _password(password), "tags": ",".join(tags)})
    ctl.output.note("Done. It may enter no virtual host yet: see set_permissions.")


@command(_USER)
def delete_user(ctl: Ctl, user: str) -> None:
    """Delete USER with all its permissions."""
    ctl.output.note(f'Deleting user "{user}" ...')
    ctl.api.delete("users", user)


@command(_USER, _PASSWORD)
def change_password(ctl: Ctl, user: str, password: str | None) -> None:
    """Give USER another PASSWORD, asked for or read from standard input where it is not given."""
    ctl.output.note(f'Changing password for user "{user}" ...')
    tags = ctl.api.get("users", user)["tags"]
    ctl.api.put("users", user, body={"password": _password(password), "tags": tags})


@command(_USER)
def clear_password(ctl: Ctl, user: str) -> None:
    """Take USER's password away: nobody can log in with one any more."""
    ctl.output.note(f'Clearing password for user "{user}" ...')
    tags = ctl.api.get("users", user)["tags"]
    ctl.api.put("users", user, body={"password_hash": "", "tags": tags})


@command(_USER, _PASSWORD)
def authenticate_user(ctl: Ctl, user: str, password: str | None) -> None:
    """Say whether USER can log in with PASSWORD, over HTTP, where the broker asks for one."""
    ctl.output.note(f'Authenticating user "{user}" ...')
    api = Api.remote(ctl.remote_uri or _http_uri(ctl.api), credentials=(user, _password(password)))
    try:
        api.get("whoami")
    except ApiRefused as refused:
        # Who may log in but not manage has the right password, too.
        if "management user" not in str(refused):
            raise click.ClickException(f"user '{user}' cannot log in: {refused}") from refused
    finally:
        api.close()
    ctl.output.note("Success")


def _http_uri(api: Api) -> str:
    """Where the broker behind the socket asks for passwords; it listens on loopback or everywhere."""
    for context in api.get("overview")["contexts"]:
        address = ip_address(context["ip"])
        if address.is_loopback or address.is_unspecified:
            host = "127.0.0.1" if address.version == 4 else "[::1]"
            return f"http://{host}:{context['port']}"
    raise click.UsageError("the socket asks for no password, and the broker has no HTTP port here: see --uri")


@command(_USER, click.argument("tags", nargs=-1))
def set_user_tags(ctl: Ctl, user: str, tags: tuple[str, ...]) -> None:
    """Give USER these TAGS and no others."""
    ctl.output.note(f'Setting tags for user "{user}" to [{", ".join(tags)}] ...')
    ctl.api.put("users", user, body=_body(ctl.api, user, tags=",".join(tags)))


@command(_PASSWORD)
def hash_password(ctl: Ctl, password: str | None) -> None:
    """Print the hash of PASSWORD, for definitions and `password_hash`."""
    click.echo(hashed(_password(password), UserSettings()))


# permissions ----------------------------------------------------------------------------------------------------------


@command()
def list_permissions(ctl: Ctl) -> None:
    """List who may do what in the virtual host."""
    ctl.output.note(f'Listing permissions for vhost "{ctl.vhost}" ...')
    ctl.output.rows(ctl.api.get("vhosts", ctl.vhost, "permissions"), _PERMISSIONS)


@command(_USER)
def list_user_permissions(ctl: Ctl, user: str) -> None:
    """List what USER may do where."""
    ctl.output.note(f'Listing permissions for user "{user}" ...')
    ctl.output.rows(ctl.api.get("users", user, "permissions"), ("vhost", "configure", "write", "read"))


@command(_USER, *_RIGHTS)
def set_permissions(ctl: Ctl, user: str, configure: str, write: str, read: str) -> None:
    """Let USER into the virtual host, to CONFIGURE, WRITE to and READ from what these expressions are found in."""
    ctl.output.note(f'Setting permissions for user "{user}" in vhost "{ctl.vhost}" ...')
    ctl.api.put("permissions", ctl.vhost, user, body={"configure": configure, "write": write, "read": read})


@command(_USER)
def clear_permissions(ctl: Ctl, user: str) -> None:
    """Keep USER out of the virtual host."""
    ctl.output.note(f'Clearing permissions for user "{user}" in vhost "{ctl.vhost}" ...')
    ctl.api.delete("permissions", ctl.vhost, user)


@command()
def list_topic_permissions(ctl: Ctl) -> None:
    """List who may use which routing keys in the virtual host."""
    ctl.output.note(f'Listing topic permissions for vhost "{ctl.vhost}" ...')
    found = ctl.api.get("vhosts", ctl.vhost, "topic-permissions")
    ctl.output.rows(found, ("user", "exchange", "write", "read"))


@command(_USER)
def list_user_topic_permissions(ctl: Ctl, user: str) -> None:
    """List which routing keys USER may use where."""
    ctl.output.note(f'Listing topic permissions for user "{user}" ...')
    ctl.output.rows(ctl.api.get("users", user, "topic-permissions"), ("vhost", "exchange", "write", "read"))


@command(_USER, click.argument("exchange", type=EXCHANGE), click.argument("write"), click.argument("read"))
def set_topic_permissions(ctl: Ctl, user: str, exchange: str, write: str, read: str) -> None:
    """Limit the routing keys by which USER may WRITE to and READ from a topic EXCHANGE, by expressions."""
    ctl.output.note(f'Setting topic permissions on "{exchange}" for user "{user}" in vhost "{ctl.vhost}" ...')
    body = {"exchange": exchange, "write": write, "read": read}
    ctl.api.put("topic-permissions", ctl.vhost, user, body=body)


@command(_USER, click.argument("exchange", type=EXCHANGE, required=False))
def clear_topic_permissions(ctl: Ctl, user: str, exchange: str | None) -> None:
    """Let USER use any routing key, on EXCHANGE or everywhere in the virtual host."""
    ctl.output.note(f'Clearing topic permissions for user "{user}" in vhost "{ctl.vhost}" ...')
    ctl.api.delete("topic-permissions", ctl.vhost, user, *((exchange,) if exchange else ()))


# limits ---------------------------------------------------------------------------------------------------------------


@command(_USER, click.argument("definition"))
def set_user_limits(ctl: Ctl, user: str, definition: str) -> None:
    """Limit USER: DEFINITION is JSON like {"max-connections": 10}."""
    ctl.output.note(f'Setting user limits to {definition} for user "{user}" ...')
    for name, value in limits(definition).items():
        ctl.api.put("user-limits", user, name, body={"value": value})


@command(_USER, click.argument("limit", type=click.Choice(("max-connections", "max-channels", "all"))))
def clear_user_limits(ctl: Ctl, user: str, limit: str) -> None:
    """Lift a LIMIT of USER (max-connections, max-channels), or `all`."""
    ctl.output.note(f'Clearing "{limit}" limits for user "{user}" ...')
    for name in ("max-connections", "max-channels") if limit == "all" else (limit,):
        ctl.api.delete("user-limits", user, name)


@command(
    click.option("--user", type=USER, default="guest", show_default=True, help="Whose limits."),
    click.option("--global", "of_all", is_flag=True, help="Those of all users, as a table."),
)
def list_user_limits(ctl: Ctl, user: str, of_all: bool) -> None:
    """Print the limits of a user, as JSON."""
    if of_all:
        ctl.output.note("Listing limits for all users ...")
        ctl.output.rows(ctl.api.get("user-limits"), ("user", "limits"))
        return
    ctl.output.note(f'Listing limits for user "{user}" ...')
    found = ctl.api.get("user-limits", user)
    click.echo(json.dumps(found[0]["value"] if found else {}, separators=(",", ":")))


def limits(definition: str) -> dict[str, int]:
    """From JSON. Raises click.UsageError."""
    try:
        decoded = json.loads(definition)
    except ValueError as fault:
        raise click.UsageError(f'limits are JSON like {{"max-connections": 10}}: {fault}') from fault
    if not isinstance(decoded, dict):
        raise click.UsageError('limits are JSON like {"max-connections": 10}')
    return decoded
