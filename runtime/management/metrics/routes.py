"""`/metrics`, `/metrics/per-object`, `/metrics/detailed`: on the API's port for who may monitor, and on their own."""

import os
from collections.abc import Iterator, Sequence
from typing import Any, Final

import trio
from litestar import Request, Response, get
from litestar.datastructures import State
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder

from ipc.limits import METRICS_OBJECTS_MAX
from ipc.messages import control
from ipc.messages.inventory import CountAll, Document, Kind, Rank
from runtime.management.broker import Broker
from runtime.management.changing import directory_of
from runtime.management.describing import query_text, query_texts, tells
from runtime.management.errors import BadRequest
from runtime.management.figures import Figures
from runtime.management.metrics.attempts import ATTEMPT_FAMILIES, attempt_families
from runtime.management.metrics.detailed import FAMILIES, PER_OBJECT, families_of, without_repetition
from runtime.management.metrics.families import Collected, Scrape, broker_families, identity_families
from runtime.management.parameters import cluster_name_of
from runtime.management.resources.attempts import attempts_of
from runtime.management.resources.nodes import Processes, descriptors_max, status_of

_PREFIX: Final = "rabbitmq_"
_DETAILED: Final = "rabbitmq_detailed_"
_PREFIXED: Final = query_text(
    "prefix", "What names begin with, instead of `rabbitmq`.", pattern=r"^[A-Za-z_][A-Za-z_0-9]{0,19}$"
)
_CHOSEN: Final = (query_texts("family"), query_texts("vhost"))


@get(
    "/metrics",
    summary="The broker as a whole",
    operation_class=tells("text/plain", "application/openmetrics-text", query=(_PREFIXED,)),
)
async def metrics(request: Request[Any, Any, Any], state: State) -> Response[bytes]:
    return _exposed(request, broker_families(await _scrape(state)))


@get(
    "/metrics/per-object",
    summary="Every single thing",
    operation_class=tells("text/plain", "application/openmetrics-text", query=(_PREFIXED,)),
)
async def per_object(request: Request[Any, Any, Any], state: State) -> Response[bytes]:
    found = await _detailed(state.broker, PER_OBJECT, None, _PREFIX)
    return _exposed(request, [*_identity(state, "per-object"), *found])


@get(
    "/metrics/detailed",
    summary="Every single thing of the families asked for",
    operation_class=tells("text/plain", "application/openmetrics-text", query=(*_CHOSEN, _PREFIXED)),
)
async def detailed(request: Request[Any, Any, Any], state: State) -> Response[bytes]:
    """`family` and `vhost` may be given more than once; an unknown family tells nothing, as in RabbitMQ."""
    families = request.query_params.getall("family", [])
    vhosts = request.query_params.getall("vhost", [])
    known = [name for name in families if name in FAMILIES or name in ATTEMPT_FAMILIES]
    found = await _detailed(state.broker, known, frozenset(vhosts) if vhosts else None, _DETAILED)
    return _exposed(request, [*_identity(state, "detailed"), *found])


def _identity(state: State, endpoint: str) -> Iterator[Metric]:
    broker: Broker = state.broker
    return identity_families(broker.node, cluster_name_of(directory_of(state), broker), endpoint)


async def _detailed(broker: Broker, names: Sequence[str], vhosts: frozenset[str] | None, prefix: str) -> list[Metric]:
    documents: dict[Kind, Sequence[Document]] = {}
    found: list[Metric] = []
    for name in names:
        if name in ATTEMPT_FAMILIES:
            attempts = ATTEMPT_FAMILIES[name]
            rows = await attempts_of(broker, by_source=attempts.by_source)
            found += attempt_families(rows, attempts, prefix)
            continue
        family = FAMILIES[name]
        if family.kind not in documents:
            listing = await broker.listing(Rank(family.kind, vhosts=vhosts), count=METRICS_OBJECTS_MAX)
            documents[family.kind] = listing.documents
        found += families_of(documents[family.kind], family, prefix)
    return without_repetition(found)


async def _scrape(state: State) -> Scrape:
    broker: Broker = state.broker
    status, shards = await status_of(broker)
    pids = [status.pid, os.getpid(), *(shard.pid for shard in shards if shard.pid is not None)]
    processes = await trio.to_thread.run_sync(Processes, pids)
    replies = [*await broker.control(control.Memory(top=0)), *await broker.control(control.Metrics())]
    return Scrape(
        node=broker.node,
        cluster=cluster_name_of(directory_of(state), broker),
        started_at=broker.begin.started_at,
        figures=Figures.of(await broker.totals(CountAll())),
        status=status,
        counters=next((reply for reply in replies if isinstance(reply, control.Counters)), None),
        memory=[reply for reply in replies if isinstance(reply, (control.ShardMemory, control.ProcessMemory))],
        attempts=await attempts_of(broker, by_source=False),
        descriptors=processes.descriptors,
        descriptors_max=descriptors_max(status.pid),
    )


def _exposed(request: Request[Any, Any, Any], families: Any) -> Response[bytes]:
    """As text or OpenMetrics, whichever is asked for; other prefixes by `prefix`, as LavinMQ has it."""
    prefix = request.query_params.get("prefix")
    if prefix is not None and not (prefix.isascii() and prefix.isidentifier() and len(prefix) <= 20):
        raise BadRequest("prefix must be a name of at most 20 letters, digits and underscores")
    registry = CollectorRegistry()
    found = list(families)
    if prefix is not None:
        for family in found:
            family.name = _renamed(family.name, prefix)
            family.samples = [sample._replace(name=_renamed(sample.name, prefix)) for sample in family.samples]
    registry.register(Collected(found))
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(registry), media_type=content_type)


def _renamed(name: str, prefix: str) -> str:
    return f"{prefix}_{name.removeprefix(_PREFIX)}" if name.startswith(_PREFIX) else name


METRICS: Final[list[Any]] = [metrics, per_object, detailed]
