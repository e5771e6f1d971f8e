"""How much of everything there is and how often it happened, in all or in each virtual host."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ipc.messages.inventory import CountAll, CountConnections, Counted, Described, Item
from shards.inventory.clients import connections
from shards.inventory.column import within
from shards.model.statistics import VHOST_COUNTERS
from shards.model.vhost import VHost
from shards.model.vhosts import VHosts

_LOOK: Final = 64  # things looked at between two pauses

Numbers = Counter[str]


def count_all(vhosts: VHosts, request: CountAll) -> Iterator[Item | None]:
    """One `Described` of sums, or one for each vhost with its name; yields None where there may be a pause.

    `objects` are numbers of things and messages, `counted` by the counters' names with `rates` a second; `history`, of
    the shard as a whole, what they stood at every few seconds.
    """
    objects, counted, rates = Numbers(), Numbers(), Counter[str]()
    for vhost in within(vhosts, None, request.vhosts):
        there = Numbers()
        yield from _count(vhost, there)
        ours, often = _counted(vhost)
        if request.by_vhost:
            yield Described(vhost.name, (), {"name": vhost.name, "objects": there, "counted": ours, "rates": often})
        objects.update(there)
        counted.update(ours)
        rates.update(often)
    if not request.by_vhost:
        totals: dict[str, Any] = {"objects": objects, "counted": counted, "rates": rates}
        if request.with_history:
            totals["history"] = _history(vhosts)
        yield Described("", (), totals)


def count_connections(vhosts: VHosts, request: CountConnections) -> Iterator[Item | None]:
    """Without those that the broker has in the user's name: they have proved no password by any mechanism."""
    total = found = 0
    for vhost in within(vhosts, None, None):
        for connection in connections(vhost):
            total += 1
            found += connection.client.user == request.user and bool(connection.client.mechanism)
            if total % _LOOK == 0:
                yield None
    yield Counted(total, found)


def _counted(vhost: VHost) -> tuple[Mapping[str, int], Mapping[str, float]]:
    tally = vhost.tally
    if tally is None:
        return {}, {}
    return (
        dict(zip(VHOST_COUNTERS, tally.counts, strict=True)),
        dict(zip(VHOST_COUNTERS, vhost.sampling.rates(tally), strict=True)),
    )


def _history(vhosts: VHosts) -> list[dict[str, Any]]:
    return [
        {
            "at": sample.at,
            "messages_ready": sample.ready,
            "messages_unacknowledged": sample.unacknowledged,
            **dict(zip(VHOST_COUNTERS, sample.counts, strict=True)),
        }
        for sample in vhosts.sampling.samples
    ]


def _count(vhost: VHost, there: Numbers) -> Iterator[None]:
    for done, queue in enumerate(vhost.queues(), 1):
        there["queues"] += 1
        there["messages_ready"] += queue.ready_count
        there["messages_unacknowledged"] += queue.unacknowledged_count
        if done % _LOOK == 0:
            yield None
    there["messages"] = there["messages_ready"] + there["messages_unacknowledged"]
    for exchange in vhost.exchanges():
        there["exchanges"] += 1
        there["bindings"] += exchange.binding_count
    yield None
    for done, connection in enumerate(connections(vhost), 1):
        there["connections"] += 1
        there["channels"] += len(connection.channels)
        there["consumers"] += sum(len(channel.consumers) for channel in connection.channels.values())
        if done % _LOOK == 0:
            yield None
