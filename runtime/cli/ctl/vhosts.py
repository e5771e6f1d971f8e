"""Virtual hosts and their limits."""

from typing import Final

import click

from runtime.cli.ctl.command import command
from runtime.cli.ctl.context import Ctl
from runtime.cli.ctl.users import limits

_VHOST: Final = click.argument("vhost")


@command(click.argument("columns", nargs=-1))
def list_vhosts(ctl: Ctl, columns: tuple[str, ...]) -> None:
    """List virtual hosts; COLUMNS such as name, messages."""
    ctl.output.note("Listing vhosts ...")
    ctl.output.rows(ctl.api.get("vhosts"), columns or ("name",))


@command(
    _VHOST,
    click.option("--description", default=""),
    click.option("--tags", default=""),
    click.option("--default-queue-type"),
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


@command(click.option("--global", "is_global", is_flag=True, hidden=True))
def list_vhost_limits(ctl: Ctl, is_global: bool) -> None:
    """List limits of all virtual hosts."""
    ctl.output.note("Listing limits for all vhosts ...")
    ctl.output.rows(ctl.api.get("vhost-limits"), ("vhost", "value"))
