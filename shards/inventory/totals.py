"""How much of everything there is, in all or in each virtual host."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from ipc.messages.inventory import CountAll, Described, Item
from shards.inventory.clients import connections
from shards.inventory.column import within
from shards.model.vhost import VHost
from shards.model.vhosts import VHosts

_LOOK = 64  # things looked at between two pauses


def count_all(vhosts: VHosts, request: CountAll) -> Iterator[Item | None]:
    """One `Described` of sums, or one for each vhost with its name; yields None where there may be a pause."""
    sums: Counter[str] = Counter()
    for vhost in within(vhosts, None, request.vhosts):
        counts: Counter[str] = Counter()
        yield from _count(vhost, counts)
        if request.by_vhost:
            yield Described(vhost.name, (), {"name": vhost.name, **counts})
        else:
            sums.update(counts)
    if not request.by_vhost:
        document: dict[str, Any] = dict(sums)
        yield Described("", (), document)


def _count(vhost: VHost, counts: Counter[str]) -> Iterator[None]:
    for done, queue in enumerate(vhost.queues(), 1):
        counts["queues"] += 1
        counts["messages_ready"] += queue.ready_count
        counts["messages_unacknowledged"] += queue.unacknowledged_count
        if done % _LOOK == 0:
            yield None
    counts["messages"] = counts["messages_ready"] + counts["messages_unacknowledged"]
    for exchange in vhost.exchanges():
        counts["exchanges"] += 1
        counts["bindings"] += exchange.binding_count
    yield None
    for done, connection in enumerate(connections(vhost), 1):
        counts["connections"] += 1
        counts["channels"] += len(connection.channels)
        counts["consumers"] += sum(len(channel.consumers) for channel in connection.channels.values())
        if done % _LOOK == 0:
            yield None
