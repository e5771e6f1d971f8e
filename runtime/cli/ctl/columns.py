"""Columns of lists: those that rabbitmqctl knows, and where the API has what stands in them."""

from typing import Any, Final

import click
from click.shell_completion import CompletionItem

_QUEUES: Final = (
    "name durable auto_delete exclusive arguments policy type state leader members online pid owner_pid messages "
    "messages_ready messages_unacknowledged messages_persistent messages_ram messages_ready_ram "
    "messages_unacknowledged_ram message_bytes message_bytes_ready message_bytes_unacknowledged "
    "message_bytes_persistent message_bytes_ram consumers consumer_capacity consumer_utilisation "
    "exclusive_consumer_pid exclusive_consumer_tag head_message_timestamp disk_reads disk_writes memory slave_pids "
    "synchronised_slave_pids recoverable_slaves"
)
_CONNECTIONS: Final = (
    "pid name host port peer_host peer_port user vhost state protocol auth_mechanism channels channel_max frame_max "
    "timeout client_properties connected_at recv_oct recv_cnt send_oct send_cnt send_pend ssl ssl_protocol "
    "ssl_key_exchange ssl_cipher ssl_hash peer_cert_subject peer_cert_issuer peer_cert_validity"
)
_CHANNELS: Final = (
    "pid connection name number user vhost transactional confirm consumer_count messages_unacknowledged "
    "messages_uncommitted acks_uncommitted messages_unconfirmed prefetch_count global_prefetch_count"
)
_CONSUMERS: Final = "queue_name channel_pid consumer_tag ack_required prefetch_count active activity_status arguments"

OF_COMMAND: Final = {
    "list_queues": _QUEUES.split(),
    "list_unresponsive_queues": ["name", "durable", "auto_delete", "arguments", "pid", "recoverable_slaves"],
    "list_connections": _CONNECTIONS.split(),
    "list_channels": _CHANNELS.split(),
    "list_consumers": _CONSUMERS.split(),
    "list_exchanges": ["name", "type", "durable", "auto_delete", "internal", "arguments", "policy"],
    "list_bindings": [
        "source_name",
        "source_kind",
        "destination_name",
        "destination_kind",
        "routing_key",
        "arguments",
    ],
    "list_vhosts": ["name", "description", "tags", "default_queue_type", "cluster_state", "tracing"],
    "list_feature_flags": ["name", "state", "stability", "provided_by", "desc", "doc_url"],
}
RABBITMQS: Final = frozenset(column for columns in OF_COMMAND.values() for column in columns)

# rabbitmqctl's names of columns, and where the API has them.
OTHER_NAMES: Final = {
    "pid": "name",
    "leader": "node",
    "source_name": "source",
    "destination_name": "destination",
    "destination_kind": "destination_type",
    "queue_name": "queue.name",
    "owner_pid": "owner_pid_details.name",
    "connection": "connection_details.name",
    "channel_pid": "channel_details.name",
    "limits": "value",
}
CONSTANTS: Final[dict[str, Any]] = {"source_kind": "exchange", "slave_pids": [], "synchronised_slave_pids": []}

IN_JSON: Final = frozenset(("definition", "value", "limits"))
"""Was given as JSON, and comes out as it."""

ONE_BY_ONE: Final = frozenset(("memory", "head_message_timestamp"))
"""Of a queue the API tells these only where it is looked at alone."""


class Column(click.ParamType):  # type: ignore[type-arg]  # click 8.1 knows no argument of it
    """A name of a column; completed from those that rabbitmqctl has for the command."""

    name = "column"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        known = OF_COMMAND.get(ctx.info_name or "", [])
        return [CompletionItem(name) for name in known if name.startswith(incomplete)]


def _words(_context: click.Context, _parameter: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    """`name,messages` is two of them, as with rabbitmqctl."""
    return tuple(word for words in given for word in words.split(",") if word)


COLUMNS: Final = click.argument("columns", nargs=-1, type=Column(), callback=_words)
