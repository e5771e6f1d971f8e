"""`ebbmq policy` and `ebbmq operator-policy`: settings for all queues and exchanges of a virtual host with such names.

The second kind narrows down what the first may ask for, and is meant for whoever runs the broker for others.
"""

import click
import msgspec

from ipc.messages.rules import Definition, Policy
from runtime.cli.accounts import changed, located, opened
from runtime.decisions.policies import APPLY_TO, WITHOUT_EFFECT

_VHOST = click.option("--vhost", metavar="NAME", default="/", show_default=True, help="Its virtual host.")


def _definition(_context: click.Context, _argument: click.Parameter, value: str) -> Definition:
    """A JSON object; whether its settings make sense is the directory's to say."""
    try:
        return msgspec.json.decode(value, type=Definition)
    except msgspec.MsgspecError as fault:
        raise click.BadParameter(f"{value!r} is not a JSON object of numbers and texts: {fault}") from fault


def _commands(group: click.Group, *, is_operator: bool) -> None:
    """The three commands of both kinds."""

    @group.command("set")
    @click.argument("name")
    @click.argument("pattern")
    @click.argument("definition", callback=_definition)
    @_VHOST
    @click.option("--apply-to", type=click.Choice(APPLY_TO), default="all", show_default=True, help="To what.")
    @click.option("--priority", type=int, default=0, show_default=True, help="Of those that match the highest counts.")
    @located
    def set_policy(
        name: str,
        pattern: str,
        definition: Definition,
        vhost: str,
        apply_to: str,
        priority: int,
        config: str | None,
        data_dir: str | None,
    ) -> None:
        """Have policy NAME say DEFINITION, JSON such as '{"max-length": 1000}', of names in which PATTERN is found."""
        policy = Policy(name, pattern, definition, apply_to, priority)
        with changed(config, data_dir) as accounts:
            accounts.directory.set_policy(vhost, policy, is_operator=is_operator)
        idle = sorted(WITHOUT_EFFECT & definition.keys())
        if idle:
            click.echo(f"without effect here: {', '.join(idle)}", err=True)

    @group.command("clear")
    @click.argument("name")
    @_VHOST
    @located
    def clear(name: str, vhost: str, config: str | None, data_dir: str | None) -> None:
        """Take the policy NAME away."""
        with changed(config, data_dir) as accounts:
            accounts.directory.clear_policy(vhost, name, is_operator=is_operator)

    @group.command("list")
    @located
    def list_all(config: str | None, data_dir: str | None) -> None:
        """List virtual host, name, pattern, what it applies to, definition and priority, separated by tabs."""
        with opened(config, data_dir) as accounts:
            for vhost in accounts.directory.vhosts():
                rules = accounts.directory.rules(vhost.name)
                for policy in rules.operator_policies if is_operator else rules.policies:
                    definition = msgspec.json.encode(policy.definition, order="deterministic").decode()
                    fields = vhost.name, policy.name, policy.pattern, policy.apply_to, definition, str(policy.priority)
                    click.echo("\t".join(fields))


@click.group()
def policy() -> None:
    """Set, clear and list policies."""


@click.group("operator-policy")
def operator_policy() -> None:
    """Set, clear and list operator policies, which limit what policies and arguments may ask for."""


_commands(policy, is_operator=False)
_commands(operator_policy, is_operator=True)
