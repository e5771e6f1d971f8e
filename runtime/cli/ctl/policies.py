"""Policies, operator policies and parameters."""

import json
from typing import Any, Final

import click

from runtime.cli.ctl.command import command
from runtime.cli.ctl.context import Ctl
from runtime.cli.ctl.queues import json_object

_NAME: Final = click.argument("name")
_POLICY: Final = (
    _NAME,
    click.argument("pattern"),
    click.argument("definition"),
    click.option(
        "--priority", type=int, default=0, show_default=True, help="Of those that fit, the highest is obeyed."
    ),
    click.option("--apply-to", metavar="KIND", default="all", show_default=True, help="queues, exchanges or all."),
)
_COLUMNS: Final = ("vhost", "name", "pattern", "apply-to", "definition", "priority")


def _set(ctl: Ctl, kind: str, name: str, pattern: str, definition: str, priority: int, apply_to: str) -> None:
    body = {
        "pattern": pattern,
        "definition": json_object(definition),
        "priority": priority,
        "apply-to": apply_to,
    }
    ctl.api.put(kind, ctl.vhost, name, body=body)


@command(*_POLICY)
def set_policy(ctl: Ctl, name: str, pattern: str, definition: str, priority: int, apply_to: str) -> None:
    """Have policy NAME say DEFINITION, JSON, of all whose name PATTERN is found in."""
    what = f'"{name}" for pattern "{pattern}" to "{definition}" with priority "{priority}" for vhost "{ctl.vhost}"'
    ctl.output.note(f"Setting policy {what} ...")
    _set(ctl, "policies", name, pattern, definition, priority, apply_to)


@command(_NAME)
def clear_policy(ctl: Ctl, name: str) -> None:
    """Take policy NAME back."""
    ctl.output.note(f'Clearing policy "{name}" on vhost "{ctl.vhost}" ...')
    ctl.api.delete("policies", ctl.vhost, name)


@command()
def list_policies(ctl: Ctl) -> None:
    """List policies of the virtual host."""
    ctl.output.note(f'Listing policies for vhost "{ctl.vhost}" ...')
    ctl.output.rows(ctl.api.get("policies", ctl.vhost), _COLUMNS)


@command(*_POLICY)
def set_operator_policy(ctl: Ctl, name: str, pattern: str, definition: str, priority: int, apply_to: str) -> None:
    """Have operator policy NAME limit by DEFINITION, JSON, what policies and arguments say where PATTERN is found."""
    what = f'"{name}" for pattern "{pattern}" to "{definition}" with priority "{priority}" for vhost "{ctl.vhost}"'
    ctl.output.note(f"Setting operator policy override {what} ...")
    _set(ctl, "operator-policies", name, pattern, definition, priority, apply_to)


@command(_NAME)
def clear_operator_policy(ctl: Ctl, name: str) -> None:
    """Take operator policy NAME back."""
    ctl.output.note(f'Clearing operator policy "{name}" on vhost "{ctl.vhost}" ...')
    ctl.api.delete("operator-policies", ctl.vhost, name)


@command()
def list_operator_policies(ctl: Ctl) -> None:
    """List operator policies of the virtual host."""
    ctl.output.note(f'Listing operator policy overrides for vhost "{ctl.vhost}" ...')
    ctl.output.rows(ctl.api.get("operator-policies", ctl.vhost), _COLUMNS)


# parameters -----------------------------------------------------------------------------------------------------------


@command(click.argument("component"), _NAME, click.argument("value"))
def set_parameter(ctl: Ctl, component: str, name: str, value: str) -> None:
    """Set parameter NAME of COMPONENT to VALUE, JSON, in the virtual host."""
    ctl.output.note(f'Setting runtime parameter "{name}" for component "{component}" to "{value}" ...')
    body = {"vhost": ctl.vhost, "component": component, "name": name, "value": _json(value)}
    ctl.api.put("parameters", component, ctl.vhost, name, body=body)


@command(click.argument("component"), _NAME)
def clear_parameter(ctl: Ctl, component: str, name: str) -> None:
    """Take parameter NAME of COMPONENT back."""
    ctl.output.note(f'Clearing runtime parameter "{name}" for component "{component}" ...')
    ctl.api.delete("parameters", component, ctl.vhost, name)


@command()
def list_parameters(ctl: Ctl) -> None:
    """List parameters of the virtual host."""
    ctl.output.note(f'Listing runtime parameters for vhost "{ctl.vhost}" ...')
    found = [one for one in ctl.api.get("parameters") if one["vhost"] == ctl.vhost]
    ctl.output.rows(found, ("component", "name", "value"))


@command(_NAME, click.argument("value"))
def set_global_parameter(ctl: Ctl, name: str, value: str) -> None:
    """Set the global parameter NAME to VALUE, JSON."""
    ctl.output.note(f'Setting global runtime parameter "{name}" to "{value}" ...')
    ctl.api.put("global-parameters", name, body={"name": name, "value": _json(value)})


@command(_NAME)
def clear_global_parameter(ctl: Ctl, name: str) -> None:
    """Take the global parameter NAME back."""
    ctl.output.note(f'Clearing global runtime parameter "{name}" ...')
    ctl.api.delete("global-parameters", name)


@command()
def list_global_parameters(ctl: Ctl) -> None:
    """List global parameters."""
    ctl.output.note("Listing global runtime parameters ...")
    ctl.output.rows(ctl.api.get("global-parameters"), ("name", "value"))


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as fault:
        raise click.UsageError(f"{text!r} is no JSON: {fault}") from fault
