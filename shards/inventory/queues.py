"""Queues, as they are listed."""

from typing import Any, Final

from ipc.messages.inventory import Identity
from shards.inventory.column import Column, Gone, Register
from shards.inventory.plain import plain
from shards.inventory.stats import message_stats
from shards.model.policies import CLASSIC, QUORUM, UNRULED, Ruling
from shards.model.queues.queue import Queue
from shards.model.vhost import VHost
from shards.protocols.amqp.connection import Connection


def _find(vhost: VHost, identity: Identity) -> Queue:
    queue = vhost.find_queue(identity[0])
    if queue is None:
        raise Gone
    return queue


def _ruling(vhost: VHost, queue: Queue) -> Ruling:
    return vhost.rulebook.ruling(queue.name, _type(vhost, queue))


def _definition(vhost: VHost, queue: Queue) -> dict[str, Any] | None:
    ruling = _ruling(vhost, queue)
    return None if ruling is UNRULED else plain(ruling.definition)


def _type(vhost: VHost, queue: Queue) -> str:
    return QUORUM if queue.terms.is_quorum else CLASSIC


def _exclusive_tag(vhost: VHost, queue: Queue) -> str | None:
    return next((consumer.tag for consumer in queue.consumers() if consumer.is_exclusive), None)


def _active_tag(vhost: VHost, queue: Queue) -> str | None:
    active = queue.active_consumer if queue.terms.is_single_active else None
    return None if active is None else active.tag


def _owner(vhost: VHost, queue: Queue) -> dict[str, Any] | None:
    owner = queue.owner
    if not isinstance(owner, Connection):
        return None
    host, _, port = owner.name.partition(" ")[0].rpartition(":")
    return {"name": owner.name, "peer_host": host.strip("[]"), "peer_port": int(port) if port.isdigit() else 0}


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
    "messages": lambda vhost, queue: queue.ready_count + queue.unacknowledged_count,
    "messages_ready": lambda vhost, queue: queue.ready_count,
    "messages_unacknowledged": lambda vhost, queue: queue.unacknowledged_count,
    "message_bytes_ready": lambda vhost, queue: queue.store.ready_bytes if queue.store is not None else 0,
    "policy": lambda vhost, queue: _ruling(vhost, queue).policy,
    "operator_policy": lambda vhost, queue: _ruling(vhost, queue).operator_policy,
    "effective_policy_definition": _definition,
    "exclusive_consumer_tag": _exclusive_tag,
    "single_active_consumer_tag": _active_tag,
    "owner_pid_details": _owner,
    "message_stats": lambda vhost, queue: message_stats(vhost.sampling, queue.tally),
}

QUEUES: Final[Register] = Register(
    things=lambda vhost: vhost.queues(),
    find=_find,
    identity=lambda queue: (queue.name,),
    columns=COLUMNS,
)
