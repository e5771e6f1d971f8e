"""What was counted, as families of metrics: RabbitMQ's aggregated ones, and this broker's of memory and compaction."""

import time
from collections.abc import Iterable, Iterator
from typing import Final

from msgspec import Struct
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric

from ipc.messages import control
from ipc.version import VERSION
from runtime.management.figures import Figures
from runtime.management.metrics.attempts import SUM, attempt_families

PROTOCOL: Final = {"protocol": "amqp091"}
COMPATIBLE_VERSION: Final = "3.13.0"


class Scrape(Struct, frozen=True):
    """Everything that one scrape tells about the broker as a whole."""

    node: str
    cluster: str
    started_at: float  # seconds since 1970
    figures: Figures
    status: control.Broker
    counters: control.Counters | None
    memory: list[control.ShardMemory | control.ProcessMemory]
    attempts: list[control.LoginAttempt]
    descriptors: int
    descriptors_max: int


# name, what it is, the counter it shows
_TOTALS: Final = (
    ("rabbitmq_connections_opened", "Total number of connections opened", "connection_created"),
    ("rabbitmq_connections_closed", "Total number of connections closed or terminated", "connection_closed"),
    ("rabbitmq_channels_opened", "Total number of channels opened", "channel_created"),
    ("rabbitmq_channels_closed", "Total number of channels closed", "channel_closed"),
    ("rabbitmq_queues_declared", "Total number of queues declared", "queue_declared"),
    ("rabbitmq_queues_created", "Total number of queues created", "queue_created"),
    ("rabbitmq_queues_deleted", "Total number of queues deleted", "queue_deleted"),
    ("rabbitmq_channel_messages_published", "Total number of messages published into an exchange", "publish"),
    ("rabbitmq_channel_messages_confirmed", "Total number of messages published and confirmed", "confirm"),
    (
        "rabbitmq_channel_messages_unroutable_returned",
        "Total number of messages published as mandatory and returned as unroutable",
        "return_unroutable",
    ),
    (
        "rabbitmq_channel_messages_unroutable_dropped",
        "Total number of messages published as non-mandatory and dropped as unroutable",
        "drop_unroutable",
    ),
    ("rabbitmq_channel_get_ack", "Total number of messages fetched with basic.get in manual mode", "get"),
    ("rabbitmq_channel_get", "Total number of messages fetched with basic.get in automatic mode", "get_no_ack"),
    ("rabbitmq_channel_get_empty", "Total number of times basic.get operations fetched no message", "get_empty"),
    (
        "rabbitmq_channel_messages_delivered_ack",
        "Total number of messages delivered to consumers in manual acknowledgement mode",
        "deliver",
    ),
    (
        "rabbitmq_channel_messages_delivered",
        "Total number of messages delivered to consumers in automatic acknowledgement mode",
        "deliver_no_ack",
    ),
    ("rabbitmq_channel_messages_redelivered", "Total number of messages redelivered to consumers", "redeliver"),
    ("rabbitmq_channel_messages_acked", "Total number of messages acknowledged by consumers", "ack"),
)

# The same by protocol, of which there is one.
_GLOBAL: Final = (
    ("rabbitmq_global_messages_received", "Total number of messages received from publishers", ("publish",)),
    ("rabbitmq_global_messages_confirmed", "Total number of messages confirmed to publishers", ("confirm",)),
    (
        "rabbitmq_global_messages_unroutable_returned",
        "Total number of messages that could not be routed and were returned",
        ("return_unroutable",),
    ),
    (
        "rabbitmq_global_messages_unroutable_dropped",
        "Total number of messages that could not be routed and were dropped",
        ("drop_unroutable",),
    ),
    (
        "rabbitmq_global_messages_delivered",
        "Total number of messages delivered to consumers",
        ("deliver", "deliver_no_ack", "get", "get_no_ack"),
    ),
    (
        "rabbitmq_global_messages_delivered_consume_manual_ack",
        "Total number of messages delivered to consumers using basic.consume with manual acknowledgment",
        ("deliver",),
    ),
    (
        "rabbitmq_global_messages_delivered_consume_auto_ack",
        "Total number of messages delivered to consumers using basic.consume with automatic acknowledgment",
        ("deliver_no_ack",),
    ),
    (
        "rabbitmq_global_messages_delivered_get_manual_ack",
        "Total number of messages delivered to consumers using basic.get with manual acknowledgment",
        ("get",),
    ),
    (
        "rabbitmq_global_messages_delivered_get_auto_ack",
        "Total number of messages delivered to consumers using basic.get with automatic acknowledgment",
        ("get_no_ack",),
    ),
    ("rabbitmq_global_messages_get_empty", "Total number of times basic.get fetched no message", ("get_empty",)),
    ("rabbitmq_global_messages_redelivered", "Total number of messages redelivered to consumers", ("redeliver",)),
    ("rabbitmq_global_messages_acknowledged", "Total number of message acknowledgements", ("ack",)),
)

