"""What is told of a queue only when somebody looks at it alone, because it takes a while to find out."""

from collections.abc import Iterator
from typing import Any, Final

from ipc.limits import CONSUMERS_DETAILED_MAX
from ipc.messages.inventory import Document
from ipc.wire.amqp import amending
from shards.compaction.accounting import Account
from shards.inventory.clients import CONSUMERS
from shards.inventory.column import Gone
from shards.inventory.unacknowledged import measure
from shards.model.queues.queue import Queue
from shards.model.queues.terms import FIELDS, recall_terms
from shards.model.vhost import VHost
from shards.protocols.amqp.consuming import ChannelConsumer
from shards.store import record

_LOOK: Final = 16  # consumers described between two pauses


def survey(vhost: VHost, queue: Queue, document: Document) -> Iterator[None]:
    """Raises Gone when the queue is deleted meanwhile."""
    consumers: list[Document] = []
    for consumer in queue.consumers()[:CONSUMERS_DETAILED_MAX]:
        if isinstance(consumer, ChannelConsumer):
            consumers.append(CONSUMERS.document(vhost, consumer))
        if len(consumers) % _LOOK == 0:
            yield
    account = Account(top=0)
    yield from account.take(queue)
    unacknowledged_bytes = yield from measure(vhost, queue)
    if queue.is_deleted:
        raise Gone
    ready_bytes = queue.store.ready_bytes if queue.store is not None else 0
    document |= {
        "consumer_details": consumers,
        "memory": sum(account.by_kind.values()),
        "message_bytes": ready_bytes + unacknowledged_bytes,
        "total_bytes": ready_bytes + unacknowledged_bytes,
        "message_bytes_unacknowledged": unacknowledged_bytes,
        "unacked_bytes": unacknowledged_bytes,
        "unacked_avg_bytes": unacknowledged_bytes // max(1, queue.unacknowledged_count),
        "head_message_timestamp": _head_timestamp(queue),
        **_effective(vhost, queue, document.get("effective_policy_definition") or {}),
    }


def _head_timestamp(queue: Queue) -> int | None:
    """The property `timestamp` of the next message, if it has one and can be read."""
    try:
        span = queue.store.next_span() if queue.store is not None else None
    except OSError:
        return None  # whoever wants the message is told why
    if span is None:
        return None
    header = record.header(span.buffer, span.start)
    timestamp = amending.take_apart(header).get(amending.TIMESTAMP)
    return None if timestamp is None else int.from_bytes(timestamp, "big")


def _effective(vhost: VHost, queue: Queue, definition: dict[str, Any]) -> Document:
    """Which of its arguments, and of the settings of its policies, the queue follows."""
    own = recall_terms(queue.arguments or {})
    followed = {field for field in FIELDS.values() if getattr(own, field) == getattr(queue.terms, field)}
    settings = {key: FIELDS.get(f"x-{key}") for key in definition}
    return {
        "effective_arguments": [name for name in queue.arguments or () if FIELDS.get(name) in followed],
        "effective_policy_arguments": [
            key
            for key, field in settings.items()
            if field is not None and field not in followed and getattr(queue.terms, field) == definition[key]
        ],
    }
