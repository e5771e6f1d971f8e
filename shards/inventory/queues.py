"""Queues, as they are listed."""

from datetime import UTC, datetime
from typing import Any, Final

from ipc.messages.inventory import Identity
from ipc.wire.amqp.plain import plain
from shards.inventory.column import Column, Gone, Order, Register, inside
from shards.inventory.queue_survey import survey
from shards.inventory.stats import message_stats, statistic
from shards.model.policies import CLASSIC, QUORUM, UNRULED
from shards.model.queues.queue import Queue
from shards.model.vhost import VHost
from shards.protocols.amqp.connection import Connection

IDLE_MS: Final = 5000
"""Without anything happening to it, after which a queue is shown as idle: RabbitMQ's interval of statistics."""


def _find(vhost: VHost, identity: Identity) -> Queue:
    queue = vhost.find_queue(identity[0])
    if queue is None:
        raise Gone
    return queue


def _definition(vhost: VHost, queue: Queue) -> dict[str, Any]:
    return {} if queue.ruling is UNRULED else dict(plain(queue.ruling.definition))


def _type(vhost: VHost, queue: Queue) -> str:
    return QUORUM if queue.terms.is_quorum else CLASSIC


def _exclusive_tag(vhost: VHost, queue: Queue) -> str | None:
    only = queue.active_consumer  # beside an exclusive one there is no other
    return only.tag if only is not None and only.is_exclusive else None


def _active_tag(vhost: VHost, queue: Queue) -> str | None:
    active = queue.active_consumer if queue.terms.is_single_active else None
    return None if active is None else active.tag


def _owner(vhost: VHost, queue: Queue) -> dict[str, Any] | None:
    owner = queue.owner
    if not isinstance(owner, Connection):
        return None
    host, _, port = owner.name.partition(" ")[0].rpartition(":")
    return {"name": owner.name, "peer_host": host.strip("[]"), "peer_port": int(port) if port.isdigit() else 0}


def _ready_bytes(vhost: VHost, queue: Queue) -> int:
    return queue.store.ready_bytes if queue.store is not None else 0


def _ready_average(vhost: VHost, queue: Queue) -> int:
    return _ready_bytes(vhost, queue) // max(1, queue.ready_count)


def _unacknowledged_bytes(vhost: VHost, queue: Queue) -> int | None:
    """What is handed out is known by its place alone: its size is read where one queue is looked at."""
    return None if queue.unacknowledged_count else 0


def _bytes(vhost: VHost, queue: Queue) -> int | None:
    return None if queue.unacknowledged_count else _ready_bytes(vhost, queue)


def _persistent(vhost: VHost, queue: Queue) -> int | None:
    """RabbitMQ counts none in a transient queue; how many there are among others nobody counts."""
    return 0 if not queue.is_durable or not queue.ready_count + queue.unacknowledged_count else None


def _idle_ms(vhost: VHost, queue: Queue) -> int | None:
    since = queue.quiet_since
    return since if vhost.now - since >= IDLE_MS else None


def _idle_since(vhost: VHost, queue: Queue) -> str | None:
    since = _idle_ms(vhost, queue)
    return None if since is None else datetime.fromtimestamp(since / 1000, UTC).isoformat(timespec="milliseconds")


COLUMNS: Final[dict[str, Column]] = {
    "name": lambda vhost, queue: queue.name,
    "vhost": lambda vhost, queue: vhost.name,
    "type": _type,
    "durable": lambda vhost, queue: queue.is_durable,
    "auto_delete": lambda vhost, queue: queue.is_auto_delete,
    "exclusive": lambda vhost, queue: queue.owner is not None,
    "arguments": lambda vhost, queue: plain(queue.arguments or {}),
    "state": lambda vhost, queue: "paused" if queue.is_paused else "running",
    "consumers": lambda vhost, queue: queue.consumer_count,
    "idle_since": _idle_since,
    "internal": lambda vhost, queue: False,
    "messages": lambda vhost, queue: queue.ready_count + queue.unacknowledged_count,
    "messages_ready": lambda vhost, queue: queue.ready_count,
    "messages_unacknowledged": lambda vhost, queue: queue.unacknowledged_count,
    "messages_persistent": _persistent,
    "message_bytes": _bytes,
    "message_bytes_ready": _ready_bytes,
    "message_bytes_unacknowledged": _unacknowledged_bytes,
    "message_bytes_persistent": _persistent,
    # LavinMQ's names for the same
    "ready": lambda vhost, queue: queue.ready_count,
    "unacked": lambda vhost, queue: queue.unacknowledged_count,
    "total_bytes": _bytes,
    "ready_bytes": _ready_bytes,
    "ready_avg_bytes": _ready_average,
    "unacked_bytes": _unacknowledged_bytes,
    "unacked_avg_bytes": _unacknowledged_bytes,
    "policy": lambda vhost, queue: queue.ruling.policy,
    "operator_policy": lambda vhost, queue: queue.ruling.operator_policy,
    "effective_policy_definition": _definition,
    "exclusive_consumer_tag": _exclusive_tag,
    "single_active_consumer_tag": _active_tag,
    "owner_pid_details": _owner,
    "message_stats": lambda vhost, queue: message_stats(vhost.sampling, queue.tally),
}

NULLS: Final = frozenset({"policy", "operator_policy", "exclusive_consumer_tag", "single_active_consumer_tag"})

ORDERS: Final[dict[str, Order]] = {
    "idle_since": lambda vhost, queue, path: _idle_ms(vhost, queue),
    "arguments": lambda vhost, queue, path: inside(queue.arguments or {}, path),
    "effective_policy_definition": lambda vhost, queue, path: inside(queue.ruling.definition, path),
    "message_stats": lambda vhost, queue, path: statistic(vhost.sampling, queue.tally, path),
}

QUEUES: Final[Register] = Register(
    things=lambda vhost: vhost.queues(),
    find=_find,
    identity=lambda queue: (queue.name,),
    columns=COLUMNS,
    orders=ORDERS,
    nulls=NULLS,
    survey=survey,
)
