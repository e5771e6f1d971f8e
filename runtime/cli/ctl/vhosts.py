"""Virtual hosts and their limits."""

import json
from typing import Final

import click

from runtime.cli.ctl.columns import COLUMNS
from runtime.cli.ctl.command import command
from runtime.cli.ctl.completion import VHOST
from runtime.cli.ctl.context import Ctl
from runtime.cli.ctl.users import limits

_NEW: Final = click.argument("vhost")
_VHOST: Final = click.argument("vhost", type=VHOST)


@command(COLUMNS)
def list_vhosts(ctl: Ctl, columns: tuple[str, ...]) -> None:
    """List virtual hosts; COLUMNS such as name, messages."""
    ctl.output.note("Listing vhosts ...")
    ctl.output.rows(ctl.api.get("vhosts"), columns or ("name",))


@command(
    _NEW,
    click.option("--description", default="", help="What it is for."),
    click.option("--tags", default="", help="Words about it, separated by commas."),
    click.option("--default-queue-type", metavar="TYPE", help="What queues are that name no type."),
)
def add_vhost(ctl: Ctl, vhost: str, description: str, tags: str, default_queue_type: str | None) -> None:
    """Add VHOST; nobody may enter it yet."""
    ctl.output.note(f'Adding vhost "{vhost}" ...')
    body = {"description": description, "tags": tags}
    if default_queue_type:
        body["default_queue_type"] = default_queue_type
    ctl.api.put("vhosts", vhost, body=body)


@command(_VHOST)
def delete_vhost(ctl: Ctl, vhost: str) -> None:
    """Delete VHOST with everything in it."""
    ctl.output.note(f'Deleting vhost "{vhost}" ...')
    ctl.api.delete("vhosts", vhost)


@command(_VHOST, click.argument("tags", nargs=-1))
def set_vhost_tags(ctl: Ctl, vhost: str, tags: tuple[str, ...]) -> None:
    """Give VHOST these TAGS and no others."""
    ctl.output.note(f'Setting tags for virtual host "{vhost}" to [{", ".join(tags)}] ...')
    found = ctl.api.get("vhosts", vhost)
    ctl.api.put("vhosts", vhost, body={**found["metadata"], "tags": list(tags)})


@command(_VHOST, click.argument("shard", type=int))
def move_vhost(ctl: Ctl, vhost: str, shard: int) -> None:
    """Have SHARD own VHOST from now on; its clients have to connect again."""
    ctl.output.note(f'Moving vhost "{vhost}" to shard {shard} ...')
    ctl.api.post("vhosts", vhost, "move", body={"shard": shard})


@command(click.argument("definition"))
def set_vhost_limits(ctl: Ctl, definition: str) -> None:
    """Limit the virtual host: DEFINITION is JSON like {"max-connections": 64, "max-queues": 100}."""
    ctl.output.note(f'Setting vhost limits to "{definition}" for vhost "{ctl.vhost}" ...')
    for name, value in limits(definition).items():
        ctl.api.put("vhost-limits", ctl.vhost, name, body={"value": value})


@command()
def clear_vhost_limits(ctl: Ctl) -> None:
    """Lift all limits of the virtual host."""
    ctl.output.note(f'Clearing vhost "{ctl.vhost}" limits ...')
    for one in ctl.api.get("vhost-limits", ctl.vhost):
        for name in one["value"]:
            ctl.api.delete("vhost-limits", ctl.vhost, name)


@command(click.option("--global", "of_all", is_flag=True, help="Those of all virtual hosts, as a table."))
def list_vhost_limits(ctl: Ctl, of_all: bool) -> None:
    """Print the limits of the virtual host, as JSON."""
    if of_all:
        ctl.output.note("Listing limits for all vhosts ...")
        ctl.output.rows(ctl.api.get("vhost-limits"), ("vhost", "limits"))
        return
    ctl.output.note(f'Listing limits for vhost "{ctl.vhost}" ...')
    found = ctl.api.get("vhost-limits", ctl.vhost)
    click.echo(json.dumps(found[0]["value"] if found else {}, separators=(",", ":")))
