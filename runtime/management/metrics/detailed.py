"""Metrics of single things, by RabbitMQ's families: asked for by name, because there may be very many."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from ipc.messages.inventory import Document, Kind

Value = Callable[[Document], float]


class Column(NamedTuple):
    """One metric of a family."""

    name: str
    what: str
    is_counter: bool
    value: Value


class Family(NamedTuple):
    """Metrics of all things of one kind, told apart by `labels`."""

    kind: Kind
    labels: Mapping[str, str]  # the label, and the path in the document to what stands in it
    columns: Sequence[Column]


def _field(path: str) -> Value:
    def value(document: Document) -> float:
        found = find(document, path)
        return float(found) if isinstance(found, (int, float)) else 0.0

    return value


def find(document: Document, path: str) -> Any:
    """What stands in a document at this dotted path; None where nothing does."""
    found: Any = document
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _gauge(name: str, what: str, path: str) -> Column:
    return Column(name, what, is_counter=False, value=_field(path))


def _counter(name: str, what: str, path: str) -> Column:
    return Column(name, what, is_counter=True, value=_field(path))


_QUEUE: Final = {"vhost": "vhost", "queue": "name"}
_CHANNEL: Final = {"channel": "name", "vhost": "vhost"}

FAMILIES: Final[dict[str, Family]] = {
    "queue_coarse_metrics": Family(
        "queue",
        _QUEUE,
        (
            _gauge("queue_messages_ready", "Messages ready to be delivered to consumers", "messages_ready"),
            _gauge("queue_messages_unacked", "Messages delivered but not yet acknowledged", "messages_unacknowledged"),
            _gauge("queue_messages", "Sum of ready and unacknowledged messages", "messages"),
        ),
    ),
    "queue_consumer_count": Family("queue", _QUEUE, (_gauge("queue_consumers", "Consumers on a queue", "consumers"),)),
    "queue_metrics": Family(
        "queue",
        _QUEUE,
        (
            _gauge("queue_consumers", "Consumers on a queue", "consumers"),
            _gauge("queue_messages_ready_bytes", "Size in bytes of ready messages", "message_bytes_ready"),
            _counter("queue_messages_published", "Messages put into a queue", "message_stats.publish"),
            _counter("queue_messages_acked", "Messages acknowledged", "message_stats.ack"),
            _counter("queue_messages_delivered", "Messages handed out", "message_stats.deliver_get"),
            _counter("queue_messages_redelivered", "Messages handed out again", "message_stats.redeliver"),
        ),
    ),
    "exchange_metrics": Family(
        "exchange",
        {"vhost": "vhost", "exchange": "name"},
        (
            _counter("exchange_messages_published_in", "Messages that came", "message_stats.publish_in"),
            _counter("exchange_messages_published_out", "Copies that went on", "message_stats.publish_out"),
        ),
    ),
    "connection_coarse_metrics": Family(
        "connection",
        {"connection": "name", "vhost": "vhost"},
        (
            _counter("connection_incoming_bytes", "Bytes received on a connection", "recv_oct"),
            _counter("connection_outgoing_bytes", "Bytes sent on a connection", "send_oct"),
            _gauge("connection_channels", "Channels on a connection", "channels"),
        ),
    ),
    "connection_metrics": Family(
        "connection",
        {"connection": "name", "vhost": "vhost"},
        (
            _counter("connection_incoming_packets", "Reads from a connection", "recv_cnt"),
            _counter("connection_outgoing_packets", "Writes to a connection", "send_cnt"),
            _gauge("connection_pending_packets", "Bytes waiting to be sent on a connection", "send_pend"),
            _gauge("connection_channels", "Channels on a connection", "channels"),
        ),
    ),
    "channel_metrics": Family(
        "channel",
        _CHANNEL,
        (
            _gauge("channel_consumers", "Consumers on a channel", "consumer_count"),
            _gauge("channel_messages_unacked", "Delivered but not yet acknowledged", "messages_unacknowledged"),
            _gauge("channel_messages_unconfirmed", "Published but not yet confirmed", "messages_unconfirmed"),
            _gauge("channel_messages_uncommitted", "Received in a transaction", "messages_uncommitted"),
            _gauge("channel_acks_uncommitted", "Acknowledged in a transaction", "acks_uncommitted"),
            _gauge("consumer_prefetch", "Limit of unacknowledged messages for each consumer", "prefetch_count"),
            _gauge("channel_prefetch", "Total limit of unacknowledged messages", "global_prefetch_count"),
        ),
    ),
    "channel_exchange_metrics": Family(
        "channel",
        _CHANNEL,
        (
            _counter("channel_messages_published", "Published into exchanges", "message_stats.publish"),
            _counter("channel_messages_confirmed", "Published and confirmed", "message_stats.confirm"),
            _counter(
                "channel_messages_unroutable_returned", "Returned as unroutable", "message_stats.return_unroutable"
            ),
            _counter("channel_messages_unroutable_dropped", "Dropped as unroutable", "message_stats.drop_unroutable"),
        ),
    ),
    "channel_queue_metrics": Family(
        "channel",
        _CHANNEL,
        (
            _counter("channel_get_ack", "Fetched with basic.get in manual mode", "message_stats.get"),
            _counter("channel_get", "Fetched with basic.get in automatic mode", "message_stats.get_no_ack"),
            _counter("channel_messages_delivered_ack", "Delivered in manual mode", "message_stats.deliver"),
            _counter("channel_messages_delivered", "Delivered in automatic mode", "message_stats.deliver_no_ack"),
            _counter("channel_messages_redelivered", "Delivered again", "message_stats.redeliver"),
            _counter("channel_messages_acked", "Acknowledged", "message_stats.ack"),
        ),
    ),
}

PER_OBJECT: Final = (
    "auth_attempt_metrics",
    "auth_attempt_detailed_metrics",
    "queue_coarse_metrics",
    "queue_metrics",
    "exchange_metrics",
    "connection_coarse_metrics",
    "channel_metrics",
    "channel_exchange_metrics",
    "channel_queue_metrics",
)


def families_of(documents: Sequence[Document], family: Family, prefix: str) -> Iterator[Metric]:
    """A metric for each column, with a sample for each thing."""
    for column in family.columns:
        make = CounterMetricFamily if column.is_counter else GaugeMetricFamily
        metric = make(f"{prefix}{column.name}", column.what, labels=list(family.labels))
        for document in documents:
            metric.add_metric(
                [str(find(document, path) or "") for path in family.labels.values()], column.value(document)
            )
        yield metric


def without_repetition(families: Iterable[Metric]) -> list[Metric]:
    """The first of each name: some stand in several of RabbitMQ's families."""
    found: dict[str, Metric] = {}
    for family in families:
        found.setdefault(family.name, family)
    return list(found.values())