_OBJECTS: Final = (
    ("rabbitmq_connections", "Connections currently open", "connections"),
    ("rabbitmq_channels", "Channels currently open", "channels"),
    ("rabbitmq_consumers", "Consumers currently connected", "consumers"),
    ("rabbitmq_channel_consumers", "Consumers on all channels", "consumers"),
    ("rabbitmq_queues", "Queues available", "queues"),
    ("rabbitmq_exchanges", "Exchanges available", "exchanges"),
    ("rabbitmq_bindings", "Bindings between exchanges and queues", "bindings"),
    ("rabbitmq_queue_messages_ready", "Messages ready to be delivered to consumers", "messages_ready"),
    (
        "rabbitmq_queue_messages_unacked",
        "Messages delivered to consumers but not yet acknowledged",
        "messages_unacknowledged",
    ),
    ("rabbitmq_queue_messages", "Sum of ready and unacknowledged messages", "messages"),
)


def broker_families(scrape: Scrape) -> Iterator[Metric]:
    """Everything about the broker as a whole."""
    for part in (_identity, _objects, _counters, _attempts, _resources, _memory, _compaction):
        yield from part(scrape)


def identity_families(node: str, cluster: str, endpoint: str) -> Iterator[Metric]:
    """What RabbitMQ's dashboards join everything else with, on `instance`: so no other metric has these labels."""
    build = {"rabbitmq_version": COMPATIBLE_VERSION, "product_name": "EbbMQ", "product_version": VERSION}
    yield InfoMetricFamily("rabbitmq_build", "Version of the broker", build)
    names = {"rabbitmq_node": node, "rabbitmq_cluster": cluster, "rabbitmq_endpoint": endpoint}
    yield InfoMetricFamily("rabbitmq_identity", "Node and cluster", names)


def _identity(scrape: Scrape) -> Iterator[Metric]:
    yield from identity_families(scrape.node, scrape.cluster, "aggregated")
    yield gauge("rabbitmq_erlang_uptime_seconds", "Node uptime", time.time() - scrape.started_at)


def _objects(scrape: Scrape) -> Iterator[Metric]:
    for name, what, key in _OBJECTS:
        yield gauge(name, what, scrape.figures.objects.get(key, 0))


def _counters(scrape: Scrape) -> Iterator[Metric]:
    counted = scrape.figures.counted
    for name, what, key in _TOTALS:
        yield counter(name, what, counted.get(key, 0))
    for name, what, keys in _GLOBAL:
        family = CounterMetricFamily(name, what, labels=list(PROTOCOL))
        family.add_metric(list(PROTOCOL.values()), sum(counted.get(key, 0) for key in keys))
        yield family
    routed = CounterMetricFamily(
        "rabbitmq_global_messages_routed",
        "Total number of messages that at least one queue took, each counted once",
        labels=list(PROTOCOL),
    )
    unroutable = counted.get("return_unroutable", 0) + counted.get("drop_unroutable", 0)
    routed.add_metric(list(PROTOCOL.values()), counted.get("publish", 0) - unroutable)
    yield routed
    consumers = GaugeMetricFamily("rabbitmq_global_consumers", "Current number of consumers", labels=list(PROTOCOL))
    consumers.add_metric(list(PROTOCOL.values()), scrape.figures.objects.get("consumers", 0))
    yield consumers


def _attempts(scrape: Scrape) -> Iterator[Metric]:
    return attempt_families(scrape.attempts, SUM, "rabbitmq_")


