"""Connections, channels and consumers, as they are listed."""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from ipc.errors import Refusal
from ipc.messages.inventory import Identity
from ipc.wire.amqp.plain import plain
from ipc.wire.amqp.tables import decode_table
from shards.inventory.column import Column, Gone, Register
from shards.inventory.stats import message_stats, traffic
from shards.model.vhost import VHost
from shards.protocols.amqp.channel import Channel
from shards.protocols.amqp.connection import Connection, ConnectionState
from shards.protocols.amqp.consuming import ChannelConsumer

_STATES: Final = {
    ConnectionState.OPEN: "running",
    ConnectionState.CLOSING: "closing",
    ConnectionState.CLOSED: "closed",
}


class Ends(NamedTuple):
    """Both ends of a connection, from its name `127.0.0.1:40312 -> 127.0.0.1:5672`."""

    peer_host: str
    peer_port: int
    host: str
    port: int

    @classmethod
    def of(cls, connection: Connection) -> "Ends":
        theirs, _, ours = connection.name.partition(" -> ")
        return cls(*_address(theirs), *_address(ours))


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port) if port.isdigit() else 0


# connections ----------------------------------------------------------------------------------------------------------


def connections(vhost: VHost) -> Iterator[Connection]:
    for connection in tuple(vhost.connections):
        if isinstance(connection, Connection):
            yield connection


def find_connection(vhost: VHost, identity: Identity) -> Connection:
    for connection in connections(vhost):
        if connection.name == identity[0]:
            return connection
    raise Gone


def _properties(vhost: VHost, connection: Connection) -> dict[str, Any]:
    raw = connection.client.client_properties
    try:
        return dict(plain(decode_table(raw, 0, len(raw)))) if raw else {}
    except (Refusal, ValueError):
        return {}  # nobody had looked at it before


def _state(vhost: VHost, connection: Connection) -> str:
    return "blocked" if connection in connection.turn.blocked else _STATES[connection.state]


def _rate(vhost: VHost, connection: Connection, counter: str) -> dict[str, float]:
    return {"rate": traffic(vhost.sampling, connection.tally, counter)[1]}


CONNECTION_COLUMNS: Final[dict[str, Column]] = {
    "name": lambda vhost, connection: connection.name,
    "vhost": lambda vhost, connection: vhost.name,
    "user": lambda vhost, connection: connection.client.user,
    "user_who_performed_action": lambda vhost, connection: connection.client.user,
    "protocol": lambda vhost, connection: "AMQP 0-9-1",
    "type": lambda vhost, connection: "network",
    "state": _state,
    "channels": lambda vhost, connection: len(connection.channels),
    "channel_max": lambda vhost, connection: connection.channel_max,
    "frame_max": lambda vhost, connection: connection.frame_max,
    "timeout": lambda vhost, connection: connection.client.heartbeat_seconds,
    "auth_mechanism": lambda vhost, connection: connection.client.mechanism,
    "client_properties": _properties,
    "connected_at": lambda vhost, connection: connection.opened_at,
    "peer_host": lambda vhost, connection: Ends.of(connection).peer_host,
    "peer_port": lambda vhost, connection: Ends.of(connection).peer_port,
    "host": lambda vhost, connection: Ends.of(connection).host,
    "port": lambda vhost, connection: Ends.of(connection).port,
    "ssl": lambda vhost, connection: False,
    "recv_oct": lambda vhost, connection: traffic(vhost.sampling, connection.tally, "recv_oct")[0],
    "recv_oct_details": lambda vhost, connection: _rate(vhost, connection, "recv_oct"),
    "recv_cnt": lambda vhost, connection: traffic(vhost.sampling, connection.tally, "recv_cnt")[0],
    "send_oct": lambda vhost, connection: traffic(vhost.sampling, connection.tally, "send_oct")[0],
    "send_oct_details": lambda vhost, connection: _rate(vhost, connection, "send_oct"),
    "send_cnt": lambda vhost, connection: traffic(vhost.sampling, connection.tally, "send_cnt")[0],
    "send_pend": lambda vhost, connection: connection.outbox.pending_bytes,
}

CONNECTIONS: Final[Register] = Register(
    things=connections,
    find=find_connection,
    identity=lambda connection: (connection.name,),
    columns=CONNECTION_COLUMNS,
)


# channels -------------------------------------------------------------------------------------------------------------


def _channels(vhost: VHost) -> Iterator[Channel]:
    for connection in connections(vhost):
        yield from tuple(connection.channels.values())


