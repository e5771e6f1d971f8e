"""Everything an operator may be asked for, in one piece."""

from typing import Final

import click

from runtime.cli.ctl.checks import alarms
from runtime.cli.ctl.clients import list_channels, list_connections, list_consumers
from runtime.cli.ctl.command import command
from runtime.cli.ctl.context import Ctl
from runtime.cli.ctl.exchanges import list_exchanges
from runtime.cli.ctl.memory import memory
from runtime.cli.ctl.policies import list_global_parameters, list_operator_policies, list_parameters, list_policies
from runtime.cli.ctl.queues import list_bindings, list_queues
from runtime.cli.ctl.server import cluster_status, environment, shards, status
from runtime.cli.ctl.users import list_permissions, list_topic_permissions, list_user_limits, list_users
from runtime.cli.ctl.vhosts import list_vhost_limits, list_vhosts

_QUEUE_COLUMNS: Final = ("name", "durable", "policy", "state", "messages", "messages_unacknowledged", "consumers")
_OF_ALL: Final = (status, cluster_status, alarms, shards, memory, environment)
_LISTS: Final = (list_connections, list_channels, list_users, list_vhosts, list_global_parameters)
_OF_VHOST: Final = (
    list_exchanges,
    list_bindings,
    list_consumers,
    list_permissions,
    list_topic_permissions,
    list_policies,
    list_operator_policies,
    list_parameters,
)


@command()
def report(ctl: Ctl) -> None:
    """Print all there is to know for support: status, settings, and every list of every virtual host."""
    context = click.get_current_context()

    def show(asked: click.Command, **parameters: object) -> None:
        ctl.output.note(f"\n{asked.name}")
        context.invoke(asked, **parameters)

    for asked in (*_OF_ALL, *_LISTS):
        show(asked)
    show(list_user_limits, of_all=True)
    show(list_vhost_limits, of_all=True)
    for vhost in [one["name"] for one in ctl.api.get("vhosts")]:
        ctl.vhost = vhost
        show(list_queues, columns=_QUEUE_COLUMNS)
        for asked in _OF_VHOST:
            show(asked)