def _resources(scrape: Scrape) -> Iterator[Metric]:
    status = scrape.status
    yield gauge("rabbitmq_process_open_fds", "Open file descriptors", scrape.descriptors)
    yield gauge("rabbitmq_process_max_fds", "Open file descriptors limit", scrape.descriptors_max)
    yield gauge("rabbitmq_process_open_tcp_sockets", "Open TCP sockets", scrape.figures.objects.get("connections", 0))
    yield gauge("rabbitmq_process_max_tcp_sockets", "Open TCP sockets limit", scrape.descriptors_max)
    yield gauge("rabbitmq_process_resident_memory_bytes", "Memory used in bytes", status.memory_bytes)
    yield gauge("rabbitmq_resident_memory_limit_bytes", "Memory high watermark in bytes", status.memory_bytes_max or 0)
    yield gauge("rabbitmq_disk_space_available_bytes", "Disk space available in bytes", status.disk_free_bytes or 0)
    yield gauge(
        "rabbitmq_disk_space_available_limit_bytes", "Free disk space low watermark", status.disk_free_bytes_min
    )
    for name, resource, what in (
        ("rabbitmq_alarms_memory_used_watermark", "memory", "Is 1 if VM memory watermark alarm is in effect"),
        ("rabbitmq_alarms_free_disk_space_watermark", "disk", "Is 1 if free disk space alarm is in effect"),
    ):
        yield gauge(name, what, float(resource in status.alarms))


def _memory(scrape: Scrape) -> Iterator[Metric]:
    process = GaugeMetricFamily(
        "ebbmq_memory_process_bytes",
        "Memory of each process of the broker as the kernel counts it",
        labels=["role", "shard", "reading"],
    )
    used = GaugeMetricFamily(
        "ebbmq_memory_used_bytes", "What shards use memory for, by kind of collection", labels=["shard", "kind"]
    )
    for reply in scrape.memory:
        shard = str(reply.shard) if isinstance(reply, control.ShardMemory) else ""
        role = "shard" if isinstance(reply, control.ShardMemory) else reply.role
        for reading in ("rss", "pss", "private"):
            process.add_metric([role, shard, reading], getattr(reply.reading, reading))
        if isinstance(reply, control.ShardMemory):
            for kind, size_bytes in reply.by_kind.items():
                used.add_metric([shard, kind], size_bytes)
    yield from (process, used)


def _compaction(scrape: Scrape) -> Iterator[Metric]:
    counters = scrape.counters
    if counters is None:
        return
    passes = CounterMetricFamily(
        "ebbmq_compaction_passes", "Compaction passes by what caused them", labels=["trigger", "level"]
    )
    for done in counters.passes:
        passes.add_metric([done.trigger, done.level], done.count)
    freed = CounterMetricFamily("ebbmq_compaction_freed_bytes", "Bytes given back by kind", labels=["kind"])
    for kind, size_bytes in counters.freed_bytes_by_kind.items():
        freed.add_metric([kind], size_bytes)
    yield from (passes, freed)
    yield gauge(
        "ebbmq_compaction_slice_seconds_max", "Longest time a pass kept clients waiting", counters.slice_seconds_longest
    )
    yield counter("ebbmq_compaction_failures", "Steps of passes that failed", counters.failures)
    yield counter("ebbmq_compaction_unanswered", "Shards that did not report a pass in time", counters.unanswered)
    level = GaugeMetricFamily(
        "ebbmq_pressure_level", "Is 1 for the level that memory pressure has called for last", labels=["level"]
    )
    for name in control.LEVELS:
        level.add_metric([name], float(counters.pressure_level == name))
    averages = GaugeMetricFamily(
        "ebbmq_pressure_stalled_percent",
        "Share of time in which tasks waited for memory (PSI)",
        labels=["tasks", "seconds"],
    )
    stalled = CounterMetricFamily(
        "ebbmq_pressure_stalled_seconds", "Time in which tasks waited for memory (PSI)", labels=["tasks"]
    )
    for tasks, stall in (("some", counters.some), ("full", counters.full)):
        if stall is not None:
            for seconds, share in (("10", stall.avg10), ("60", stall.avg60), ("300", stall.avg300)):
                averages.add_metric([tasks, seconds], share)
            stalled.add_metric([tasks], stall.total / 1e6)
    yield from (level, averages, stalled)


def gauge(name: str, what: str, value: float) -> Metric:
    return GaugeMetricFamily(name, what, value=value)


def counter(name: str, what: str, value: float) -> Metric:
    return CounterMetricFamily(name, what, value=value)


class Collected:
    """A collector of what is at hand."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        return self._families