def channel_name(channel: Channel) -> str:
    """As RabbitMQ names it."""
    return f"{channel.connection.name} ({channel.number})"


def _find_channel(vhost: VHost, identity: Identity) -> Channel:
    name, _, number = identity[0].rpartition(" (")
    channel = None
    if number[:-1].isdigit():
        channel = find_connection(vhost, (name,)).channels.get(int(number[:-1]))
    if channel is None:
        raise Gone
    return channel


def connection_details(vhost: VHost, channel: Channel) -> dict[str, Any]:
    ends = Ends.of(channel.connection)
    return {"name": channel.connection.name, "peer_host": ends.peer_host, "peer_port": ends.peer_port}


CHANNEL_COLUMNS: Final[dict[str, Column]] = {
    "name": lambda vhost, channel: channel_name(channel),
    "number": lambda vhost, channel: channel.number,
    "vhost": lambda vhost, channel: vhost.name,
    "user": lambda vhost, channel: channel.connection.client.user,
    "state": lambda vhost, channel: "running" if channel.is_flowing else "flow",
    "consumer_count": lambda vhost, channel: len(channel.consumers),
    "prefetch_count": lambda vhost, channel: channel.prefetch_of_new_consumers,
    "global_prefetch_count": lambda vhost, channel: channel.prefetch,
    "confirm": lambda vhost, channel: channel.confirms is not None,
    "transactional": lambda vhost, channel: channel.transaction is not None,
    "messages_unacknowledged": lambda vhost, channel: len(channel.ledger),
    "messages_unconfirmed": lambda vhost, channel: 0 if channel.confirms is None else channel.confirms.pending_count,
    "messages_uncommitted": lambda vhost, channel: channel.transaction.message_count if channel.transaction else 0,
    "acks_uncommitted": lambda vhost, channel: channel.transaction.settlement_count if channel.transaction else 0,
    "connection_details": connection_details,
    "message_stats": lambda vhost, channel: message_stats(vhost.sampling, channel.tally),
}

CHANNELS: Final[Register] = Register(
    things=_channels,
    find=_find_channel,
    identity=lambda channel: (channel_name(channel),),
    columns=CHANNEL_COLUMNS,
)


# consumers ------------------------------------------------------------------------------------------------------------


def _consumers(vhost: VHost) -> Iterator[ChannelConsumer]:
    for channel in _channels(vhost):
        yield from tuple(channel.consumers.values())


def find_consumer(vhost: VHost, identity: Identity) -> ChannelConsumer:
    name, number, tag = identity
    channel = find_connection(vhost, (name,)).channels.get(int(number) if number.isdigit() else 0)
    consumer = None if channel is None else channel.consumers.get(tag)
    if consumer is None:
        raise Gone
    return consumer


def _channel_details(vhost: VHost, consumer: ChannelConsumer) -> dict[str, Any]:
    channel = consumer.channel
    return {
        **connection_details(vhost, channel),
        "name": channel_name(channel),
        "connection_name": channel.connection.name,
        "number": channel.number,
        "user": channel.connection.client.user,
    }


def _is_active(vhost: VHost, consumer: ChannelConsumer) -> bool:
    return not consumer.queue.terms.is_single_active or consumer.queue.active_consumer is consumer


CONSUMER_COLUMNS: Final[dict[str, Column]] = {
    "consumer_tag": lambda vhost, consumer: consumer.tag,
    "queue": lambda vhost, consumer: {"name": consumer.queue.name, "vhost": vhost.name},
    "vhost": lambda vhost, consumer: vhost.name,
    "exclusive": lambda vhost, consumer: consumer.is_exclusive,
    "ack_required": lambda vhost, consumer: consumer.needs_ack,
    "prefetch_count": lambda vhost, consumer: consumer.prefetch,
    "priority": lambda vhost, consumer: consumer.priority,
    "active": _is_active,
    "activity_status": lambda vhost, consumer: "up" if _is_active(vhost, consumer) else "waiting",
    "arguments": lambda vhost, consumer: {"x-priority": consumer.priority} if consumer.priority else {},
    "channel_details": _channel_details,
}

CONSUMERS: Final[Register] = Register(
    things=_consumers,
    find=find_consumer,
    identity=lambda consumer: (consumer.channel.connection.name, str(consumer.channel.number), consumer.tag),
    columns=CONSUMER_COLUMNS,
)
