"""Shovels and federation, as far as they are known."""

from runtime.cli.ctl.command import command
from runtime.cli.ctl.context import Ctl


@command()
def list_shovels(ctl: Ctl) -> None:
    """List shovels of the virtual host that run."""
    ctl.output.note(f"Listing shovels in vhost {ctl.vhost} ...")
    ctl.output.rows(ctl.api.get("shovels", ctl.vhost), ("name", "vhost", "type", "state"))


@command()
def list_federations(ctl: Ctl) -> None:
    """List upstreams that are laid down in the virtual host."""
    ctl.output.note(f"Listing federations in vhost {ctl.vhost} ...")
    found = ctl.api.get("parameters", "federation-upstream", ctl.vhost)
    ctl.output.rows([{**one, "uri": one["value"].get("uri")} for one in found], ("name", "uri"))
